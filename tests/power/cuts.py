#!/usr/bin/env python3
"""Power cuts at random moments of pull, import, build and removal; what a command had confirmed must be whole or the test fails.

usage: cuts.py COUNT [--engine hoy|podman|docker] [--seed N] [--per-run N] [--scratch DIR] [--keep FILE]

Each run works on an ext4 file system on a disk that remembers every write (disk.py). Then the disk is made again as a power cut at
a random moment leaves it: all that was flushed, a random part of what was not. It is mounted, the engine started on it, and every
file of every image compared with what it should be. Per cut, what is wrong:
  missing   an image whose command had succeeded before the cut is not there
  wrong     files of an image that is listed are missing or differ, or it cannot be run
  broken    the engine does not start, or its own check (hoy verify) finds damage
Then the same commands are given again; "not healed" when images are not whole after that. hoy's binary: $HOY_BUILD. Needs root.
"""
import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "it")]
from conftest import Hoy, Registry, busybox_tree  # noqa: E402  pylint: disable=wrong-import-position
from disk import Disk, Past  # noqa: E402  pylint: disable=wrong-import-position

LIST = "find /data -type f -exec sha256sum {} +"
FILES = 400


def content(image, i):
    """The bytes of the i-th file of an image."""
    return hashlib.sha256(f"{image} {i}".encode()).hexdigest().encode() * (1 + i * 7 % 200)


def make_tree(path, image, count=FILES):
    """A root file system with busybox and count files that are known; {name in the container: sha256}."""
    busybox_tree(path)
    want = {}
    for i in range(count):
        f = path / f"data/{image}/d{i % 20}/f{i}"
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_bytes(content(image, i))
        want["/" + str(f.relative_to(path))] = hashlib.sha256(content(image, i)).hexdigest()
    return want


def run(cmd, **more):
    """One command; its result, whatever it is."""
    return subprocess.run([str(c) for c in cmd], capture_output=True, text=True, timeout=300, check=False, **more)


class HoyEngine:
    """hoy with its root on the disk."""

    name = "hoy"

    def __init__(self, base, root):
        self.hoy = Hoy(base)
        self.hoy.root = root / "hoy"
        self.hoy.env["HOY_ROOT"] = str(self.hoy.root)

    def start(self):
        """Nothing to start; false when the store does not open."""
        return run([self.hoy.binary, "images"], env=self.hoy.env).returncode == 0

    def stop(self):
        """Nothing runs; but the bridge of a build stays a while, and is not to outlive a disk that is thrown away."""
        self.cmd("system", "reset", "--force")

    def cmd(self, *args):
        """The command line of a docker-like command."""
        return run([self.hoy.binary, *args], env=self.hoy.env)

    def check(self):
        """The engine's own opinion of its store."""
        return self.cmd("verify")

    def insecure(self):
        """Options for a registry over plain HTTP."""
        return []


class PodmanEngine(HoyEngine):
    """podman with its root on the disk."""

    name = "podman"

    def __init__(self, base, root):  # pylint: disable=super-init-not-called
        self.args = ["podman", "--root", root / "podman", "--runroot", base / "run", "--storage-driver", "overlay",
                     "--cgroup-manager", "cgroupfs", "--events-backend", "none"]

    def start(self):
        return self.cmd("images").returncode == 0

    def stop(self):
        """podman leaves its store mounted on itself."""
        run(["umount", self.args[2] / "overlay"])

    def cmd(self, *args):
        more = {"run": ["--cgroups=disabled"], "build": ["--isolation=chroot"]}.get(args[0], [])
        return run([*self.args, args[0], *more, *args[1:]])

    def check(self):
        return None

    def insecure(self):
        return ["--tls-verify=false"]


class DockerEngine(HoyEngine):
    """A docker daemon with its root on the disk."""

    name = "docker"

    def __init__(self, base, root):  # pylint: disable=super-init-not-called
        self.base, self.root, self.daemon = base, root / "docker", None
        self.socket = f"unix://{base}/docker.sock"

    def start(self):
        self.base.mkdir(parents=True, exist_ok=True)
        with open(self.base / "dockerd.log", "w", encoding="utf-8") as log:
            self.daemon = subprocess.Popen(["dockerd", "--data-root", self.root, "--exec-root", self.base / "exec", "-H",
                                            self.socket, "-p", self.base / "pid", "--iptables=false", "--bridge=none",
                                            "--storage-driver", "overlay2"], stdout=log, stderr=log)
        for _ in range(200):
            if self.cmd("version").returncode == 0:
                return True
            if self.daemon.poll() is not None:
                return False
            time.sleep(0.1)
        return False

    def stop(self):
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait(60)
        run(["umount", *(str(p) for p in self.root.glob("overlay2/*/merged"))])

    def cmd(self, *args):
        more = {"build": ["--network", "none"]}.get(args[0], [])
        return run(["docker", "-H", self.socket, args[0], *more, *args[1:]], env=dict(os.environ, DOCKER_BUILDKIT="0"))

    def check(self):
        return None


