#!/usr/bin/env python3
"""Checks layers.txt: who may include whom, which folder may call which libc function, and what the child may not link.

usage: tools/layers.py [SOURCE_DIR [BUILD_DIR]]     without BUILD_DIR only includes are checked
"""
import pathlib
import re
import subprocess
import sys


def read_rules(path):
    may, only, child = {}, {}, []
    for line in path.read_text().splitlines():
        line = line.split("#", 1)[0].strip()
        if line.startswith("!!"):
            roots, names = line[2:].split(":")
            child.append((roots.split(), set(names.split())))
        elif line.startswith("!"):
            words = line[1:].split()
            for name in words[1:]:
                only[name] = words[0]
        elif line:
            folder, uses = line.split(":")
            may[folder.strip()] = set(uses.split())
    return may, only, child


def check_includes(src, may):
    bad = []
    for path in sorted(src.rglob("*.[ch]")):
        folder = path.relative_to(src).parts[0]
        if folder not in may:
            bad.append(f"{path}: folder {folder} is not in layers.txt")
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not match or "/" not in match.group(1):
                continue
            used = match.group(1).split("/")[0]
            if used == "harness" and path.name.endswith(("_test.c", "_test.h")):
                continue
            if used not in may:
                bad.append(f"{path}:{number}: {match.group(1)}: unknown folder")
            elif used != folder and used not in may[folder]:
                bad.append(f"{path}:{number}: {folder} may not use {used}")
    return bad


def symbols(obj):
    out = subprocess.run(["nm", "-u", str(obj)], capture_output=True, text=True, check=True).stdout
    names = {re.sub(r"@.*", "", word) for word in out.split() if word != "U"}
    return {re.sub(r"^__(.*)_chk$", r"\1", n) for n in names} | names


def check_symbols(build, only):
    bad = []
    for obj in sorted(build.glob("libhoy_*.a.p/*.o")) + sorted(build.glob("src/main/**/*.o")):
        match = re.match(r"src_([a-z]+)_(.*)\.c\.o$", obj.name)
        if not match:
            continue
        folder, module = match.groups()
        used = symbols(obj)
        for name in sorted(used & set(only)):
            if only[name] != folder:
                who = "nobody may" if only[name] == "-" else f"only {only[name]} may"
                bad.append(f"src/{folder}/{module}.c: calls {name}(), which {who}")
    return bad


def call_graph(build, folders):
    """What each function of these folders calls or takes the address of: {(object, function): names}."""
    calls = {}
    for obj in sorted(build.glob("libhoy_*.a.p/*.o")):
        match = re.match(r"src_([a-z]+)_", obj.name)
        if not match or match.group(1) not in folders:
            continue
        out = subprocess.run(["objdump", "-dr", "--no-show-raw-insn", str(obj)], capture_output=True, text=True, check=True).stdout
        here = None
        for line in out.splitlines():
            if match := re.match(r"[0-9a-f]+ <([^>]+)>:$", line):
                here = calls.setdefault((obj.name, match.group(1)), {match.group(1) + ".cold"})
            elif here is not None:
                match = re.search(r"\bR_[A-Z0-9_]+\s+([A-Za-z_][\w.]*)", line) or \
                    re.search(r"\t(?:call|j\w+|lea|bl?|adr)\b.*<([A-Za-z_][\w.]*)>", line)
                if match:
                    here.add(match.group(1))
    return calls


def reached(calls, roots):
    """Every function that can run below the roots, with who calls it; a name of the same file goes before others'."""
    homes = {}
    for obj, name in calls:
        homes.setdefault(name, []).append((obj, name))
    found, todo = {}, [(home, None) for r in roots for home in homes.get(r, [])]
    while todo:
        function, caller = todo.pop()
        if function in found:
            continue
        found[function] = caller
        for name in calls[function]:
            own = [h for h in homes.get(name, []) if h[0] == function[0]]
            todo += [(h, function) for h in own or homes.get(name, [])]
    return found


def check_child(build, may, rules):
    """No function between clone3 and execve may get to the forbidden ones, by whatever way."""
    bad = []
    calls = call_graph(build, may["runtime"] | {"runtime"}) if rules else {}
    for roots, names in rules:
        missing = set(roots) - {name for _, name in calls}
        bad += [f"layers.txt: there is no function {r}" for r in sorted(missing)]
        found = reached(calls, roots)
        for function in found:
            for name in sorted({re.sub(r"^__(.*)_chk$", r"\1", n) for n in calls[function]} & names):
                way, at = [], function
                while at:
                    way.append(at[1])
                    at = found[at]
                bad.append(f"{name}, forbidden between clone3 and execve, is called: {' > '.join(reversed(way))} > {name}")
    return bad


def main():
    top = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    may, only, child = read_rules(top / "layers.txt")
    bad = check_includes(top / "src", may)
    if len(sys.argv) > 2:
        build = pathlib.Path(sys.argv[2])
        bad += check_symbols(build, only) + check_child(build, may, child)
    for line in bad:
        print(line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
