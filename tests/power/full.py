#!/usr/bin/env python3
"""Operations on a disk of 64 MiB with only so much left, for many values of so much: of bytes, then of inodes.

usage: full.py COUNT [--only OPERATION] [--scratch DIR]

Each time: the operation succeeds, or says in one line that there is no room; the store opens while the disk is still full, and
removing an image there works; once there is room again hoy verify is content and the same operation succeeds. Needs root.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "it")]
from conftest import Hoy, Registry, busybox_tree  # noqa: E402  pylint: disable=wrong-import-position

MEGABYTES, INODES = 64, 4000
ROOM = 16 << 20  # more than any operation needs


def sh(*cmd):
    """A command that must succeed."""
    return subprocess.run([str(c) for c in cmd], check=True, capture_output=True, text=True)


class Full:
    """The template of a disk, and the operations tried on copies of it."""

    def __init__(self, base, registry):
        self.base, self.mount = base, base / "mnt"
        self.mount.mkdir()
        self.hoy = Hoy(base / "hoy")
        self.hoy.root = self.mount / "root"
        self.hoy.env["HOY_ROOT"] = str(self.hoy.root)
        self.name = f"{registry.host}/full/busybox:1"
        busybox_tree(base / "tree")
        for i in range(200):
            (base / f"tree/etc/f{i}").write_text(f"{i}\n" * 300)
        sh("tar", "-C", base / "tree", "--owner=0", "--group=0", "-cf", base / "box.tar", ".")
        (base / "context").mkdir()
        (base / "context/data").write_bytes(os.urandom(2 << 20))
        (base / "context/Dockerfile").write_text("FROM base\nCOPY data /data\nRUN cp /data /copy\n")
        maker = Hoy(base / "maker")
        maker("import", base / "box.tar", self.name)
        maker("push", self.name)
        maker("save", "-o", base / "saved.tar", self.name)
        maker("system", "reset", "--force")
        self.template = base / "template"
        with open(self.template, "wb") as f:
            f.truncate(MEGABYTES << 20)
        sh("mkfs.ext4", "-q", "-m", "0", "-N", INODES, self.template)
        self.open(self.template)
        (base / "tree/etc/f0").write_text("base")
        sh("tar", "-C", base / "tree", "--owner=0", "--group=0", "-cf", base / "base.tar", ".")
        self.hoy("import", base / "base.tar", "base")
        (base / "tree/etc/f0").unlink()
        sh("tar", "-C", base / "tree", "--owner=0", "--group=0", "-cf", base / "spare.tar", ".")
        self.hoy("import", base / "spare.tar", "spare")
        self.hoy("tag", "base", f"{registry.host}/full/pushed:1")
        self.hoy("volume", "create", "old")
        self.hoy("run", "--network", "none", "--name", "box", "base", "sh", "-c", "dd if=/dev/zero of=/f bs=1k count=700")
        self.close(keep=True)
        self.operations = {
            "pull": [["pull", self.name]], "load": [["load", "-i", base / "saved.tar"]],
            "import": [["import", base / "box.tar", "imported"]], "build": [["build", "-q", "-t", "built", base / "context"]],
            "commit": [["commit", "box", "committed"]], "tag": [["tag", "base", "other"]],
            "run": [["run", "--rm", "base", "true"]], "create": [["create", "-v", "/data", "base", "true"]],
            "volume": [["volume", "create", "vol"]], "volume import": [["volume", "import", "old", base / "box.tar"]],
            "push": [["push", f"{registry.host}/full/pushed:1"]], "rename": [["rename", "box", "other"]],
            "network": [["network", "create", "net"]],
        }

    def open(self, image):
        """Mounts a disk, as after a boot."""
        shutil.rmtree(self.hoy.run_dir, ignore_errors=True)
        sh("mount", "-o", "loop", image, self.mount)

    def close(self, keep=False):
        """Unmounts it; what hoy has on the host (a bridge stays a while) does not outlive a disk that is thrown away."""
        if not keep:
            self.hoy.remove_all()
            self.hoy("system", "reset", "--force")
        for _ in range(600):  # for what still ends in the background: a disk must not be under way twice
            if subprocess.run(["umount", self.mount], capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{self.mount} stays busy")

    def fill(self, left, inodes):
        """Leaves that much."""
        st = os.statvfs(self.mount)
        filler = self.mount / "filler"
        if inodes:
            filler.mkdir()
            for i in range(max(st.f_ffree - left - 1, 0)):
                (filler / str(i)).touch()
            return
        with open(filler, "wb") as f:
            at = 0
            for step in (1 << 20, 1 << 16, 1 << 12):
                try:
                    while True:
                        os.posix_fallocate(f.fileno(), at, step)
                        at += step
                except OSError:
                    pass
            os.truncate(f.fileno(), max(at - left, 0))

    def empty(self):
        """Makes room."""
        filler = self.mount / "filler"
        if filler.is_dir():
            shutil.rmtree(filler)
        else:
            filler.unlink()

    def first_failure(self, commands):
        """The result of the first command that fails, or None."""
        return next((r for r in (self.hoy.any(*c) for c in commands) if r.code), None)

    def one(self, commands, left, inodes):
        """A list of what is wrong; whether the operation succeeded."""
        wrong, copy = [], self.base / "copy"
        sh("cp", "--sparse=always", self.template, copy)
        self.open(copy)
        try:
            self.fill(left, inodes)
            r = self.first_failure(commands)
            in_step = r and "No space left" in r.err and "did not complete successfully" in r.err
            if r and not in_step and (len(r.err.strip().splitlines()) != 1 or not r.err.startswith("hoy: ") or
                                      "No space left" not in r.err):
                wrong.append(f"the error: {r.err!r}")
            listing = self.hoy.any("images", "-q")
            if listing.code:
                wrong.append(f"does not open on the full disk: {listing.err!r}")
            gone = self.hoy.any("rmi", "spare")
            if gone.code:
                wrong.append(f"rmi on the full disk: {gone.err!r}")
            self.empty()
            verify = self.hoy.any("verify")
            if verify.code:
                wrong.append(f"verify: {verify.out}{verify.err}")
            left_over = [n for n in os.listdir(self.hoy.root / "tmp") if not n.startswith("part-")]
            if left_over:
                wrong.append(f"left in tmp: {left_over}")
            again = self.first_failure(commands) if r else None
            if again:
                wrong.append(f"with room again: {again.err!r}")
        finally:
            self.close()
        return wrong, r is None


def sweep(full, args):
    """(tried, without room, wrong)."""
    tried = failed = errors = 0
    for name, commands in full.operations.items():
        for i in range(2 * args.count if args.only in (None, name) else 0):
            inodes = i >= args.count
            share = (i % args.count / max(args.count - 1, 1)) ** 2  # denser where little is left
            left = int(share * (600 if inodes else ROOM))
            wrong, succeeded = full.one(commands, left, inodes)
            tried += 1
            errors += not succeeded
            failed += bool(wrong)
            for text in wrong:
                print(f"{name} with {left} {'inodes' if inodes else 'bytes'} left: {text}", flush=True)
    return tried, errors, failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--only")
    parser.add_argument("--scratch")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hoy-full-", dir=args.scratch) as base:
        base = pathlib.Path(base)
        (base / "registry").mkdir()
        registry = Registry(base / "registry")
        try:
            tried, errors, failed = sweep(Full(base, registry), args)
        finally:
            registry.stop()
    print(f"{tried} tried, {errors} without room, {failed} wrong")
    return 1 if failed or not errors else 0


if __name__ == "__main__":
    sys.exit(main())
