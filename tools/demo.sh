#!/bin/bash
# The main job on real input: import a base image, build, push, remove, pull back, run, look, remove everything.
# usage: tools/demo.sh BUILD_DIR      (PORT=8000 and REGISTRY_PORT=5000 may be set)
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
hoy=$(cd "$1" && pwd)/src/main/hoy
port=${PORT:-8000}
work=$(mktemp -d /tmp/hoy-demo-XXXXXX)
export HOY_ROOT=$work/root HOY_RUN=$work/run
registry_pid=

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '$ hoy %s\n' "$*"; "$hoy" "$@"; }
fail() { echo "demo: $*" >&2; exit 1; }
cleanup() {
	status=$?
	trap - EXIT
	"$hoy" system reset --force >/dev/null 2>&1 || true
	[ -z "$registry_pid" ] || { kill "$registry_pid" 2>/dev/null && wait "$registry_pid" 2>/dev/null || true; }
	rm -rf "$work"
	[ $status = 0 ] || echo "demo: failed with status $status" >&2
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

[ "$(id -u)" = 0 ] || fail "needs root"
python3 "$top/tests/it/census.py" >"$work/census.before"

say "debian:bookworm from the Debian mirror"
if [ -n "${HOY_DEBIAN_TAR:-}" ] && [ -s "$HOY_DEBIAN_TAR" ]; then
	cp "$HOY_DEBIAN_TAR" "$work/debian.tar"
else
	mmdebstrap --quiet --variant=minbase bookworm "$work/debian.tar"
	[ -z "${HOY_DEBIAN_TAR:-}" ] || cp "$work/debian.tar" "$HOY_DEBIAN_TAR"
fi
show import "$work/debian.tar" debian:bookworm
rm -f "$work/debian.tar"

say "build"
mkdir "$work/app"
cp "$top/demo/hello.py" "$top/demo/Dockerfile" "$work/app"
args=(--build-arg PIP_BREAK_SYSTEM_PACKAGES=1 --host-ca)
if ! curl -fsS -m 20 -o /dev/null https://pypi.org/simple/flask/; then
	echo "PyPI cannot be reached from here: the demo uses Debian's python3-flask instead of pip"
	sed -i -e 's/ python3-pip/ python3-flask/' -e '/^RUN pip install/d' "$work/app/Dockerfile"
fi
# bookworm's pip wants this at build time; it is an ARG of the build, not part of the image
sed -i '/^FROM/a ARG PIP_BREAK_SYSTEM_PACKAGES' "$work/app/Dockerfile"

if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then fail "port $port is in use; set PORT"; fi
registry_port=${REGISTRY_PORT:-5000}
while (exec 3<>"/dev/tcp/127.0.0.1/$registry_port") 2>/dev/null; do registry_port=$((registry_port + 1)); done
image=localhost:$registry_port/hello:1
show build "${args[@]}" -t "$image" "$work/app"
show images

say "push to a real registry, remove, pull back"
cat >"$work/registry.yml" <<CONFIG
version: 0.1
storage:
  filesystem:
    rootdirectory: $work/registry
http:
  addr: 127.0.0.1:$registry_port
CONFIG
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry_pid=$!
for _ in $(seq 100); do
	(exec 3<>"/dev/tcp/127.0.0.1/$registry_port") 2>/dev/null && break
	sleep 0.1
done
before=$("$hoy" inspect --format '{{.Id}}' "$image")
show push "$image"
show rmi "$image"
"$hoy" inspect "$image" >/dev/null 2>&1 && fail "the image is still there after rmi"
show pull "$image"
after=$("$hoy" inspect --format '{{.Id}}' "$image")
echo "before: $before"
echo "after:  $after"
[ "$before" = "$after" ] || fail "the digest changed on its way"

say "run"
show run -d --name hello -p "$port:8000" "$image"
for _ in $(seq 100); do
	page=$(curl -fsS "http://127.0.0.1:$port/" 2>/dev/null) && break
	sleep 0.1
done
echo "$ curl http://127.0.0.1:$port/"
echo "${page:-}"
[ "${page:-}" = "Hello from hoy!" ] || { "$hoy" logs hello >&2; fail "the page did not come"; }
show ps
show logs hello
show stats --no-stream hello

say "stop and remove everything"
show stop hello
show rm hello
show rmi "$image" debian:bookworm
show system reset --force
echo '$ hoy system footprint'
footprint=$("$hoy" system footprint)
echo "${footprint:-(nothing)}"
[ -z "$footprint" ] || fail "hoy is still on the host"
kill "$registry_pid" && wait "$registry_pid" 2>/dev/null || true
registry_pid=
python3 "$top/tests/it/census.py" >"$work/census.after"
diff "$work/census.before" "$work/census.after" || fail "the host is not as it was"
say "done: the host is as it was before"
