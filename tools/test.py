#!/usr/bin/env python3
"""Runs the tests and adds them up: unit tests of every folder, whole-program tests (pytest), cgroup v2 in a guest.

usage: tools/test.py BUILD_DIR [unit|it|v2]      without a part: all of them
The last line is "N passed, N failed, N skipped"; each skip names what is missing.
"""
import os
import pathlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

TOP = pathlib.Path(__file__).resolve().parents[1]
LAST_LINE = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.M)
total = [0, 0, 0]


def add(passed, failed, skipped):
    """Adds to the sums."""
    for i, n in enumerate((passed, failed, skipped)):
        total[i] += n


def run_program(name, cmd, timeout, **more):
    """Runs a test program that ends with a count line; anything else is one failure."""
    start = time.monotonic()
    try:
        proc = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=timeout, check=False, **more)
        text, code = proc.stdout, proc.returncode
    except subprocess.TimeoutExpired as e:
        text, code = (e.stdout or b"").decode(errors="replace"), -1
    counts = LAST_LINE.findall(text)
    numbers = [int(n) for n in counts[-1]] if counts else [0, 1, 0]
    if code != 0 and numbers[1] == 0:
        numbers[1] = 1
    add(*numbers)
    skips = set(re.findall(r"^skipped: (.*)$", text, re.M))
    print(f"{name}: {numbers[0]} passed, {numbers[1]} failed, {numbers[2]} skipped"
          f" ({time.monotonic() - start:.1f} s)" + "".join(f"\n  skipped: {s}" for s in sorted(skips)), flush=True)
    if numbers[1]:
        print("\n".join("  | " + line for line in text.splitlines()[-60:]), flush=True)


def unit(build):
    """Unit, golden and contract tests: one program a folder; then the layering and the sizes."""
    names = subprocess.run(["ninja", "-C", build, "-t", "targets", "all"], capture_output=True, text=True,
                           check=True).stdout
    programs = sorted(set(re.findall(r"^(test_[a-z]+):", names, re.M)))
    subprocess.run(["ninja", "-C", build, *programs], check=True, stdout=subprocess.DEVNULL)
    for p in programs:
        run_program(p, [str(pathlib.Path(build, p))], 3600, env=dict(os.environ, T_SOURCE=str(TOP)))
    for name, cmd in (("layers", [sys.executable, "tools/layers.py", ".", build]),
                      ("sizes", [sys.executable, "tools/sizes.py", "."])):
        bad = subprocess.run(cmd, cwd=TOP, capture_output=True, text=True, check=False)
        add(bad.returncode == 0, bad.returncode != 0, 0)
        print(f"{name}: {'clean' if bad.returncode == 0 else bad.stdout + bad.stderr}", flush=True)


def whole_program(build):
    """pytest over tests/it, counted from its JUnit file."""
    report = pathlib.Path(build, "it.xml").resolve()
    report.unlink(missing_ok=True)
    pytest = ["/usr/bin/python3", "-m", "pytest", "-q", "-x" if os.environ.get("IT_STOP") else "-q", "-p",
              "no:cacheprovider", f"--junit-xml={report}", "-rs", "tests/it"]
    code = subprocess.run(pytest, cwd=TOP, check=False, timeout=7200, stdin=subprocess.DEVNULL,
                          env=dict(os.environ, HOY_BUILD=str(pathlib.Path(build).resolve()),
                                   PYTHONDONTWRITEBYTECODE="1")).returncode
    if not report.exists():
        add(0, 1, 0)
        return
    suite = ElementTree.parse(report).getroot().find("testsuite")
    tests, failed, errors, skipped = (int(suite.get(k)) for k in ("tests", "failures", "errors", "skipped"))
    add(tests - failed - errors - skipped, failed + errors, skipped)
    if code not in (0, 1):
        add(0, 1, 0)


def v2(build):
    """The cgroup-dependent part again on a real cgroup v2, in a user-mode-linux guest."""
    run_program("cgroup v2 guest", [str(TOP / "tests/v2/run.sh"), build], 3600)


def main():
    build = sys.argv[1]
    parts = {"unit": unit, "it": whole_program, "v2": v2}
    for name in sys.argv[2:] or parts:
        parts[name](build)
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    os.chdir(TOP)
    sys.exit(main())
