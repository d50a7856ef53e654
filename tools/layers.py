#!/usr/bin/env python3
"""Checks layers.txt: who may include whom, which folder may call which libc function, and what the child may not link.

usage: tools/layers.py [SOURCE_DIR [BUILD_DIR]]     without BUILD_DIR only includes are checked
"""
import pathlib
import re
import subprocess
import sys


def read_rules(path):
    may, only, child = {}, {}, {}
    for line in path.read_text().splitlines():
        line = line.split("#", 1)[0].strip()
        if line.startswith("!!"):
            words = line[2:].split()
            child[words[0]] = set(words[1:])
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


def check_symbols(build, only, child):
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
        for name in sorted(used & child.get(f"{folder}/{module}", set())):
            bad.append(f"src/{folder}/{module}.c: references {name}, forbidden between clone3 and execve")
    return bad


def main():
    top = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    may, only, child = read_rules(top / "layers.txt")
    bad = check_includes(top / "src", may)
    if len(sys.argv) > 2:
        bad += check_symbols(pathlib.Path(sys.argv[2]), only, child)
    for line in bad:
        print(line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