class Work:
    """The images of a campaign: how each is made, and what is in it."""

    def __init__(self, base, registry):
        self.base, self.want, self.recipes = base, {}, {}
        pulled = f"{registry.host}/cuts/pulled:1"
        self.want[pulled] = make_tree(base / "pulled", "pulled")
        self.want["imported:1"] = make_tree(base / "imported", "imported")
        for name in ("pulled", "imported"):
            subprocess.run(["tar", "-C", base / name, "--owner=0", "--group=0", "-cf", base / f"{name}.tar", "."], check=True)
        context = base / "context"
        for i in range(FILES):
            f = context / f"copied/d{i % 20}/f{i}"
            f.parent.mkdir(parents=True, exist_ok=True)
            f.write_bytes(content("copied", i))
        (context / "Dockerfile").write_text(
            "FROM imported:1\nCOPY copied /data/copied\n"
            'RUN ["/bin/sh", "-c", "mkdir /data/made; for i in $(seq 200); do echo made $i > /data/made/$i; done"]\n')
        self.want["built:1"] = self.want["imported:1"] | {
            f"/data/copied/d{i % 20}/f{i}": hashlib.sha256(content("copied", i)).hexdigest() for i in range(FILES)} | {
            f"/data/made/{i}": hashlib.sha256(f"made {i}\n".encode()).hexdigest() for i in range(1, 201)}
        self.pulled, self.context = pulled, context

    def publish(self, hoy):
        """Puts the image to pull into the registry, in three layers."""
        (self.base / "publish").mkdir()
        (self.base / "publish/Dockerfile").write_text(
            'FROM base:1\nRUN ["/bin/sh", "-c", "echo 1 > /one"]\nRUN ["/bin/sh", "-c", "echo 2 > /two"]\n')
        for args in (["import", self.base / "pulled.tar", "base:1"], ["build", "-t", self.pulled, self.base / "publish"],
                     ["push", self.pulled], ["system", "reset", "--force"]):
            r = hoy.any(*args)
            assert r.code == 0, r

    def steps(self, engine):
        """(image it makes or None, image it removes or None, command)."""
        return [(self.pulled, None, ["pull", *engine.insecure(), self.pulled]),
                ("imported:1", None, ["import", self.base / "imported.tar", "imported:1"]),
                ("built:1", None, ["build", "-t", "built:1", self.context]),
                (None, self.pulled, ["rmi", self.pulled]),
                (self.pulled, None, ["pull", *engine.insecure(), self.pulled])]


def record(engine_class, work, base):
    """Runs all steps on a fresh disk; the disk (closed) and [(first, last moment, makes, removes)] of each."""
    disk = Disk(base / "disk", 700)
    engine = engine_class(base / "live", disk.mount)
    times = []
    try:
        assert engine.start(), "the engine does not start on an empty disk"
        for makes, removes, cmd in work.steps(engine):
            first = disk.now()
            r = engine.cmd(*cmd)
            assert r.returncode == 0, (cmd, r.stdout, r.stderr)
            times.append((first, disk.now(), makes, removes))
            time.sleep(random.uniform(0, 0.3))
    finally:
        engine.stop()
        disk.close()
    return disk, times


def state_at(moment, times):
    """Images that must be there; images that may be."""
    sure, maybe = set(), set()
    for first, last, makes, removes in times:
        if last <= moment:
            sure |= {makes} - {None}
            sure -= {removes}
            maybe -= {removes}
        elif first <= moment:
            maybe |= {makes} - {None}
            if removes in sure:
                sure.discard(removes)
                maybe.add(removes)
    return sure, maybe


def is_listed(engine, image):
    """Whether the engine has it."""
    name = "imported:1" if image == "imported:1" else image
    return engine.cmd("image", "inspect", name).returncode == 0


