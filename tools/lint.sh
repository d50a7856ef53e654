#!/bin/bash
# What a machine can judge of style: layers, sizes, headers that compile alone, warnings of clang and of gcc's analyzer, scripts.
# usage: tools/lint.sh BUILD_DIR      a tool that is not installed is named and left out
set -u
build=${1:-build}
bad=0
fail() { echo "lint: $*" >&2; bad=1; }
have() { command -v "$1" >/dev/null || { echo "lint: $1 is not installed: left out"; return 1; }; }

tools/layers.py . "$build" || fail "layers"
tools/sizes.py . || fail "sizes"

read -ra cflags <<<"-std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Isrc -Itests $(pkg-config --cflags jansson lmdb libcurl)"
while read -r h; do
	echo "#include \"${h#src/}\"" | gcc "${cflags[@]}" -fsyntax-only -Wall -Wextra -Wno-missing-field-initializers -Werror -x c - || fail "$h does not compile alone"
done < <(find src -name '*.h')

# The whole program with clang and with gcc's analyzer; both must be silent.
quiet_build() {
	local dir=$1
	shift
	[ -e "$dir/build.ninja" ] || env "$@" meson setup "$dir" -Dbuildtype=release -Db_ndebug=false >/dev/null
	ninja -C "$dir" -t clean >/dev/null
	ninja -C "$dir" >"$dir/lint.log" 2>&1 || fail "$dir does not build: see $dir/lint.log"
	grep -E 'warning:|error:' "$dir/lint.log" && fail "warnings in $dir"
}
have clang && quiet_build build-clang CC=clang
# Off: what gcc 12 takes for faults where cleanup attributes and out parameters of other files are at work (LSan judges those).
quiet_build build-analyzer CC=gcc CFLAGS="-fanalyzer -Wno-analyzer-use-of-uninitialized-value -Wno-analyzer-malloc-leak \
	-Wno-analyzer-null-dereference -Wno-analyzer-null-argument"

if have shellcheck; then shellcheck -S warning tools/*.sh bench/*.sh tests/*/*.sh .ci/run || fail "shellcheck"; fi
if have cppcheck; then
	# What it takes for faults and are none: out parameters that return what they got, the kernel's clone arguments.
	cppcheck -q -j2 --enable=warning,portability --inline-suppr --suppress=missingIncludeSystem --suppress=autoVariables \
		--suppress=nullPointerRedundantCheck --suppress=returnDanglingLifetime --suppress=internalAstError \
		--suppress=unknownMacro --suppress=ctuuninitvar --suppress=varFuncNullUB --error-exitcode=1 -Isrc src || fail "cppcheck"
fi
if have codespell; then
	codespell -q 3 --ignore-words-list clos,hel,fo,nd,runn,te,ro,ue,fpr,creat,ths src docs tools tests README.md ARCHITECTURE.md CONTRIBUTING.md ||
		fail "codespell"
fi
[ $bad = 0 ] && echo "lint: clean"
exit $bad
