#!/bin/bash
# `run` of a docker-like bundle by hoy-runtime and the runtimes that are installed, interleaved; a markdown table, no judgement.
# usage: bench/runtime.sh BUILD_DIR [ROUNDS]     needs root, busybox-static, strace, podman's seccomp.json; best on a quiet machine
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec unshare -m /usr/bin/python3 "$here/runtime.py" "$(cd "$1" && pwd)" "${2:-40}"
