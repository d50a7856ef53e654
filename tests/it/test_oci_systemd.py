"""The systemd cgroup manager against a real systemd: PID 1 of namespaces of its own, with nothing but an empty target."""
import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from conftest import BUILD
from test_oci_cli import rootfs  # noqa: F401  (a fixture)
from test_oci_criu import real  # noqa: F401

RUNTIME = str(BUILD / "src/main/hoy-runtime")
BOOT = """
mount --make-rprivate /
# Hierarchies that begin at our own group, in a directory of our own: systemd makes groups at their root and mounts it read-only.
umount -l -R /sys/fs/cgroup && mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup || exit 1
cut -d: -f2 /proc/self/cgroup | while read -r c; do
	[ -n "$c" ] || continue
	o=$c d=${c#name=}
	[ "$d" = "$c" ] || o=none,$c
	mkdir "/sys/fs/cgroup/$d" && mount -t cgroup -o "$o" cgroup "/sys/fs/cgroup/$d"
done
mount -t tmpfs tmpfs /run && mkdir -p /run/lock /run/systemd/system
printf '[Unit]\\nDescription=nothing\\n' >/run/systemd/system/nothing.target
export container=test
exec /lib/systemd/systemd --system --unit=nothing.target --log-target=null --show-status=0 </dev/null
"""


