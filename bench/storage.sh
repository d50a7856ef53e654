#!/bin/bash
# Pull, save, load, rmi, first run and reading: hoy with both storage drivers beside podman and docker, interleaved.
# usage: bench/storage.sh BUILD_DIR [ROUNDS]      needs root, docker-registry, skopeo, mmdebstrap (once, for the images)
# HOY_BENCH_DIR keeps the images between runs. HOY_BENCH_EXT4=16: the stores are on an ext4 file system of so many GB that is made for it
# (a loop device with direct I/O), as mkfs.ext4 and mount make it by default: what is measured then does not depend on how this
# machine's disk is mounted (discard, no journal …). dockerd runs with --bridge=none --iptables=false: no network is touched.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec unshare -m /usr/bin/python3 "$here/storage.py" "$(cd "$1" && pwd)" "${2:-5}"
