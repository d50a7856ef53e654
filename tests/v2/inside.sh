#!/bin/sh
# Runs in the guest: the runtime's unit tests, then hoy itself, on cgroup v2. Ends with the count line.
set -u
build=$1
passed=0 failed=0 skipped=0
# The checkout may lie in /tmp, which is about to be covered.
mount --bind "$PWD" /media && mount --bind "$build" /mnt && cd /media && build=/mnt || exit 1
mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /run && mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up 2>/dev/null
for m in overlay loop erofs; do # loop may be in the kernel already
	busybox insmod "$(find /usr/lib/uml/modules -name $m.ko | head -1)" 2>/dev/null
done

count() { # the last count line of a program's output, added to the sums
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$1" | tail -1)
	if [ -z "$line" ]; then
		failed=$((failed + 1))
		return
	fi
	# shellcheck disable=SC2046
	set -- $(echo "$line" | tr -c '0-9' ' ')
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}
check() { # check NAME COMMAND…: passes when the command succeeds
	name=$1
	shift
	if "$@" >/tmp/check.log 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL $name: $*"
		cat /tmp/check.log
	fi
}
is() { # is WANT COMMAND…: the output equals WANT
	want=$1
	shift
	got=$("$@" 2>&1)
	[ "$got" = "$want" ] || { echo "wanted: $want"; echo "got: $got"; return 1; }
}

T_SOURCE=$PWD T_STRIDE=5 "$build/test_runtime" >/tmp/unit.log 2>&1
cat /tmp/unit.log
count /tmp/unit.log

if [ -x "$build/src/main/hoy-runtime" ]; then
	check oci env HOY_BUILD="$build" python3 -m pytest -q -p no:cacheprovider tests/it/test_oci_v2.py
	check oci-cli env HOY_BUILD="$build" python3 -m pytest -q -p no:cacheprovider tests/it/test_oci_cli.py \
		-k "update or events or annotations or below or killed or late or come or go"
fi

if [ -x "$build/src/main/hoy" ]; then
	export HOY_ROOT=/tmp/hoy-root HOY_RUN=/run/hoy
	mkdir -p /tmp/tree/bin /tmp/tree/etc /tmp/tree/proc /tmp/tree/sys /tmp/tree/dev
	cp /bin/busybox /tmp/tree/bin/busybox
	for a in sh cat echo true sleep head mkdir ls; do ln -s busybox /tmp/tree/bin/$a; done
	tar -C /tmp/tree -cf /tmp/busybox.tar .
	hoy="$build/src/main/hoy"
	check import "$hoy" import /tmp/busybox.tar busybox
	check driver is " Storage Driver: erofs-loop" sh -c "'$hoy' info | sed -n 's/^Storage/ Storage/p'" # this kernel mounts no files
	check run is hello "$hoy" run --rm -e GLIBC_TUNABLES --network none busybox echo hello
	check memory is 67108864 "$hoy" run --rm -e GLIBC_TUNABLES --network none -m 64m busybox cat /sys/fs/cgroup/memory.max
	check cpus is "50000 100000" "$hoy" run --rm -e GLIBC_TUNABLES --network none --cpus 0.5 busybox cat /sys/fs/cgroup/cpu.max
	check pids is 7 "$hoy" run --rm -e GLIBC_TUNABLES --network none --pids-limit 7 busybox cat /sys/fs/cgroup/pids.max
	check detached "$hoy" run -d --name box -e GLIBC_TUNABLES --network none busybox sleep 100
	check exec is in "$hoy" exec box echo in
	check pause "$hoy" pause box
	check unpause "$hoy" unpause box
	check stats "$hoy" stats --no-stream box
	check restart "$hoy" restart -t 0 box
	check again is in "$hoy" exec box echo in
	check cp "$hoy" cp box:/bin/busybox /tmp/copied
	check same cmp /tmp/copied /bin/busybox
	printf 'FROM busybox\nENV GLIBC_TUNABLES=%s\nRUN --network=none echo built > /made\n' "$GLIBC_TUNABLES" >/tmp/tree/Dockerfile
	check build "$hoy" build -q -t built /tmp/tree
	check built is built "$hoy" run --rm -e GLIBC_TUNABLES --network none built cat /made
	check remove "$hoy" rm -f box
	check verify "$hoy" verify
	check loops is "" sh -c 'for i in $(seq 60); do losetup -a | grep -q hoy-root || break; sleep 1; done; losetup -a | grep hoy-root'
	check clean is "" sh -c 'for i in $(seq 60); do
		[ "$(find /sys/fs/cgroup -mindepth 1 -type d -name "*hoy*")" ] || exit 0; sleep 1; done; find /sys/fs/cgroup -name "*hoy*"'
	check reset "$hoy" system reset --force
	. tests/v2/quota.sh
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
