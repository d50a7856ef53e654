"""What is on the host: taken before and after each whole-program test; the two must be equal.

Run by hand: python3 tests/it/census.py            prints it as JSON
"""
import json
import os
import pathlib
import re
import subprocess
import sys


def _out(*cmd):
    try:
        return subprocess.run(cmd, capture_output=True, text=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return []


def _links():
    """Names of links, without those of a veth's index, sorted."""
    return sorted(re.sub(r"@.*", "", line.split(": ")[1]) for line in _out("ip", "-o", "link"))


def _ruleset():
    """nft rules of every table, without counters and handles."""
    return [re.sub(r"counter packets \d+ bytes \d+", "counter", line) for line in _out("nft", "list", "ruleset")]


def _processes():
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        name = os.path.basename(argv[0].decode(errors="replace"))
        if name.startswith("hoy"):
            found.append(name)
    return sorted(found)


def _cgroups():
    found = []
    for top, dirs, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(top, d) for d in dirs if "hoy" in os.path.join(top, d)]
    return sorted(found)


def _mounts():
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted(" ".join(line.split()[3:5]) for line in lines)


# What the peers and mount(8) keep in /run once they were used; not ours to judge.
PEERS = {"buildah", "containerd", "containers", "crun", "docker", "docker.sock", "libpod", "lock", "mount", "netns", "podman", "runc", "user"}


def _names(path):
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


OURS = ""  # loop devices on files elsewhere are not counted


def _loops():
    """The files behind loop devices."""
    return sorted(x.strip() for x in _out("losetup", "-n", "-O", "BACK-FILE") if x.strip().startswith(OURS))


def _sysctls():
    values = {}
    for name in ("ip_forward", "conf/all/forwarding", "conf/all/route_localnet"):
        try:
            values[name] = pathlib.Path("/proc/sys/net/ipv4", name).read_text().strip()
        except OSError:
            pass
    return values


def census():
    """A dictionary of lists; equal before and after means that nothing was left."""
    return {
        "nft": _ruleset(),
        "links": _links(),
        "netns": _names("/run/netns"),
        "mounts": _mounts(),
        "cgroups": _cgroups(),
        "processes": _processes(),
        "run": [n for n in _names("/run") if n not in PEERS],
        "loop": _loops(),
        "sysctl": _sysctls(),
    }


def difference(before, after):
    """Lines that tell what came and what went; empty when equal."""
    lines = []
    for key in before:
        if before[key] == after[key]:
            continue
        if isinstance(before[key], dict):
            lines.append(f"{key}: {before[key]} -> {after[key]}")
            continue
        old, new = list(before[key]), list(after[key])
        for item in list(old):
            if item in new:
                old.remove(item)
                new.remove(item)
        lines += [f"{key}: gone: {item}" for item in old] + [f"{key}: left behind: {item}" for item in new]
    return lines


if __name__ == "__main__":
    json.dump(census(), sys.stdout, indent=1)
    print()
