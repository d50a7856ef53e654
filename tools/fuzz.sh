#!/bin/bash
# Fuzzes the parsers of foreign bytes with libFuzzer. usage: tools/fuzz.sh [TARGET] [SECONDS]   (all targets, 60 s each)
# Starts from tests/corpus/TARGET where there is one; what breaks is kept as build-fuzz/TARGET-crash-….
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
seconds=${2:-60}
command -v clang >/dev/null || { echo "fuzz: needs clang" >&2; exit 1; }
cd "$top"
[ -e build-fuzz/build.ninja ] || CC=clang meson setup build-fuzz -Db_sanitize=address,undefined -Db_lundef=false \
	-Dc_args=-fsanitize=fuzzer-no-link >/dev/null
archives=()
for f in build engine registry http supervise network runtime snapshot image content state codec sys base; do archives+=("libhoy_$f.a"); done
ninja -C build-fuzz "${archives[@]}" >/dev/null
read -ra libs <<<"$(pkg-config --libs jansson libcurl lmdb zlib libzstd libisal libcrypto libmnl libnftnl) -pthread -lm"
for source in tests/fuzz/${1:-*}.c; do
	name=$(basename "$source" .c)
	corpus=build-fuzz/corpus-$name
	mkdir -p "$corpus"
	clang -g -D_GNU_SOURCE -Isrc -Itests -fsanitize=fuzzer,address,undefined "$source" -Wl,--start-group "${archives[@]/#/build-fuzz/}" \
		-Wl,--end-group "${libs[@]}" -o "build-fuzz/fuzz-$name"
	seeds=()
	[ ! -d "tests/corpus/$name" ] || seeds=("tests/corpus/$name")
	echo "== $name, $seconds s"
	"build-fuzz/fuzz-$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
		-artifact_prefix="build-fuzz/$name-" "$corpus" "${seeds[@]}" >"build-fuzz/$name.log" 2>&1 || {
		grep -E "SUMMARY|ERROR|Test unit" "build-fuzz/$name.log" >&2
		exit 1
	}
done
