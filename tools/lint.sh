#!/bin/sh
# Style that a machine can judge: layers, sizes, headers that compile alone, scripts, analyzers where installed.
# usage: tools/lint.sh BUILD_DIR
set -u
build=${1:-build}
bad=0
tools/layers.py . "$build" || bad=1
tools/sizes.py . || bad=1
for h in $(find src -name '*.h'); do
	echo "#include \"${h#src/}\"" | gcc -std=gnu17 -D_GNU_SOURCE -Isrc -fsyntax-only -Wall -Wextra -Werror \
		$(pkg-config --cflags jansson lmdb libcurl) -x c - || { echo "$h: does not compile alone"; bad=1; }
done
if command -v shellcheck >/dev/null; then shellcheck -S warning tools/*.sh bench/*.sh .ci/run || bad=1; fi
if command -v cppcheck >/dev/null; then
	cppcheck -q --enable=warning,portability --inline-suppr --suppress=missingIncludeSystem \
		--suppress=nullPointerRedundantCheck --suppress=returnDanglingLifetime --suppress=internalAstError \
		--suppress=unknownMacro --error-exitcode=1 -Isrc src || bad=1 # it takes an out parameter for what is returned
fi
if command -v codespell >/dev/null; then codespell -q 3 src docs tools tests/it README.md ARCHITECTURE.md || bad=1; fi
[ $bad = 0 ] && echo "lint: clean"
exit $bad