def group_dirs():
    """The directory of a group of the test's own in each hierarchy, below the root of its mount."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] in ("cgroup", "cgroup2"):
            yield pathlib.Path(fields[4], f"hoy-systemd-{os.getpid()}")


def make_groups():
    """Makes them; a cpuset is empty at first and takes nobody."""
    for d in group_dirs():
        d.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (d / name).exists():
                (d / name).write_text((d.parent / name).read_text())


def remove_groups():
    """Removes them and all below, once the last process has gone."""
    deadline = time.monotonic() + 60
    while any(d.exists() for d in group_dirs()) and time.monotonic() < deadline:
        for top in group_dirs():
            for d in sorted(p for p in [top, *top.rglob("*")] if p.is_dir())[::-1]:
                try:
                    d.rmdir()
                except OSError:
                    time.sleep(0.01)
    assert not [d for d in group_dirs() if d.exists()]


def join_groups():
    """In the child, before it makes its namespaces."""
    for d in group_dirs():
        (d.parent / f"hoy-systemd-{os.getppid()}" / "cgroup.procs").write_text("0")


class Systemd:
    """A running systemd and commands beside it."""

    def __init__(self):
        make_groups()
        self.proc = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--cgroup", "--uts",
                                      "--ipc", "--", "sh", "-c", BOOT], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     preexec_fn=join_groups)
        self.pid = None
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.proc.poll() is None:
            with open(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children", encoding="ascii") as f:
                self.pid = (f.read().split() or [None])[0]
            if self.pid and self("systemctl", "is-active", "nothing.target").stdout == "active\n":
                return
            time.sleep(0.1)
        self.stop()
        pytest.skip("needs a systemd that can run as PID 1 of namespaces here")

    def __call__(self, *argv, **more):
        """Runs a command where systemd is PID 1."""
        return subprocess.run(["nsenter", "-t", self.pid, "-m", "-p", "-C", "-u", "-i", *map(str, argv)], capture_output=True,
                              text=True, timeout=120, check=False, stdin=subprocess.DEVNULL, **more)

    def show(self, unit, *names):
        """Properties of a unit."""
        text = self("systemctl", "show", unit, *[f"-p{n}" for n in names]).stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    def stop(self):
        """Ends it and all it runs."""
        self.proc.kill()
        self.proc.wait()
        remove_groups()


@pytest.fixture(scope="module")
def systemd():
    """One for all tests."""
    if not os.path.exists("/lib/systemd/systemd") or not shutil.which("systemctl"):
        pytest.skip("needs systemd")
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        pytest.skip("needs control groups v1 (v2: tests/v2)")
    s = Systemd()
    yield s
    s.stop()


@pytest.fixture
def bundle(tmp_path, rootfs):  # noqa: F811
    """A bundle's directory and configuration."""
    subprocess.run([RUNTIME, "spec", "-b", str(tmp_path)], check=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["root"] = {"path": str(rootfs), "readonly": True}
    config["process"].update(terminal=False, rlimits=[], args=["sleep", "1000"])
    return tmp_path, config


def oci(systemd, bundle, *args, code=0):
    """hoy-runtime with the systemd manager beside that systemd."""
    path, config = bundle
    (path / "config.json").write_text(json.dumps(config))
    script = f'cd {path}; exec {RUNTIME} --root {path}/root --systemd-cgroup "$@" >{path}/out 2>{path}/err'
    r = systemd("sh", "-c", script, "sh", *args)
    out, err = (path / "out").read_text(), (path / "err").read_text()
    assert r.returncode == code, f"{args}: exit {r.returncode}\n{out}\n{err}"
    return out + err


def test_a_container_is_a_scope_with_its_limits(systemd, bundle):
    config = bundle[1]
    config["linux"]["cgroupsPath"] = "outer-inner.slice:pre:one"
    config["linux"]["resources"].update(memory={"limit": 67108864}, pids={"limit": 33},
                                        cpu={"shares": 512, "quota": 50000, "period": 100000})
    config["annotations"] = {"org.systemd.property.TimeoutStopUSec": "uint64 3000000", "org.systemd.property.CollectMode":
                             "'inactive-or-failed'", "org.systemd.property.Description": '"told so"',
                             "org.systemd.property.Documentation": "['man:a(1)', 'man:b(2)']"}
    oci(systemd, bundle, "run", "-d", "one")
    shown = systemd.show("pre-one.scope", "Slice", "MemoryLimit", "TasksMax", "CPUShares", "CPUQuotaPerSecUSec", "Delegate",
                         "TimeoutStopUSec", "Description", "ActiveState", "ControlGroup", "CollectMode", "Documentation")
    group = "/outer.slice/outer-inner.slice/pre-one.scope"
    assert shown == {"Slice": "outer-inner.slice", "MemoryLimit": "67108864", "TasksMax": "33", "CPUShares": "512",
                     "CPUQuotaPerSecUSec": "500ms", "Delegate": "yes", "TimeoutStopUSec": "3s", "Description": "told so",
                     "ActiveState": "active", "ControlGroup": group, "CollectMode": "inactive-or-failed",
                     "Documentation": '"man:a(1)" "man:b(2)"'}
    pid = json.loads(oci(systemd, bundle, "state", "one"))["pid"]
    assert {line.split(":")[2] for line in systemd("cat", f"/proc/{pid}/cgroup").stdout.splitlines() if not line.startswith("0:")} == {group}
    assert systemd("cat", f"/sys/fs/cgroup/memory{group}/memory.limit_in_bytes").stdout == "67108864\n"
    oci(systemd, bundle, "update", "--pids-limit", "44", "--memory", "128m", "one")
    assert systemd.show("pre-one.scope", "TasksMax", "MemoryLimit") == {"TasksMax": "44", "MemoryLimit": "134217728"}
    assert systemd("cat", f"/sys/fs/cgroup/pids{group}/pids.max").stdout == "44\n"
    systemd("systemctl", "daemon-reload")  # systemd writes what it knows: nothing may be lost
    assert systemd("cat", f"/sys/fs/cgroup/memory{group}/memory.limit_in_bytes").stdout == "134217728\n"
    oci(systemd, bundle, "delete", "-f", "one")
    assert systemd.show("pre-one.scope", "LoadState")["LoadState"] == "not-found"
    assert systemd("find", "/sys/fs/cgroup", "-name", "pre-one.scope").stdout == ""


def test_defaults_and_a_group_below_the_scope(systemd, bundle):
    bundle[1]["annotations"] = {"run.oci.systemd.subgroup": "payload"}
    oci(systemd, bundle, "run", "-d", "two")
    pid = json.loads(oci(systemd, bundle, "state", "two"))["pid"]
    assert ":/system.slice/hoy-two.scope/payload\n" in systemd("cat", f"/proc/{pid}/cgroup").stdout
    oci(systemd, bundle, "delete", "-f", "two")
    assert systemd.show("hoy-two.scope", "LoadState")["LoadState"] == "not-found"


def test_again_and_again_under_the_same_name(systemd, bundle):
    for _ in range(20):
        oci(systemd, bundle, "run", "-d", "three")
        oci(systemd, bundle, "delete", "-f", "three")
    bundle[1]["process"]["args"] = ["true"]
    oci(systemd, bundle, "run", "three")
    bundle[1]["process"]["args"] = ["nosuch"]
    assert "not found" in oci(systemd, bundle, "run", "three", code=1)
    assert systemd.show("hoy-three.scope", "LoadState")["LoadState"] == "not-found"
    assert systemd("find", "/sys/fs/cgroup", "-name", "hoy-three.scope").stdout == ""


@pytest.mark.parametrize("path, annotation, says", [
    ("/a/b", None, "slice:prefix:name"),
    ("bad:pre:x", None, "no name of a systemd slice"),
    ("", ("NoSuchProperty", "true"), "NoSuchProperty"),
    ("", ("TimeoutStopUSec", "uint64 soon"), "org.systemd.property.TimeoutStopUSec"),
])
def test_what_systemd_cannot_do_is_an_error_and_leaves_nothing(systemd, bundle, path, annotation, says):
    bundle[1]["linux"]["cgroupsPath"] = path
    if annotation:
        bundle[1]["annotations"] = {f"org.systemd.property.{annotation[0]}": annotation[1]}
    assert says in oci(systemd, bundle, "run", "-d", "four", code=1)
    assert not os.listdir(bundle[0] / "root")
    assert systemd("find", "/sys/fs/cgroup", "-name", "*four*").stdout == ""


def test_without_systemd_the_error_says_what_to_do(bundle):
    path, config = bundle
    (path / "config.json").write_text(json.dumps(config))
    script = "mount -t tmpfs tmpfs /run && exec \"$@\""
    r = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", RUNTIME, "--root", str(path / "root"), "--systemd-cgroup", "run",
                        "-b", str(path), "five"], capture_output=True, text=True, check=False)
    assert r.returncode == 1 and "systemd cannot be reached" in r.stderr and "--cgroup-manager=cgroupfs" in r.stderr


