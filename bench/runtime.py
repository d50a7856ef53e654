#!/usr/bin/env python3
"""What `run` of one docker-like bundle takes: hoy-runtime, crun and runc in turn (A B C A B C ...).

usage: bench/runtime.sh BUILD_DIR [ROUNDS]
The bundle has what docker gives a container: its mounts, masks, 14 capabilities, all namespaces but user, device rules,
limits, and the default seccomp profile (podman's copy of it, resolved for those capabilities) inside config.json.
"""
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/it"))
from conftest import busybox_tree  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
PROFILE = pathlib.Path("/usr/share/containers/seccomp.json")
CAPS = ["CAP_" + c for c in ("CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE "
                             "SYS_CHROOT KILL AUDIT_WRITE").split()]


def applies(rule):
    """Whether a rule of the profile holds for CAPS on amd64."""
    want, never = rule.get("includes") or {}, rule.get("excludes") or {}
    caps = set(CAPS)
    if want.get("caps") and not set(want["caps"]) <= caps or set(never.get("caps") or []) & caps:
        return False
    return "amd64" in (want.get("arches") or ["amd64"]) and "amd64" not in (never.get("arches") or [])


def seccomp():
    """The profile as docker writes it into config.json."""
    profile = json.loads(PROFILE.read_text())
    rules = []
    for rule in profile["syscalls"]:
        if applies(rule):
            keep = {k: rule[k] for k in ("names", "action") if rule.get(k)}
            if rule.get("args"):
                keep["args"] = rule["args"]
            if rule.get("errnoRet") is not None:
                keep["errnoRet"] = rule["errnoRet"]
            rules.append(keep)
    return {"defaultAction": profile["defaultAction"],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules}


def mounts():
    """docker's default mounts."""
    def fs(dest, kind, *options):
        return {"destination": dest, "type": kind, "source": kind, "options": list(options)}
    return [fs("/proc", "proc", "nosuid", "noexec", "nodev"),
            fs("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            fs("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            fs("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            fs("/sys/fs/cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
            fs("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            fs("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=67108864")]


def device_rules():
    """docker's default device rules."""
    def rule(kind, major, minor, access="rwm"):
        numbers = {k: v for k, v in (("major", major), ("minor", minor)) if v is not None}
        return {"allow": True, "type": kind, **numbers, "access": access}
    return [{"allow": False, "access": "rwm"}, rule("c", None, None, "m"), rule("b", None, None, "m"), rule("c", 1, 3),
            rule("c", 1, 5), rule("c", 1, 7), rule("c", 5, 0), rule("c", 5, 2), rule("c", 136, None), rule("c", 1, 8),
            rule("c", 1, 9)]


def bundle(path, tree, name):
    """A bundle in path; its control group is NAME's own."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/",
                    "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=bench"],
                    "capabilities": {k: CAPS for k in ("bounding", "effective", "permitted")}, "oomScoreAdj": 0},
        "root": {"path": str(tree)}, "hostname": "bench", "mounts": mounts(),
        "linux": {"resources": {"devices": device_rules(), "memory": {"limit": 256 << 20}, "pids": {"limit": 200},
                                "cpu": {"shares": 512}},
                  "cgroupsPath": f"/bench-{name}", "seccomp": seccomp(),
                  "namespaces": [{"type": t} for t in ("mount", "network", "uts", "pid", "ipc", "cgroup")],
                  "maskedPaths": ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                                  "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
                  "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]}}))
    return path


def measure(tool, argv):
    """(wall ns, cpu us, max RSS KiB) of one run."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as answer:
        done = subprocess.run([tool, str(write_end), *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False, pass_fds=[write_end])
        os.close(write_end)
        if done.returncode:
            raise SystemExit(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
        return tuple(int(n) for n in answer.read().split())


def system_calls(argv):
    """Number of system calls of all processes, until the program's own first one."""
    with tempfile.NamedTemporaryFile("r") as out:
        subprocess.run(["strace", "-f", "-c", "-o", out.name, *argv], stdin=subprocess.DEVNULL, capture_output=True, check=True)
        total = [line for line in out.read().splitlines() if re.search(r"\btotal$", line)]
    return int(total[-1].split()[3]) if total else 0


def version(path):
    """First line of --version."""
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def main():
    build, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    subprocess.run(["umount", "/sys/fs/cgroup/unified"], capture_output=True, check=False)
    with tempfile.TemporaryDirectory(prefix="hoy-bench-") as name:
        base = pathlib.Path(name)
        tree = base / "tree"
        busybox_tree(tree)
        tool = str(base / "measure")
        run = base / "run"  # a tmpfs, as /run is, where all callers keep a runtime's state
        run.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(run)], check=True)
        subprocess.run(["cc", "-O2", "-static", "-o", tool, str(HERE / "measure.c")], check=True)
        found = {"hoy-runtime": str(build / "src/main/hoy-runtime")}
        found.update({n: shutil.which(n) for n in ("crun", "runc") if shutil.which(n)})
        argv = {n: [p, "--root", str(run / n), "run", "--bundle", str(bundle(base / n, tree, n)), f"bench-{n}"]
                for n, p in found.items()}
        rows = {n: [] for n in argv}
        for number in range(rounds + 2):
            for n, a in argv.items():
                sample = measure(tool, a)
                if number >= 2:
                    rows[n].append(sample)
        report(found, rows, {n: system_calls(a) for n, a in argv.items()}, rounds)
        subprocess.run(["umount", str(run)], check=True)


def report(found, rows, calls, rounds):
    """A markdown table; ratios are hoy's figure divided by the peer's."""
    load = os.getloadavg()[0]
    print(f"`run` of a docker-like bundle, {rounds} rounds interleaved, load {load:.1f}, Linux {os.uname().release}\n")
    print("| runtime | wall min | wall median | CPU median | peak memory | system calls | hoy's wall | hoy's CPU |")
    print("|---|---|---|---|---|---|---|---|")
    middle = {n: [statistics.median(s[i] for s in rows[n]) for i in range(3)] for n in rows}
    ours = middle["hoy-runtime"]
    for n in rows:
        wall, cpu, rss = middle[n]
        print(f"| {n} ({version(found[n]).split()[-1]}) | {min(s[0] for s in rows[n]) / 1e6:.2f} ms | {wall / 1e6:.2f} ms "
              f"| {cpu / 1e3:.2f} ms | {rss:.0f} KiB | {calls[n]} | {ours[0] / wall:.2f} | {ours[1] / cpu:.2f} |")


if __name__ == "__main__":
    main()
