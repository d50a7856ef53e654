#!/bin/bash
# Runs a suite as run.sh does, on control groups v2: in the user-mode-linux guest of tests/v2 (15 minutes at most: give it
# the tests in two or three parts). usage: tests/suites/guest.sh SUITE_DIR [TEST ...]; RUNTIME as for run.sh
set -u
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-}" != --inside ]; then
	suite=$(cd "${1:?usage: guest.sh SUITE_DIR [TEST ...]}" && pwd)
	shift
	runtime=$(readlink -f "${RUNTIME:-$here/../../build/src/main/hoy-runtime}")
	cd "$here" || exit 1
	exec python3 "$here/../v2/guest.py" -c "exec bash '$here/guest.sh' --inside '$suite' '$runtime' $*"
fi
suite=$2 runtime=$3
shift 3
# What lies in /tmp is about to be covered.
mount -t tmpfs -o size=600m tmpfs /media && mkdir /media/suite && cp "$runtime" /media/hoy-runtime &&
	cp -r "$here" /media/suites && cp -r "$suite/tests" /media/suite/ || exit 1
if [ -d "$suite/validation" ]; then
	cp -r "$suite/validation" "$suite/runtimetest" "$suite"/rootfs-* /media/suite/
fi
mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /run && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1
sed 's/\([a-z0-9_]*\) */+\1 /g; s/+ *$//' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
ip link set lo up 2>/dev/null
busybox insmod "$(find /usr/lib/uml/modules -name overlay.ko | head -1)"
mkdir -p /tmp/logs
RUNTIME=/media/hoy-runtime LOGS=/tmp/logs TEST_TIMEOUT=${TEST_TIMEOUT:-200} bash /media/suites/run.sh /media/suite "$@"
grep -h '^# \|hoy-runtime' /tmp/logs/*.err | grep -v 'Command failed\|Working dir\|Container ID\|Config file\|Note:\|Return code' | sort |
	uniq -c | sort -rn | head -${LINES_MAX:-60}
