#!/bin/bash
# Reading files of a container with cold caches: hoy's two storage drivers in turn, on a file system of their own that is unmounted
# before each reading, so that nothing of it is in memory and nobody else's caches are touched.
# usage: bench/reading.sh BUILD_DIR [ROUNDS]      needs root, docker-registry, skopeo, a loop device, 9 GB; HOY_BENCH_DIR as bench/storage.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec unshare -m /usr/bin/python3 "$here/reading.py" "$(cd "$1" && pwd)" "${2:-3}"
