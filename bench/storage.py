#!/usr/bin/env python3
"""Storage of hoy and its peers in random order: medians of wall and CPU seconds, daemons included, and ratios.

usage: bench/storage.sh BUILD_DIR [ROUNDS]
What a command leaves to be written is synced before the next one begins, and the time that takes is told.
"""
import contextlib
import hashlib
import io
import json
import mmap
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/it"))
from conftest import free_port, wait_port  # noqa: E402

BUILD, ROUNDS = pathlib.Path(sys.argv[1]), int(sys.argv[2])
BIG = "python3,build-essential,golang-go,git,cmake,nodejs,default-jre-headless"


def run(argv, **more):
    """Runs it; its output is of no interest unless it fails."""
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL, **more)


# ---- images ----

def small_files(path, count=60000):
    """A layer of small files of source text, in many directories and one large one, upon a busybox to run."""
    words = [w for p in ("/usr/include/stdio.h", "/usr/include/stdlib.h") for w in pathlib.Path(p).read_text(encoding="utf-8").split()]
    rng = random.Random(1)
    with tarfile.open(path, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        link = tarfile.TarInfo("bin/true")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
        for i in range(count):
            text = " ".join(rng.choices(words, k=rng.randint(10, 800))).encode()
            name = f"srv/flat/f{i}" if i % 4 == 0 else f"srv/tree/d{i % 97}/e{i % 31}/f{i}"
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(text), 1700000000 + i
            tar.addfile(info, io.BytesIO(text))


def tars(base):
    """{name: plain tar}."""
    want = {"debian": base / "debian.tar", "big": base / "big.tar", "small": base / "small.tar"}
    for name, packages in (("debian", ""), ("big", BIG)):
        if not want[name].exists():
            run(["mmdebstrap", "--variant=minbase", *([f"--include={packages}"] if packages else []), "bookworm", want[name]])
    if not want["small"].exists():
        small_files(want["small"])
    return want


def sha(path):
    return hashlib.file_digest(open(path, "rb"), "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
        run(["sha256sum", path]).stdout.split()[0]


def layout(base, name, tar, kind):
    """An OCI layout of the one layer, made once."""
    out = base / f"{name}-{kind}"
    if (out / "index.json").exists():
        return out
    blobs = out / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    packed = base / "packed"
    tool = {"gzip": ["gzip", "-n", "-6", "-c"], "zstd": ["zstd", "-q", "-3", "-c"]}[kind]
    with open(packed, "wb") as f:
        subprocess.run([*tool, tar], stdout=f, check=True)
    digest = sha(packed)
    packed.rename(blobs / digest)

    def put(doc):
        text = json.dumps(doc).encode()
        d = hashlib.sha256(text).hexdigest()
        (blobs / d).write_bytes(text)
        return d, len(text)

    config, size = put({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"], "Env": ["PATH=/usr/bin:/bin"]},
                        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha(tar)}"]}})
    manifest, msize = put({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                           "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": f"sha256:{config}", "size": size},
                           "layers": [{"mediaType": f"application/vnd.oci.image.layer.v1.tar+{kind}", "digest": f"sha256:{digest}",
                                       "size": (blobs / digest).stat().st_size}]})
    (out / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (out / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": f"sha256:{manifest}", "size": msize,
         "annotations": {"org.opencontainers.image.ref.name": "1"}}]}))
    return out


# ---- peers ----

class Peer:
    """A command line, with the daemons whose CPU is its own, too."""

    def __init__(self, argv, env=(), insecure=(), daemons=()):
        self.argv, self.env, self.insecure, self.daemons = argv, dict(os.environ, **dict(env)), list(insecure), list(daemons)

    def daemon_cpu(self):
        """Of the daemons and of the children that they have waited for."""
        ticks = 0
        for pid in self.daemons:
            with contextlib.suppress(OSError):
                ticks += sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def __call__(self, *args, check=True):
        """(wall, CPU, what a sync takes afterwards) in seconds."""
        before, used, start = self.daemon_cpu(), resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run([*self.argv, *map(str, args)], env=self.env, capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL)
        wall, now = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime + self.daemon_cpu() - before
        start = time.monotonic()
        os.sync()
        if check and done.returncode:
            raise RuntimeError((done.stderr or done.stdout).strip().splitlines()[-1:])
        return wall, cpu, time.monotonic() - start


