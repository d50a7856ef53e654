# Sourced by inside.sh: sizes of volumes on a file system that keeps project quotas (ext4), which many kernels of
# test machines do not.
# shellcheck shell=sh disable=SC2154,SC2016
quota_tests() {
	for m in loop quota_tree quota_v2; do
		busybox insmod "$(find /usr/lib/uml/modules -name $m.ko | head -1)"
	done
	truncate -s 64M /tmp/quota.img && mkfs.ext4 -q -O quota,project -E quotatype=prjquota /tmp/quota.img || return 1
	mkdir -p /tmp/quota && mount -o loop,prjquota /tmp/quota.img /tmp/quota || return 1
	export HOY_ROOT=/tmp/quota/root HOY_RUN=/run/hoy-quota
	run="$hoy run --rm -e GLIBC_TUNABLES --network none"
	check quota-import "$hoy" import /tmp/busybox.tar busybox
	check quota-create is sized "$hoy" volume create -o size=2m sized
	# shellcheck disable=SC2086
	check quota-holds is "2048" $run -v sized:/v busybox sh -c \
		'head -c 4m /dev/zero >/v/f 2>/dev/null; busybox df -k /v | busybox awk "NR==2 {print \$2}"'
	check quota-is-hit sh -c "[ \$(stat -c %s $HOY_ROOT/volumes/sized/_data/f) -le 2097152 ]"
	check quota-again is sized sh -c "'$hoy' volume rm sized && '$hoy' volume create -o size=3m sized >/dev/null"
	# shellcheck disable=SC2086
	check quota-of-a-volume-made-again is "3072" $run -v sized:/v busybox sh -c 'busybox df -k /v | busybox awk "NR==2 {print \$2}"'
	# shellcheck disable=SC2086
	check others-are-free is "4194304" $run -v free:/v busybox sh -c 'head -c 4m /dev/zero >/v/f && busybox stat -c %s /v/f'
	check quota-reset "$hoy" system reset --force
	umount /tmp/quota
	export HOY_ROOT=/tmp/hoy-root
	check no-quota sh -c "! '$hoy' volume create -o size=2m sized 2>/tmp/err && grep -q 'no quota support' /tmp/err"
	check no-quota-reset "$hoy" system reset --force
}
quota_tests || { failed=$((failed + 1)); echo "FAIL quota: the file system could not be made"; }
