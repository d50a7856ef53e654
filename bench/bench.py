#!/usr/bin/env python3
"""Runs each operation of hoy and its peers in turn (A B C A B C …) and prints medians, minima and ratios.

usage: bench/run.sh BUILD_DIR [ROUNDS]      peers that are not installed are named and left out
Runs in a private mount namespace; podman and docker use roots of their own below a temporary directory.
"""
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/it"))
from conftest import busybox_tree, free_port, wait_port  # noqa: E402

BUILD, ROUNDS = pathlib.Path(sys.argv[1]), int(sys.argv[2])


class Bench:
    """Commands by peer for one operation, timed in turn."""

    def __init__(self):
        self.rows = []

    def compare(self, title, commands, rounds=ROUNDS, before=None):
        """commands: {peer: argv}. before: {peer: argv} run untimed ahead of each round."""
        wall, cpu = {p: [] for p in commands}, {p: [] for p in commands}
        failed = {}
        for number in range(rounds + 1):
            for peer, argv in commands.items():
                if peer in failed:
                    continue
                if before and peer in before:
                    subprocess.run(before[peer], capture_output=True, check=False)
                used = resource.getrusage(resource.RUSAGE_CHILDREN)
                start = time.monotonic()
                done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
                seconds = time.monotonic() - start
                now = resource.getrusage(resource.RUSAGE_CHILDREN)
                if done.returncode:
                    failed[peer] = (done.stderr or done.stdout).strip().splitlines()[-1:]
                elif number:
                    wall[peer].append(seconds)
                    cpu[peer].append(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
        print(f"\n{title}  ({rounds} rounds, interleaved)")
        base = statistics.median(wall["hoy"]) if wall.get("hoy") else None
        for peer in commands:
            if peer in failed:
                print(f"  {peer:10} failed: {failed[peer]}")
                continue
            median = statistics.median(wall[peer])
            ratio = f"{median / base:6.2f} x hoy" if base else ""
            print(f"  {peer:10} median {median * 1000:8.1f} ms   min {min(wall[peer]) * 1000:8.1f} ms"
                  f"   cpu {statistics.median(cpu[peer]) * 1000:7.1f} ms   {ratio}")


class Peers:
    """hoy, podman and docker, each with a private root and the same busybox image."""

    def __init__(self, base):
        self.base = base
        self.daemon = None
        os.environ.update(HOY_ROOT=str(base / "hoy"), HOY_RUN=str(base / "hoy-run"))
        self.cli = {"hoy": [str(BUILD / "src/main/hoy")]}
        subprocess.run(["umount", "/sys/fs/cgroup/unified"], capture_output=True, check=False)
        if shutil.which("podman"):
            self.podman()
        if shutil.which("dockerd"):
            self.docker()

    def podman(self):
        """Configuration that Debian's podman wants here."""
        conf = self.base / "containers.conf"
        conf.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n[engine]\ncgroup_manager = "cgroupfs"\n')
        os.environ["CONTAINERS_CONF"] = str(conf)
        self.cli["podman"] = ["podman", "--root", str(self.base / "podman"), "--runroot", str(self.base / "podman-run"),
                              "--storage-driver", "overlay"]

    def docker(self):
        """A private dockerd in a network namespace of its own (its firewall rules stay there)."""
        sock = self.base / "docker.sock"
        subprocess.run(["ip", "netns", "add", "hoy-bench"], check=True)
        subprocess.run(["ip", "-n", "hoy-bench", "link", "set", "lo", "up"], check=True)
        self.daemon = subprocess.Popen(
            ["nsenter", "--net=/run/netns/hoy-bench", "dockerd", "--data-root", str(self.base / "docker"), "--exec-root",
             str(self.base / "docker-run"), "-H", f"unix://{sock}", "--pidfile", str(self.base / "docker.pid"),
             "--exec-opt", "native.cgroupdriver=cgroupfs", "--default-ulimit", "nofile=1024:1024"],
            stdout=subprocess.DEVNULL, stderr=open(self.base / "dockerd.log", "w", encoding="utf-8"))
        for _ in range(150):
            if sock.exists() and subprocess.run(["docker", "-H", f"unix://{sock}", "version"], capture_output=True,
                                                check=False).returncode == 0:
                self.cli["docker"] = ["docker", "-H", f"unix://{sock}"]
                return
            time.sleep(0.2)
        print("docker: the daemon did not start; left out")

    def stop(self):
        """Ends the daemon and removes what was made."""
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait(30)
            subprocess.run(["ip", "netns", "del", "hoy-bench"], capture_output=True, check=False)
        subprocess.run([*self.cli["hoy"], "system", "reset", "--force"], capture_output=True, check=False)
        if "podman" in self.cli:
            subprocess.run([*self.cli["podman"], "system", "reset", "--force"], capture_output=True, check=False)

    def each(self, *args):
        """{peer: argv} of the same arguments."""
        return {peer: [*argv, *args] for peer, argv in self.cli.items()}


def runtimes(base, tree):
    """{runtime: argv} to run one bundle."""
    bundle = base / "bundle"
    bundle.mkdir()
    (bundle / "rootfs").symlink_to(tree)
    maker = shutil.which("crun") or shutil.which("runc")
    if not maker:
        print("bare runtime: needs crun or runc")
        return {}
    subprocess.run([maker, "spec"], cwd=bundle, check=True)
    path = bundle / "config.json"
    spec = json.loads(path.read_text())
    spec["process"].pop("rlimits", None)
    spec["process"].update(args=["true"], terminal=False)
    spec["root"]["path"] = str(tree)
    path.write_text(json.dumps(spec))
    found = {"hoy": [str(BUILD / "src/main/hoy-runtime"), "--root", str(base / "rt-hoy")]}
    for name in ("crun", "runc"):
        if shutil.which(name):
            found[name] = [name, "--root", str(base / f"rt-{name}")]
    return {name: [*argv, "run", "--bundle", str(bundle), f"bench-{name}"] for name, argv in found.items()}


def main():
    b = Bench()
    with tempfile.TemporaryDirectory(prefix="hoy-bench-", ignore_cleanup_errors=True) as name:
        base = pathlib.Path(name)
        tree = base / "tree"
        busybox_tree(tree)
        tar = base / "busybox.tar"
        subprocess.run(["tar", "-C", str(tree), "-cf", str(tar), "."], check=True)
        peers = Peers(base)
        try:
            for argv in peers.each("import", str(tar), "busybox").values():
                subprocess.run(argv, check=True, capture_output=True)
            b.compare("run --rm busybox true (bridge)", peers.each("run", "--rm", "busybox", "true"))
            b.compare("run --rm busybox true (no network)",
                      peers.each("run", "--rm", "--network", "none", "busybox", "true"))
            b.compare("bare runtime: run of a bundle", runtimes(base, tree), ROUNDS * 2)
            memory(peers)
            build(b, peers, base)
            pull(b, peers, base)
        finally:
            peers.stop()


def memory(peers):
    """Private memory of what stays resident for one idle container, besides the container itself."""
    hoy = peers.cli["hoy"]
    subprocess.run([*hoy, "run", "-d", "--name", "idle", "busybox", "sleep", "1000"], check=True, capture_output=True)
    keeper = json.loads((pathlib.Path(os.environ["HOY_RUN"]) / subprocess.run(
        [*hoy, "inspect", "--format", "{{.Id}}", "idle"], capture_output=True, text=True, check=True).stdout.strip()
        / "status").read_text())["Keeper"]
    print(f"\nprivate memory for one idle container\n  hoy        {private_kib(keeper)} KiB (hoy-keeper)")
    subprocess.run([*hoy, "rm", "-f", "idle"], check=True, capture_output=True)
    if "podman" in peers.cli:
        podman = peers.cli["podman"]
        cid = subprocess.run([*podman, "run", "-d", "busybox", "sleep", "1000"], capture_output=True, text=True,
                             check=False).stdout.strip()
        shims = [p for p in pathlib.Path("/proc").glob("[0-9]*/cmdline")
                 if cid and f"-c\0{cid}" in p.read_bytes().decode(errors="replace")]
        for p in shims[:1]:
            print(f"  podman     {private_kib(p.parent.name)} KiB (conmon)")
        subprocess.run([*podman, "rm", "-f", "-t", "0", cid], capture_output=True, check=False)
    if "docker" in peers.cli:
        docker = peers.cli["docker"]
        cid = subprocess.run([*docker, "run", "-d", "busybox", "sleep", "1000"], capture_output=True, text=True,
                             check=False).stdout.strip()
        for p in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            text = p.read_bytes().decode(errors="replace")
            if "containerd-shim" in text and cid and cid in text:
                print(f"  docker     {private_kib(p.parent.name)} KiB (containerd-shim), and the daemons")
        subprocess.run([*docker, "rm", "-f", cid], capture_output=True, check=False)


def private_kib(pid):
    """Private_Clean + Private_Dirty of a process."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def build(b, peers, base):
    """A Dockerfile of 12 steps, cold and cached."""
    ctx = base / "ctx"
    ctx.mkdir()
    lines = ["FROM busybox"]
    for i in range(6):
        (ctx / f"f{i}").write_text("x" * 1000 * (i + 1))
        lines += [f"COPY f{i} /f{i}", f"RUN echo {i} > /r{i}"]
    (ctx / "Dockerfile").write_text("\n".join(lines) + "\n")
    os.environ["DOCKER_BUILDKIT"] = "0"
    b.compare("build, 12 steps, cold", peers.each("build", "--no-cache", "-t", "built", str(ctx)), 3)
    for argv in peers.each("build", "-t", "built", str(ctx)).values():
        subprocess.run(argv, capture_output=True, check=False)
    b.compare("build, 12 steps, cached", peers.each("build", "-t", "built", str(ctx)), 5)


def pull(b, peers, base):
    """A ~170 MB Debian image from a registry on loopback; dockerd has one on the loopback of its own, with the same data."""
    if not shutil.which("docker-registry") or "podman" not in peers.cli:
        print("pull: needs docker-registry, and podman to push the gzip image")
        return
    debian = pathlib.Path(os.environ.get("HOY_DEBIAN_TAR", base / "debian.tar"))
    if not debian.exists():
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(debian)], check=True)
    port = free_port()
    (base / "registry.yml").write_text("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: "
                                       f"{base}/registry\nhttp:\n  addr: 127.0.0.1:{port}\n")
    serve = ["docker-registry", "serve", str(base / "registry.yml")]
    inside = ["nsenter", "--net=/run/netns/hoy-bench"]
    servers = [subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for argv in [serve] + [inside + serve] * ("docker" in peers.cli)]
    try:
        wait_port(port)
        ref = f"127.0.0.1:{port}/debian:1"
        subprocess.run([*peers.cli["podman"], "import", str(debian), ref], check=True, capture_output=True)
        subprocess.run([*peers.cli["podman"], "push", "--tls-verify=false", ref], check=True, capture_output=True)
        commands = peers.each("pull", ref)
        commands["podman"] = [*peers.cli["podman"], "pull", "--tls-verify=false", ref]
        b.compare("pull of a debian image (gzip, loopback registry)", commands, 5, peers.each("rmi", "-f", ref))
    finally:
        for server in servers:
            server.terminate()
            server.wait(10)


if __name__ == "__main__":
    main()