def start_docker(base):
    """A private dockerd without networks, and its containerd."""
    sock = base / "docker.sock"
    daemon = subprocess.Popen(["dockerd", "--data-root", base / "docker", "--exec-root", base / "docker-run", "-H", f"unix://{sock}",
                               "--pidfile", base / "docker.pid", "--bridge=none", "--iptables=false", "--ip-forward=false",
                               "--exec-opt", "native.cgroupdriver=cgroupfs"],
                              stdout=subprocess.DEVNULL, stderr=open(base / "dockerd.log", "w", encoding="utf-8"))
    argv = ["docker", "-H", f"unix://{sock}"]
    for _ in range(150):
        if sock.exists() and subprocess.run([*argv, "version"], capture_output=True, check=False).returncode == 0:
            kids = pathlib.Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
            return daemon, Peer(argv, daemons=[daemon.pid, *kids])
        time.sleep(0.2)
    print("docker: the daemon did not start; left out")
    daemon.terminate()
    return None, None


def find_peers(base):
    """{name: Peer}, and the daemon to end."""
    hoy = str(BUILD / "src/main/hoy")
    peers = {d: Peer([hoy, "--root", base / f"hoy-{d}", "--run", base / f"run-{d}", "--storage-driver", d]) for d in ("erofs", "overlay")}
    daemon = None
    if shutil.which("podman"):
        conf = base / "containers.conf"
        conf.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n[engine]\ncgroup_manager = "cgroupfs"\n')
        peers["podman"] = Peer(["podman", "--root", base / "podman", "--runroot", base / "podman-run", "--storage-driver", "overlay"],
                               env={"CONTAINERS_CONF": str(conf)}, insecure=["--tls-verify=false"])
    if shutil.which("dockerd"):
        daemon, peer = start_docker(base)
        if peer:
            peers["docker"] = peer
    return peers, daemon


