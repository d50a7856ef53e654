#!/bin/bash
# A criu newer than the system's: Debian trixie's with its own libraries, beside them a program "criu" that starts it.
# usage: tools/criu.sh DIR     then HOY_CRIU=DIR/criu for the tests, hoy-runtime --criu DIR/criu, or DIR in PATH
# Debian 12's criu 3.17 does not start on kernels of 6.13 and later ("Unexpected rt vDSO area bounds").
set -euo pipefail
dir=$(realpath -m "${1:?usage: tools/criu.sh DIR}")
mkdir -p "$dir"
mmdebstrap --quiet --variant=extract --include=criu,iptables,nftables trixie "$dir/root" >"$dir/log" 2>&1 || { tail "$dir/log" >&2; exit 1; }
libs=$dir/root/usr/lib/x86_64-linux-gnu
cat >"$dir/criu" <<END
#!/bin/sh
exec $libs/ld-linux-x86-64.so.2 --library-path $libs --argv0 criu $dir/root/usr/sbin/criu "\$@"
END
chmod +x "$dir/criu"
"$dir/criu" --version
