#!/usr/bin/env python3
"""Cold reads in a container, hoy's two drivers in random order: medians of wall and CPU seconds.

usage: bench/reading.sh BUILD_DIR [ROUNDS]
"""
import contextlib
import os
import pathlib
import random
import subprocess
import tempfile
import time

from storage import BUILD, ROUNDS, Peer, Table, free_port, layout, run, tars, touch_memory, wait_port

COMMANDS = {"find /": "find / -xdev -printf '%s %T@ %m\\n' >/dev/null",
            "grep -r /usr/share/doc": "grep -rq no-such-thing /usr/share/doc || true",
            "grep -r /usr/share": "grep -rq no-such-thing /usr/share || true",
            "python3, four imports": "python3 -c 'import json, ssl, sqlite3, asyncio'",
            "node -e 1": "node -e 1",
            "tar /usr/lib": "tar -C /usr/lib -cf - . | cat >/dev/null",
            "tar /usr": "tar -C /usr -cf - . | cat >/dev/null"}
DISK_MB = 6500


@contextlib.contextmanager
def mounted(image, place):
    """The file system, with nothing of it in memory before."""
    loop = run(["losetup", "--direct-io=on", "-f", "--show", image]).stdout.strip()
    ahead = pathlib.Path("/sys/block", loop.removeprefix("/dev/"), "queue/read_ahead_kb")
    disk = os.stat(image).st_dev
    with contextlib.suppress(OSError):  # that of the disk below
        ahead.write_text(pathlib.Path(f"/sys/class/bdi/{os.major(disk)}:{os.minor(disk)}/read_ahead_kb").read_text())
    try:
        run(["mount", loop, place])
        yield
        for _ in range(100):  # mounts of containers go a little later
            if subprocess.run(["umount", place], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
    finally:
        run(["losetup", "-d", loop])


def one(peer, ref, command, figures):
    """Reads in a new container; without figures, nothing is noted."""
    peer("run", "-d", "--network", "none", "--name", "reader", ref, "sleep", "10000")
    peer("exec", "reader", "true")
    touch_memory()
    figures(peer("exec", "reader", "sh", "-c", command))
    peer("rm", "-f", "reader")


def fill(base, images, image, place, peers, port):
    """A file system with the image in a store of each driver."""
    (base / "registry.yml").write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {images}/registry\n"
                                       f"http:\n  addr: 127.0.0.1:{port}\nlog:\n  level: error\n")
    ref = f"127.0.0.1:{port}/big-zstd:1"
    server = subprocess.Popen(["docker-registry", "serve", base / "registry.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_port(port)
        oci = layout(images, "big", tars(images)["big"], "zstd")
        run(["skopeo", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", f"oci:{oci}:1", f"docker://{ref}"])
        run(["fallocate", "-l", f"{DISK_MB}M", image])
        run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard", image])
        place.mkdir()
        with mounted(image, place):
            for peer in peers.values():
                peer("pull", "-q", ref)
    finally:
        server.terminate()
    return ref


def main():
    keep = os.environ.get("HOY_BENCH_DIR")
    with tempfile.TemporaryDirectory(prefix="hoy-reading-", ignore_cleanup_errors=True, dir=keep) as tmp:
        base = pathlib.Path(tmp)
        image, place, table = base / "disk", base / "mnt", Table()
        peers = {d: Peer([str(BUILD / "src/main/hoy"), "--root", place / d, "--run", base / f"run-{d}", "--storage-driver", d])
                 for d in ("erofs", "overlay")}
        ref = fill(base, pathlib.Path(keep) if keep else base, image, place, peers, free_port())
        for _ in range(ROUNDS):
            for step, command in COMMANDS.items():
                for name in random.sample(sorted(peers), len(peers)):
                    with mounted(image, place):
                        one(peers[name], ref, command, lambda f, n=name, s=step: table.add(s, n, f))
        table.show()


if __name__ == "__main__":
    main()
