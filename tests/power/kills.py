#!/usr/bin/env python3
"""Kills hoy at each system call of each operation on its store (strace injects SIGKILL), the database's own calls included.

usage: kills.py [--only OPERATION] [--every N] [--scratch DIR]

After each kill: the store opens, hoy verify is content (it compares every blob, layer and record), what was there before is whole,
nothing is left in tmp, and the same operation then succeeds. A call made very often is tried at growing distances; --every N: at
least N apart. Needs root and strace.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "it")]
from conftest import Hoy, Registry, busybox_tree  # noqa: E402  pylint: disable=wrong-import-position
from test_verify import blob, flip  # noqa: E402  pylint: disable=wrong-import-position

CALLS = ("openat", "openat2", "mkdirat", "mkdir", "write", "pwrite64", "pwritev", "ftruncate", "fdatasync", "fsync", "syncfs", "flock",
         "linkat", "renameat2", "renameat", "rename", "unlinkat", "unlink", "fchmod", "utimensat", "copy_file_range")


def sh(*cmd):
    """A command that must succeed."""
    return subprocess.run([str(c) for c in cmd], check=True, capture_output=True, text=True)


class Kills:
    """A template of a root, and operations tried on copies of it."""

    def __init__(self, base, registry):
        self.base = base
        self.hoy = Hoy(base / "hoy")
        self.name = f"{registry.host}/kills/box:1"
        busybox_tree(base / "tree")
        sh("tar", "-C", base / "tree", "--owner=0", "--group=0", "-cf", base / "box.tar", ".")
        (base / "tree/etc/more").write_text("more")
        sh("tar", "-C", base / "tree", "--owner=0", "--group=0", "-cf", base / "other.tar", ".")
        (base / "context").mkdir()
        (base / "context/Dockerfile").write_text("FROM base\nCOPY Dockerfile /d\n")
        (base / "hoy").mkdir()
        self.hoy("import", base / "other.tar", self.name)
        self.hoy("push", self.name)
        self.hoy("save", "-o", base / "saved.tar", self.name)
        self.hoy("rmi", self.name)
        self.hoy("import", base / "box.tar", "base")
        self.hoy("tag", "base", "second")
        self.hoy("tag", "base", f"{registry.host}/kills/pushed:1")
        self.hoy("run", "--network", "none", "--name", "box", "base", "sh", "-c", "echo 1 > /made")
        self.hoy("build", "-q", "-t", "built", base / "context")
        self.hoy("rmi", "built")
        self.hoy("volume", "create", "spare")
        shutil.rmtree(self.hoy.run_dir)
        self.template = base / "template"
        os.rename(self.hoy.root, self.template)
        self.operations = {
            "first open": ["images"], "tag": ["tag", "base", "third"], "untag": ["rmi", "second"], "import": ["import", base / "other.tar", "o"],
            "load": ["load", "-i", base / "saved.tar"], "pull": ["pull", self.name], "save": ["save", "-o", base / "out.tar", "base"],
            "commit": ["commit", "box", "committed"], "create": ["create", "-v", "/data", "base", "true"], "rm": ["rm", "-v", "box"],
            "volume create": ["volume", "create", "vol"], "volume rm": ["volume", "rm", "spare"],
            "build": ["build", "-q", "-t", "built", base / "context"], "builder prune": ["builder", "prune", "-af"],
            "image prune": ["image", "prune", "-af"], "system prune": ["system", "prune", "-af", "--volumes"],
            "push": ["push", f"{registry.host}/kills/pushed:1"], "rename": ["rename", "box", "other"],
            "volume import": ["volume", "import", "spare", base / "other.tar"], "network create": ["network", "create", "net"],
            "verify": ["verify", "--repair"], "mend the database": ["verify", "--repair"], "mend blobs": ["verify", "--repair"],
        }

    def fresh(self, name):
        """A copy of the template; a first open starts from nothing."""
        shutil.rmtree(self.hoy.root, ignore_errors=True)
        shutil.rmtree(self.hoy.run_dir, ignore_errors=True)
        if name != "first open":
            sh("cp", "-a", self.template, self.hoy.root)
        if name == "mend the database":
            os.truncate(self.hoy.root / "meta/data.mdb", 8192)
        if name == "mend blobs":
            self.damage()

    def damage(self):
        """Of the image base: manifest and configuration spoilt, the layer's blob gone where the layer keeps a tar, else a byte of a file."""
        index = json.loads((self.hoy.root / "index.json").read_text())
        digest = next(m["digest"] for m in index["manifests"] if m["annotations"]["io.containerd.image.name"].endswith("/base:latest"))
        doc = json.loads(blob(self.hoy.root, digest).read_text())
        layer = doc["layers"][0]["digest"]
        flip(blob(self.hoy.root, digest))
        flip(blob(self.hoy.root, doc["config"]["digest"]))
        if (self.hoy.root / "layers" / layer[7:] / "layer.tar").exists():
            blob(self.hoy.root, layer).unlink()
        else:
            flip(blob(self.hoy.root, layer), blob(self.hoy.root, layer).read_bytes().index(b"root:x:0:0"))

    def killed(self, args, call, n):
        """Runs and kills at the n-th such call; false when there is none."""
        r = subprocess.run(["strace", "-qq", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={n}",
                            str(self.hoy.binary), *map(str, args)], env=self.hoy.env, capture_output=True, text=True, timeout=120,
                           check=False)
        return r.returncode < 0 or r.returncode in (137, 128 + 9) or "ended without a result" in r.stderr

    def judge(self, name, args):
        """What is wrong now."""
        wrong = []
        if name.startswith("mend "):
            self.hoy.any(*args)
        r = self.hoy.any("verify")
        if r.code:
            wrong.append(f"verify: {r.out}{r.err}")
        if name != "first open":
            left = [n for n in os.listdir(self.hoy.root / "tmp") if not n.startswith("part-")]
            if left:
                wrong.append(f"left in tmp: {left}")
            if "base" not in self.hoy.any("images").out and "prune" not in name:
                wrong.append("base is gone")
        r = self.hoy.any(*args)
        done = ("No such", "no such", "not found", "already exists")  # it was, when it was killed
        if r.code and not (name in ("untag", "rm", "volume rm", "rename", "network create") and any(d in r.err for d in done)):
            wrong.append(f"again: {r}")
        return wrong

    def sweep(self, name, every):
        """(places, wrong)."""
        args, places, bad = self.operations[name], 0, 0
        for call in CALLS:
            n = 1
            while True:
                self.fresh(name)
                if not self.killed(args, call, n):
                    break
                places += 1
                wrong = self.judge(name, args)
                bad += bool(wrong)
                for text in wrong:
                    print(f"{name}, killed at {call} {n}: {text}", flush=True)
                n += max(every, n // 6)  # wider where one call comes very often
        return places, bad


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--scratch")
    args = parser.parse_args()
    places = bad = 0
    with tempfile.TemporaryDirectory(prefix="hoy-kills-", dir=args.scratch) as base:
        base = pathlib.Path(base)
        (base / "registry").mkdir()
        registry = Registry(base / "registry")
        try:
            kills = Kills(base, registry)
            for name in kills.operations:
                if args.only in (None, name):
                    p, b = kills.sweep(name, args.every)
                    places, bad = places + p, bad + b
                    print(f"{name}: {p} places, {b} wrong", flush=True)
        finally:
            registry.stop()
    print(f"{places} places, {bad} wrong")
    return 1 if bad or not places else 0


if __name__ == "__main__":
    sys.exit(main())
