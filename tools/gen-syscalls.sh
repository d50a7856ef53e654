#!/bin/sh
# Prints the x86-64 system calls of this machine's kernel headers as C table rows, sorted by name: { "read", 0 },
set -eu
echo '#include <asm/unistd_64.h>' | ${CC:-gcc} -E -dM - | sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$/\1 \2/p' |
	LC_ALL=C sort | while read -r name number; do echo "{ \"$name\", $number },"; done