def test_a_restored_container_is_in_a_scope_of_its_own(systemd, bundle, real):  # noqa: F811
    path, config = bundle
    config["linux"]["resources"].update(memory={"limit": 67108864})

    def direct(*args):  # with streams that an image can hold
        (path / "config.json").write_text(json.dumps(config))
        r = systemd("sh", "-c", f'cd {path}; exec {RUNTIME} --root {path}/root --systemd-cgroup --log {path}/err "$@" >/dev/null 2>&1',
                    "sh", *args)
        assert r.returncode == 0, (args, (path / "err").read_text())

    direct("run", "-d", "old")
    direct(*real, "checkpoint", "--image-path", "img", "old")
    assert systemd.show("hoy-old.scope", "LoadState")["LoadState"] == "not-found"
    config["linux"]["resources"].update(memory={"limit": 134217728})
    direct(*real, "restore", "-d", "--image-path", "img", "new")
    shown = systemd.show("hoy-new.scope", "ActiveState", "MemoryLimit", "ControlGroup")
    assert shown == {"ActiveState": "active", "MemoryLimit": "134217728", "ControlGroup": "/system.slice/hoy-new.scope"}
    pid = json.loads(oci(systemd, bundle, "state", "new"))["pid"]
    groups = {line.split(":")[2] for line in systemd("cat", f"/proc/{pid}/cgroup").stdout.splitlines() if not line.startswith("0:")}
    assert groups == {"/system.slice/hoy-new.scope"}
    assert systemd("cat", "/sys/fs/cgroup/memory/system.slice/hoy-new.scope/memory.limit_in_bytes").stdout == "134217728\n"
    oci(systemd, bundle, "delete", "-f", "new")
    assert systemd.show("hoy-new.scope", "LoadState")["LoadState"] == "not-found"
    assert systemd("find", "/sys/fs/cgroup", "-name", "hoy-new.scope").stdout == ""