@contextlib.contextmanager
def disk(image):
    """Where the stores are: with HOY_BENCH_EXT4=GB an ext4 of its own, as mkfs and mount make it by default; else below image's directory."""
    place, size = image.parent / "s", os.environ.get("HOY_BENCH_EXT4")
    place.mkdir()
    if not size:
        yield place
        return
    run(["fallocate", "-l", f"{size}G", image])
    run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard", image])
    loop = run(["losetup", "--direct-io=on", "-f", "--show", image]).stdout.strip()
    try:
        run(["mount", loop, place])
        yield place
    finally:
        for _ in range(100):  # mounts of containers go a little later
            if subprocess.run(["umount", "-R", place], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        run(["losetup", "-d", loop])


# ---- measuring ----

TOUCHED = 3 << 30


def touch_memory():
    """A virtual machine may have given its free memory back to the host: getting it again is not what is measured."""
    with contextlib.closing(mmap.mmap(-1, TOUCHED)) as m:
        for i in range(0, TOUCHED, 4096):
            m[i] = 1


class Table:
    """{step: {peer: [(wall, cpu, sync)]}}."""

    def __init__(self):
        self.rows = {}

    def add(self, step, peer, figures):
        self.rows.setdefault(step, {}).setdefault(peer, []).append(figures)

    def show(self):
        for step, row in self.rows.items():
            base = statistics.median(f[0] for f in row["erofs"]) if "erofs" in row else None
            print(f"{step}")
            for peer, figures in row.items():
                wall, cpu, sync = (statistics.median(f[i] for f in figures) for i in range(3))
                ratio = f"  {wall / base:6.2f} x" if base else ""
                least = min(f[0] for f in figures)
                print(f"  {peer:8} wall {wall:7.3f} s (min {least:6.3f})  cpu {cpu:7.3f} s  sync {sync:6.3f} s{ratio}", flush=True)


def one_round(peers, table, ref, label, base):
    """Everything that is done with one image, peer by peer."""
    for name, peer in random.sample(sorted(peers.items()), len(peers)):
        archive = base / f"{name}.tar"
        archive.unlink(missing_ok=True)
        touch_memory()
        try:
            table.add(f"{label}: pull", name, peer("pull", "-q", *peer.insecure, ref))
            table.add(f"{label}: first run", name, peer("run", "--rm", "--network", "none", ref, "true"))
            if "gzip" in label:
                table.add(f"{label}: save", name, peer("save", "-o", archive, ref))
            table.add(f"{label}: rmi", name, peer("rmi", "-f", ref))
            if archive.exists():
                touch_memory()
                table.add(f"{label}: load", name, peer("load", "-q", "-i", archive))
                peer("rmi", "-f", ref)
        except RuntimeError as e:
            print(f"{label}: {name}: {e}")
            peer("rmi", "-f", ref, check=False)
        archive.unlink(missing_ok=True)


def reading(peers, table, ref, rounds):
    """Warm reads in a container, hoy's two drivers; -v so that nothing but reading is measured."""
    commands = {"find": "find / -xdev -printf '%s %T@ %m\\n' >/dev/null", "tar": "tar -C /usr -cf - . | cat >/dev/null",
                "grep -r": "grep -rq no-such-thing /usr/share || true",
                "python3 start": "python3 -c 'import json, ssl, sqlite3, asyncio'"}
    for name in ("erofs", "overlay"):
        peers[name]("pull", "-q", ref)
        peers[name]("run", "-d", "--network", "none", "--name", "reader", ref, "sleep", "10000")
    for step, command in commands.items():
        for number in range(rounds + 1):
            for name in ("erofs", "overlay"):
                figures = peers[name]("exec", "reader", "sh", "-c", command)
                table.add(f"reading {step}, {'warm' if number else 'first'}", name, figures)
    for name in ("erofs", "overlay"):
        peers[name]("rm", "-f", "reader")
        peers[name]("rmi", "-f", ref)


def floor(table, base, blob, label):
    """Inflate, hash both sides, write, sync: what cannot be left out, by the same libraries, in two threads."""
    touch_memory()
    table.add(f"{label}: pull", "floor", Peer([base / "floor"])(blob, base / "floor.out"))
    (base / "floor.out").unlink()


def prepare(images, port):
    """Each image in the registry: [(reference, label, layer blob)]."""
    refs = []
    for name, tar in tars(images).items():
        for kind in ("gzip", "zstd"):
            ref, oci = f"127.0.0.1:{port}/{name}-{kind}:1", layout(images, name, tar, kind)
            run(["skopeo", "copy", "-q", "--preserve-digests", "--dest-tls-verify=false", f"oci:{oci}:1", f"docker://{ref}"])
            refs.append((ref, f"{name} {kind}", max((oci / "blobs/sha256").iterdir(), key=lambda f: f.stat().st_size)))
    return refs


def measure(base, refs):
    """All of it, with stores below base."""
    peers, daemon = find_peers(base)
    table = Table()
    try:
        run(["cc", "-O2", "-o", base / "floor", pathlib.Path(__file__).parent / "floor.c", "-lisal", "-lzstd", "-lcrypto", "-lpthread"])
        for _ in range(ROUNDS):
            for ref, label, blob in refs:
                one_round(peers, table, ref, label, base)
                floor(table, base, blob, label)
        reading(peers, table, next(r for r, label, _ in refs if label == "big zstd"), ROUNDS)
    finally:
        table.show()
        if daemon:
            daemon.terminate()
            daemon.wait(30)
        for name in ("erofs", "overlay"):
            peers[name]("system", "reset", "--force", check=False)
        if "podman" in peers:
            peers["podman"]("system", "reset", "--force", check=False)


def main():
    keep = os.environ.get("HOY_BENCH_DIR")
    with tempfile.TemporaryDirectory(prefix="b-", ignore_cleanup_errors=True, dir=keep) as tmp:
        base = pathlib.Path(tmp)
        images = pathlib.Path(keep) if keep else base
        port = free_port()
        (base / "registry.yml").write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {images}/registry\n"
                                           f"http:\n  addr: 127.0.0.1:{port}\nlog:\n  level: error\n")
        server = subprocess.Popen(["docker-registry", "serve", str(base / "registry.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_port(port)
            refs = prepare(images, port)
            with disk(base / "disk") as place:
                measure(place, refs)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
