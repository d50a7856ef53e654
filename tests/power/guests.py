#!/usr/bin/env python3
"""Kills a whole machine (user-mode-linux, SIGKILL) while hoy imports, builds and removes on its disk; then looks at the disk.

usage: guests.py COUNT [--seed N] [--scratch DIR]

The guest's disk is a file (ubd) with ext4. A guest tells on the host which command has succeeded. After the kill the disk is mounted
here: every image that was confirmed must be whole, file by file, hoy verify content, and the next command must work. Needs root,
linux.uml; hoy's binary: $HOY_BUILD.
"""
import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "it"), str(HERE.parent / "v2")]
from conftest import BUILD  # noqa: E402  pylint: disable=wrong-import-position
from cuts import HoyEngine, look, make_tree, run, unmount  # noqa: E402  pylint: disable=wrong-import-position
from guest import TUNABLES, refuse_xstate  # noqa: E402  pylint: disable=wrong-import-position

SCRIPT = """#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs run /run; mount -t tmpfs tmp /tmp
export GLIBC_TUNABLES={tunables} OPENSSL_ia32cap=~0x1000000000000000:0 PATH=$PATH:/usr/sbin:/sbin HOY_ROOT=/mnt/hoy HOY_RUN=/run/hoy
busybox insmod "$(find /usr/lib/uml/modules -name overlay.ko | head -1)"
mount -t ext4 /dev/ubda /mnt || exit
cd {base}
echo ready >>confirmed
{hoy} import box0.tar base:1 >>log 2>&1 && echo "+ base:1" >>confirmed
for i in 1 2 3 4 5 6 7 8 9; do
	echo "$i" >context/more/0
	{hoy} import "box$i.tar" "box:$i" >>log 2>&1 && echo "+ box:$i" >>confirmed
	{hoy} build -q -t "built:$i" context >>log 2>&1 && echo "+ built:$i" >>confirmed
	echo "? box:$i" >>confirmed
	{hoy} rmi "box:$i" >>log 2>&1 && echo "- box:$i" >>confirmed
done
sleep 100
"""


class Guests:
    """What all guests share."""

    def __init__(self, base):
        self.base = base
        self.want = {}
        for i in range(10):
            self.want["base:1" if i == 0 else f"box:{i}"] = make_tree(base / f"tree{i}", f"guest{i}", 200)
            subprocess.run(["tar", "-C", base / f"tree{i}", "--owner=0", "--group=0", "-cf", base / f"box{i}.tar", "."], check=True)
        (base / "context/more").mkdir(parents=True)
        for i in range(50):
            (base / f"context/more/{i}").write_text(f"{i}\n" * 500)
        (base / "context/Dockerfile").write_text("FROM base:1\nCOPY more /data/more\n")
        copied = {f"/data/more/{i}": hashlib.sha256((f"{i}\n" * 500).encode()).hexdigest() for i in range(1, 50)}
        for i in range(1, 10):
            self.want[f"built:{i}"] = self.want["base:1"] | copied | {
                "/data/more/0": hashlib.sha256(f"{i}\n".encode()).hexdigest()}
        self.disk, self.bin = base / "disk", base / "bin"
        self.bin.mkdir()
        for program in ("hoy", "hoy-keeper", "hoy-transfer"):  # the guest may not see where they were built
            shutil.copy(BUILD / "src/main" / program, self.bin)

    def boot(self, seconds):
        """Runs a guest and kills it that long after it is ready; what it confirmed."""
        for name in ("confirmed", "log"):
            (self.base / name).write_text("")
        with open(self.disk, "wb") as f:
            f.truncate(200 << 20)
        subprocess.run(["mkfs.ext4", "-q", self.disk], check=True)
        init = self.base / "init"
        init.write_text(SCRIPT.format(tunables=TUNABLES, base=self.base, hoy=self.bin / "hoy"))
        init.chmod(0o755)
        proc = subprocess.Popen(["linux.uml", "mem=512M", "rootfstype=hostfs", "rootflags=/", "rw", f"init={init}", f"ubd0={self.disk}",
                                 "con=null", "quiet"], preexec_fn=refuse_xstate, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 300
        while "ready" not in (self.base / "confirmed").read_text() and time.monotonic() < deadline and proc.poll() is None:
            time.sleep(0.02)
        time.sleep(seconds)
        os.killpg(proc.pid, signal.SIGKILL)
        proc.wait()
        return (self.base / "confirmed").read_text().splitlines()

    def judge(self, confirmed):
        """List of what is wrong; how many images had been confirmed."""
        sure, wrong = set(), []
        for line in confirmed[1:]:
            sign, image = line.split(" ")
            (sure.add if sign == "+" else sure.discard)(image)
        mount = self.base / "mnt"
        mount.mkdir(exist_ok=True)
        shutil.rmtree(self.base / "live", ignore_errors=True)
        if run(["mount", "-o", "loop", self.disk, mount]).returncode:
            return ["the disk does not mount"], len(sure)
        engine = HoyEngine(self.base / "live", mount)
        try:
            r = engine.check()
            if r.returncode:
                wrong.append(f"verify: {(r.stdout + r.stderr)[-1000:]}")
            listed = set(engine.cmd("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split())
            wrong += [f"{image} is missing" for image in sure - listed]
            wrong += [f"{image}: {text}" for image in sorted(listed) if "none" not in image
                      for text in [look(engine, image, self.want[image])] if text]
            r = engine.cmd("import", self.base / "box0.tar", "again:1")
            text = r.stderr if r.returncode else look(engine, "again:1", self.want["base:1"])
            if text:
                wrong.append(f"again: {text}")
        finally:
            unmount(mount)
        return wrong, len(sure)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", default="/var/tmp")
    args = parser.parse_args()
    if any(pathlib.Path(args.scratch).resolve().is_relative_to(d) for d in ("/tmp", "/run")):
        parser.error("the guests have a /tmp and a /run of their own: a scratch directory elsewhere")
    random.seed(args.seed)
    sums = {"kills": 0, "clean": 0, "images confirmed": 0, "guests that got nowhere": 0}
    with tempfile.TemporaryDirectory(prefix="hoy-guests-", dir=args.scratch) as base:
        guests = Guests(pathlib.Path(base))
        for _ in range(args.count):
            confirmed = guests.boot(random.uniform(0.1, 12))
            sums["guests that got nowhere"] += not confirmed
            wrong, sure = guests.judge(confirmed) if confirmed else ([], 0)
            sums["kills"] += 1
            sums["clean"] += not wrong and bool(confirmed)
            sums["images confirmed"] += sure
            for text in wrong:
                print(f"kill {sums['kills']}: {text}", flush=True)
    print(json.dumps(sums))
    return 0 if sums["clean"] == sums["kills"] else 1


if __name__ == "__main__":
    sys.exit(main())
