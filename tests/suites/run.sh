#!/bin/bash
# Runs a checked-out foreign suite with our runtime and adds up its TAP output: crun's tests/test_*.py or the
# validation programs of runtime-tools. Figures and causes of what fails: docs/runtime-suites.md.
# usage: tests/suites/run.sh SUITE_DIR [TEST ...]      TEST: test_exec.py, kill (default: all)
#   RUNTIME  the runtime (default build/src/main/hoy-runtime)   LOGS  where each file's output goes (default: a new folder)
# Needs root and private mount, pid and control group namespaces are wise. Files run one after the other.
set -u
suite=$(cd "${1:?usage: run.sh SUITE_DIR [TEST ...]}" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
runtime=$(readlink -f "${RUNTIME:-$here/../../build/src/main/hoy-runtime}")
logs=${LOGS:-$(mktemp -d /tmp/suite-XXXXXX)}
mkdir -p "$logs"
pass=0 fail=0 skip=0
failures=()

thaw() { # a test that leaves a frozen v1 group makes its processes unkillable
	find /sys/fs/cgroup/freezer* -name freezer.state 2>/dev/null | while read -r f; do
		grep -q THAWED "$f" 2>/dev/null || echo THAWED >"$f" 2>/dev/null
	done
	find /sys/fs/cgroup -name cgroup.freeze 2>/dev/null | while read -r f; do echo 0 >"$f" 2>/dev/null; done
}
count() { # count FILE: adds its TAP lines to the sums
	local p s f
	s=$(grep -ciE '^ok .*# ?skip' "$1")
	p=$(($(grep -c '^ok ' "$1") - s))
	f=$(grep -c '^not ok ' "$1")
	pass=$((pass + p)) skip=$((skip + s)) fail=$((fail + f))
	printf '%-34s %4d passed %4d failed %4d skipped\n' "$(basename "$1" .log)" "$p" "$f" "$s"
	failed=$(sed -n "s/^not ok /$(basename "$1" .log): not ok /p" "$1")
	[ -z "$failed" ] || failures+=("$failed")
}
crun_suite() {
	local init=$logs/init
	gcc -static -I"$here/include" "$suite/tests/init.c" -o "$init" || exit 1
	cd "$suite" || exit 1
	[ $# -gt 0 ] || set -- tests/test_*.py
	for t; do
		log=$logs/$(basename "$t" .py).log
		PYTHONPATH=$here/python OCI_RUNTIME=$runtime INIT=$init timeout -k 5 "${TEST_TIMEOUT:-300}" python3 "tests/$(basename "$t")" \
			>"$log" 2>"$log.err" </dev/null || echo "exit $?" >>"$log"
		thaw
		count "$log"
	done
}
runtime_tools_suite() {
	cd "$suite" || exit 1
	[ -x runtimetest ] || make runtimetest validation-executables >"$logs/build.log" 2>&1 || exit 1
	# shellcheck disable=SC2046
	[ $# -gt 0 ] || set -- $(find validation -mindepth 1 -maxdepth 1 -type d ! -name util -printf '%f\n' | sort)
	for t; do
		t=${t%/}
		log=$logs/$t.log
		RUNTIME=$runtime timeout -k 5 "${TEST_TIMEOUT:-120}" "validation/$t/$t.t" \
			>"$log" 2>"$log.err" </dev/null || echo "exit $?" >>"$log"
		thaw
		count "$log"
	done
}
if [ -e "$suite/tests/tests_utils.py" ]; then
	crun_suite "$@"
elif [ -d "$suite/validation" ]; then
	runtime_tools_suite "$@"
else
	echo "run.sh: $suite is neither crun nor runtime-tools" >&2
	exit 2
fi
[ ${#failures[@]} = 0 ] || printf '%s\n' "${failures[@]}"
echo "logs: $logs"
echo "$pass passed, $fail failed, $skip skipped"
