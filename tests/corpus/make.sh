#!/bin/bash
# Makes the tar archives of tests/corpus/tar: what GNU tar and Python's tarfile write that a parser of layers must understand.
# Seeds for fuzzing tar and erofs, replayed by tests/corpus_test.c. usage: tests/corpus/make.sh      needs root (devices, owners)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir -p t/deep/er && cd t
echo text >deep/er/file
ln deep/er/file hard
ln -s deep/er/file soft
ln soft hard-to-soft
mkfifo pipe
mknod null c 1 3
mknod big b 259 70000
chmod 4755 deep/er/file
chown 3000000:70000 deep
setfattr -n user.note -v x hard || true
truncate -s 1M hole
printf x | dd of=hole conv=notrunc bs=1 seek=500001 2>/dev/null
long=$(printf %0200d 1)
touch "$long" deep/.wh.gone deep/.wh..wh..opq .wh.other $'new\nline' $'\xff\xfe' "..."
ln -s "$long/$long" long-link
touch -d 2023-11-14T22:13:20.123456789Z -h -- * deep/* deep/er/*
cd ..
pack() { tar --sort=name -b 1 -C t -cf "$here/tar/$1.tar" "${@:2}" .; }
pack posix --format=posix --xattrs --pax-option=delete=atime,delete=ctime,exthdr.name=x --exclude=./hole
pack gnu --format=gnu --exclude=./hole
pack ustar --format=ustar --exclude=./hole --exclude="./$long" --exclude=./long-link --exclude=./deep --exclude=./big
pack sparse-gnu --format=gnu --sparse --exclude="./[!h]*"
pack sparse-0.1 --format=posix --sparse --sparse-version=0.1 --exclude="./[!h]*"
pack sparse-1.0 --format=posix --sparse --sparse-version=1.0 --exclude="./[!h]*"
/usr/bin/python3 - "$here/tar" <<'PY'
import io, sys, tarfile

def pack(name, *entries, **more):
    with tarfile.open(f"{sys.argv[1]}/{name}.tar", "w", **more) as tar:
        tar.copybufsize = 512
        for path, kind, link in entries:
            info = tarfile.TarInfo(path)
            info.type, info.linkname, info.size = kind, link, 3 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"abc") if info.size else None)

file, directory, hard, soft, char = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE
tarfile.RECORDSIZE = 1024
pack("replaced", ("a", file, ""), ("a", directory, ""), ("a/b", file, ""), ("a", soft, "c"), ("c/d", file, ""), ("a/e", file, ""))
pack("through-links", ("usr/lib", directory, ""), ("lib", soft, "usr/lib"), ("lib/x", file, ""), ("l", soft, "/lib"), ("l/y", hard, "lib/x"))
pack("whiteouts", ("d", directory, ""), ("d/.wh.x", file, ""), (".wh.d", file, ""), ("d/.wh..wh..opq", file, ""), ("w", hard, "d/x"))
pack("escapes", ("../x", file, ""), ("/abs", file, ""), ("a/../../y", hard, "../../z"))
pack("loops", ("l", soft, "l"), ("l/x", file, ""))
pack("device-zero", ("x", char, ""), ("y", hard, "x"))
PY
cd "$here/tar"
head -c 700 gnu.tar >cut-in-content.tar
head -c 300 gnu.tar >cut-in-header.tar
{ printf '\0%.0s' {1..1024}; } >nothing.tar
ls -l
