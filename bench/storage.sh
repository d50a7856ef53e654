#!/bin/bash
# Pull, save, load, rmi, first run and reading: hoy with both storage drivers beside podman and docker, interleaved.
# usage: bench/storage.sh BUILD_DIR [ROUNDS]      needs root, docker-registry, skopeo, mmdebstrap (once, for the images)
# HOY_BENCH_DIR keeps the images between runs. dockerd runs with --bridge=none --iptables=false: no network is touched.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec unshare -m /usr/bin/python3 "$here/storage.py" "$(cd "$1" && pwd)" "${2:-5}"
