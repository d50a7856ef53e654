#!/bin/sh
# The cgroup-dependent part of the tests on a real cgroup v2 (and an older kernel), in a user-mode-linux guest.
# usage: tests/v2/run.sh BUILD_DIR
set -u
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v linux.uml >/dev/null; then
	echo "skipped: cgroup v2 guest: needs user-mode-linux"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
fi
exec python3 "$here/guest.py" "$here/inside.sh" "$(cd "$1" && pwd)"
