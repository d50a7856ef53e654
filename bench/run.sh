#!/bin/bash
# Interleaved comparison with the peers that are installed; prints ratios, judges nothing.
# usage: bench/run.sh BUILD_DIR [ROUNDS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec unshare -m /usr/bin/python3 "$here/bench.py" "$(cd "$1" && pwd)" "${2:-15}"
