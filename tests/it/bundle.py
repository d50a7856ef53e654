"""Bundles for hoy-runtime: a configuration like docker's on a busybox root, run in one call."""
import copy
import json
import os
import pathlib
import shutil
import subprocess
import uuid

from conftest import BUILD, Result, busybox_tree

RUNTIME = BUILD / "src/main/hoy-runtime"
CAPS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_SETFCAP", "CAP_MKNOD"]
CONFIG = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "hostname": "box",
    "process": {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
                "capabilities": {k: CAPS for k in ("bounding", "effective", "permitted")}},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network")],
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


class Bundle:
    """One bundle directory with a root of its own; config may be changed freely."""

    def __init__(self, base):
        self.base, self.state = pathlib.Path(base), pathlib.Path(base) / "state"
        self.root = self.base / "rootfs"
        busybox_tree(self.root)
        self.config = copy.deepcopy(CONFIG)

    def mount(self, destination, source=None, *options, type="bind", **more):  # pylint: disable=redefined-builtin
        """Adds a mount; a bind unless type says otherwise."""
        m = {"destination": destination, "type": type, "source": str(source or type), "options": list(options), **more}
        if type == "bind" and "rbind" not in options:
            m["options"].append("bind")
        self.config["mounts"].append(m)
        return self

    def script(self, text):
        """The process: a shell script."""
        self.config["process"]["args"] = ["sh", "-c", text]
        return self

    def command(self, *args, timeout=60, **more):
        """hoy-runtime ARGS."""
        argv = [str(RUNTIME), "--root", str(self.state), *map(str, args)]
        return Result(subprocess.run(argv, capture_output=True, text=True, timeout=timeout, **more))

    def write(self):
        """config.json as it is now."""
        (self.base / "config.json").write_text(json.dumps(self.config))

    def run(self, script=None, code=0, name=None, **more):
        """`run` to its end; fails the test unless it exits with code (None: any)."""
        if script:
            self.script(script)
        self.write()
        r = self.command("run", "--bundle", self.base, name or f"t-{uuid.uuid4().hex[:12]}", stdin=subprocess.DEVNULL, **more)
        assert code is None or r.code == code, r
        return r


def snapshot(path):
    """Everything below path as text: what an escape would change."""
    found = []
    for top, dirs, files in os.walk(path):
        for name in sorted(dirs + files):
            p = os.path.join(top, name)
            st = os.lstat(p)
            body = ""
            if os.path.islink(p):
                body = os.readlink(p)
            elif os.path.isfile(p):
                body = pathlib.Path(p).read_text(errors="replace")
            found.append(f"{p} {st.st_mode:o} {st.st_uid}:{st.st_gid} {st.st_rdev} {body}")
    return sorted(found)


def remove(path):
    """rm -rf."""
    shutil.rmtree(path, ignore_errors=True)
