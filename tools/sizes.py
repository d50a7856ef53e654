#!/usr/bin/env python3
"""Keeps files and functions small: 800 lines a file, 100 a function unless the line above says /* long: why */."""
import pathlib
import re
import sys

FILE_MAX, FUNCTION_MAX = 800, 100


def functions(lines):
    """First and last line of each function body: '{' and '}' alone in column 0."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            yield start, number
            start = None


def main():
    bad = []
    for path in sorted(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").joinpath("src").rglob("*.[ch]")):
        lines = path.read_text().splitlines()
        if len(lines) > FILE_MAX:
            bad.append(f"{path}: {len(lines)} lines, at most {FILE_MAX}: two modules?")
        for first, last in functions(lines):
            head = " ".join(lines[max(0, first - 8):first])
            if last - first > FUNCTION_MAX and not re.search(r"/\* long: ", head):
                bad.append(f"{path}:{first}: function of {last - first} lines, at most {FUNCTION_MAX}")
    for line in bad:
        print(line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
