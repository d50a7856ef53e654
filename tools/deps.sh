#!/bin/sh
# Installs what hoy needs from Debian packages: "build", "demo", "test" or "lint" (each includes the one before). Root only; as
# another user it names what is missing.
set -eu
build="gcc meson ninja-build pkg-config python3 libc6-dev linux-libc-dev liblmdb-dev libjansson-dev libcurl4-gnutls-dev
 libisal-dev zlib1g-dev libzstd-dev liblzma-dev libbz2-dev libssl-dev libmnl-dev libnftnl-dev libseccomp-dev"
demo="$build mmdebstrap docker-registry curl ca-certificates nftables iproute2 procps"
test="$demo python3-pytest busybox-static skopeo podman crun buildah docker.io criu systemd user-mode-linux strace attr e2fsprogs apache2-utils openssl
 shellcheck"
lint="$test clang cppcheck codespell"
case "${1:-build}" in
build) want=$build ;;
demo) want=$demo ;;
test) want=$test ;;
lint) want=$lint ;;
*) echo "deps.sh: unknown set \"$1\" (build, demo, test, lint)" >&2; exit 2 ;;
esac
missing=
for p in $want; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "deps.sh: missing packages:$missing (install them as root)" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# Package scripts must not start daemons: this machine may already run its own.
policy=
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d && policy=1
fi
trap '[ -z "$policy" ] || rm -f /usr/sbin/policy-rc.d' EXIT
apt-get update -q >/dev/null
# shellcheck disable=SC2086
apt-get install -y -q --no-install-recommends $missing >/dev/null