def look(engine, image, want):
    """"" when every file is as it should be; else what is wrong."""
    r = engine.cmd("run", "--rm", "--network", "none", image, "/bin/sh", "-c", LIST)
    if r.returncode:
        return f"cannot be run: {r.stderr.strip()[-200:]}"
    have = {line[66:]: line[:64] for line in r.stdout.splitlines()}
    bad = sorted(f for f in want if have.get(f) != want[f])
    return f"{len(bad)} of {len(want)} files wrong, as {bad[0]}" if bad else ""


def judge(engine, work, sure, maybe):
    """List of (kind, text)."""
    found = []
    if not engine.start():
        return [("broken", "the engine does not start")]
    r = engine.check()
    if r is not None and r.returncode:
        found.append(("broken", (r.stdout + r.stderr).strip()[-2000:]))
    for image, want in work.want.items():
        listed = is_listed(engine, image)
        if not listed and image in sure:
            found.append(("missing", image))
        text = look(engine, image, want) if listed else ""
        if text:
            found.append(("wrong", f"{image}{'' if image in sure or image in maybe else ' (unexpected)'}: {text}"))
    return found


def heals(engine, work):
    """The same commands again make everything whole."""
    for makes, _, cmd in work.steps(engine)[:3]:
        r = engine.cmd(*cmd)
        text = r.stderr if r.returncode else look(engine, makes, work.want[makes])
        if text:
            return f"{makes}: {text.strip()[-200:]}"
    return ""


def unmount(mount):
    """Waits for what still ends in the background; a disk must not be under way twice."""
    for _ in range(600):
        if run(["umount", mount]).returncode == 0:
            return
        time.sleep(0.1)
    raise RuntimeError(f"{mount} stays busy")


def one_cut(engine_class, work, past, moment, seed, times, base):
    """Cuts, mounts where it was, judges; (kind, text) of each thing wrong. What lay in /run is gone, as after a boot."""
    copy, mount = base / f"copy-{moment}-{seed}", base / "disk/mnt"
    past.cut(moment, seed, copy)
    shutil.rmtree(base / "live", ignore_errors=True)
    if run(["mount", "-o", "loop", copy, mount]).returncode:
        return [("broken", "the file system does not mount")]
    engine = engine_class(base / "live", mount)
    try:
        found = judge(engine, work, *state_at(moment, times))
        text = heals(engine, work)
        if text:
            found.append(("not healed", text))
    finally:
        engine.stop()
        unmount(mount)
        copy.unlink()
    return found


def campaign(args, base):
    """All cuts; the sums."""
    engine_class = {c.name: c for c in (HoyEngine, PodmanEngine, DockerEngine)}[args.engine]
    registry = Registry(base / "registry") if (base / "registry").mkdir() is None else None
    sums = {"cuts": 0, "clean": 0, "missing": 0, "wrong": 0, "broken": 0, "not healed": 0}
    try:
        work = Work(base, registry)
        work.publish(Hoy(base / "publisher"))
        for n in range(0, args.count, args.per_run):
            here = base / f"run{n}"
            here.mkdir()
            random.seed(args.seed + n)
            disk, times = record(engine_class, work, here)
            moments = sorted(random.randrange(times[0][0], times[-1][1] + 1) for _ in range(min(args.per_run, args.count - n)))
            past = Past(disk, here / "past")
            for moment in moments:
                found = one_cut(engine_class, work, past, moment, args.seed + moment, times, here)
                sums["cuts"] += 1
                sums["clean"] += not found
                for kind in {k for k, _ in found}:
                    sums[kind] += 1
                if found and args.keep:
                    past.cut(moment, args.seed + moment, args.keep)
                for kind, text in found:
                    print(f"cut at {moment} of {times[-1][1]}: {kind}: {text}", flush=True)
            past.close()
            shutil.rmtree(here, ignore_errors=True)
    finally:
        registry.stop()
    return sums


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--engine", default="hoy", choices=("hoy", "podman", "docker"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-run", type=int, default=25)
    parser.add_argument("--keep", help="a file for the disk of the last cut that went wrong")
    parser.add_argument("--scratch", default="/dev/shm" if os.path.ismount("/dev/shm") else None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hoy-cuts-", dir=args.scratch) as base:
        sums = campaign(args, pathlib.Path(base))
    print(args.engine, json.dumps(sums))
    return 0 if sums["clean"] == sums["cuts"] else 1


if __name__ == "__main__":
    sys.exit(main())
