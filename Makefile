# The front door; meson and ninja do the work.
B ?= build
.PHONY: all demo test check it asan fuzz lint bench install clean
all: $(B)/build.ninja
	@ninja -C $(B)
$(B)/build.ninja:
	@tools/deps.sh build
	@meson setup $(B) --buildtype=release -Db_ndebug=false >/dev/null
demo:
	@tools/deps.sh demo
	@$(MAKE) --no-print-directory all
	@tools/demo.sh $(B)
test:
	@tools/deps.sh test
	@$(MAKE) --no-print-directory all
	@tools/test.py $(B)
check: all
	@tools/test.py $(B) unit
it: all
	@tools/test.py $(B) it
asan:
	@[ -e build-asan/build.ninja ] || meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
	@tools/test.py build-asan unit
fuzz:
	@tools/deps.sh lint
	@tools/fuzz.sh $(T) $(S)
lint: all
	@tools/deps.sh lint
	@tools/lint.sh $(B)
bench: all
	@bench/run.sh $(B)
install: all
	@meson install -C $(B) --no-rebuild
clean:
	@rm -rf build build-asan build-fuzz
