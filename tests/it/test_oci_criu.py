"""checkpoint and restore: the command line that criu gets (from a stand-in), and criu itself where this kernel lets it work."""
import json
import os
import shutil
import stat
import subprocess

import pytest

from test_oci_cli import oci, rootfs, subreaper  # noqa: F401  (fixtures)

STAND_IN = """#!/usr/bin/python3
import json, os, subprocess, sys
args = sys.argv[1:]
value = lambda name: [a.split("=", 1)[1] for a in args if a.startswith(name + "=")][0]
with open(os.environ["CRIU_SEEN"], "w") as f:
    json.dump({"args": args, "fds": {n: os.readlink("/proc/self/fd/" + n) for n in os.listdir("/proc/self/fd") if os.path.exists(
        "/proc/self/fd/" + n)}, "root_is_mount": value("--root") in open("/proc/self/mountinfo").read()}, f)
with open(value("--work-dir") + "/" + value("--log-file"), "w") as f:
    f.write("(00.1) fine\\n(00.2) Error (criu/x.c:1): the first\\n(00.3) Error (criu/x.c:2): the cause\\n(00.4) done\\n")
if os.environ.get("CRIU_FAILS"):
    sys.exit(3)
if args[0] == "dump" and "--leave-running" not in args:
    os.kill(int(value("--tree")), 9)
if args[0] == "restore":
    p = subprocess.Popen(["sleep", os.environ.get("CRIU_SLEEP", "1000")], start_new_session=True, close_fds=True)
    with open(value("--pidfile"), "w") as f:
        f.write(str(p.pid))
"""


@pytest.fixture
def criu(tmp_path):
    """The stand-in; a function that tells what it saw last."""
    path = tmp_path / "criu"
    path.write_text(STAND_IN)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    seen = tmp_path / "seen"
    os.environ["CRIU_SEEN"] = str(seen)
    yield ["--criu", str(path)], lambda: json.loads(seen.read_text())
    del os.environ["CRIU_SEEN"]


def test_what_criu_is_told_at_a_checkpoint(oci, criu, tmp_path):  # noqa: F811
    pre, seen = criu
    oci.config["mounts"].append({"destination": "/mnt", "source": "/etc", "type": "none", "options": ["rbind", "ro"]})
    pid = oci.start("c", annotations={"org.criu.config": "/etc/criu/x.conf"})
    oci("checkpoint", "--image-path", "pre", "--pre-dump", "c", pre=pre)
    args = seen()["args"]
    assert args[0] == "pre-dump" and "--track-mem" in args and f"--tree={pid}" in args and "--config=/etc/criu/x.conf" in args
    oci("checkpoint", "--image-path", "img", "--work-path", tmp_path / "work", "--parent-path", "../pre", "--leave-running",
        "--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks", "--lazy-pages", "--auto-dedup", "--empty-ns", "network",
        "--manage-cgroups-mode", "full", "--page-server", "10.0.0.1:99", "c", pre=pre)
    args = seen()["args"]
    assert {"--leave-running", "--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks", "--lazy-pages", "--auto-dedup",
            "--empty-ns=net", "--manage-cgroups=full", "--page-server", "--address=10.0.0.1", "--port=99", "--track-mem",
            "--prev-images-dir=../pre", f"--images-dir={oci.bundle}/img", f"--work-dir={tmp_path}/work"} <= set(args)
    assert "mnt[/mnt]:/mnt" in args and "mnt[/sys/fs/cgroup/memory]:/sys/fs/cgroup/memory" in args
    assert oci.status("c") == "running" and len(json.loads((oci.bundle / "img/descriptors.json").read_text())) == 3
    oci("checkpoint", "c", pre=pre)
    oci.fails("state", "c", says="does not exist")  # dumped: it is gone


def test_the_status_descriptor_reaches_criu(oci, criu):  # noqa: F811
    pre, seen = criu
    oci.start("c")
    r, w = os.pipe()
    oci("checkpoint", "--leave-running", "--lazy-pages", "--status-fd", w, "c", pre=pre, pass_fds=[w])
    assert "--status-fd=3" in seen()["args"] and seen()["fds"]["3"].startswith("pipe:")
    os.close(r)
    os.close(w)


def test_a_container_comes_back(oci, criu, tmp_path):  # noqa: F811
    pre, seen = criu
    oci.config["linux"]["namespaces"] = [n for n in oci.config["linux"]["namespaces"] if n["type"] != "network"]
    oci.config["linux"]["namespaces"].append({"type": "network", "path": "/proc/self/ns/net"})
    oci.start("c")
    oci("checkpoint", "--image-path", "img", "c", pre=pre)
    inode = os.stat("/proc/self/ns/net").st_ino
    assert f"net[{inode}]:extRootNetNS" in seen()["args"]
    descriptors = oci.bundle / "img/descriptors.json"
    descriptors.write_text('["/dev/null", "pipe:[123]", "pipe:[124]"]')
    oci("restore", "-d", "--image-path", "img", "--pid-file", tmp_path / "pid", "--lsm-profile", "apparmor:x", "c", pre=pre)
    args = seen()["args"]
    assert args[0] == "restore" and {"--restore-detached", "--lsm-profile=apparmor:x", "fd[1]:pipe:[123]", "fd[2]:pipe:[124]",
                                     "fd[3]:extRootNetNS"} <= set(args)
    assert seen()["root_is_mount"] and seen()["fds"]["3"].startswith("net:")
    assert oci.status("c") == "running" and json.loads(oci("state", "c"))["pid"] == int((tmp_path / "pid").read_text())
    oci("kill", "c", "KILL")
    oci("delete", "-f", "c")
    oci("restore", "--image-path", "img", "c", pre=pre, env=dict(os.environ, CRIU_SLEEP="0.2"))  # waits, and deletes at the end
    oci.fails("state", "c", says="does not exist")


def test_errors_name_the_log_of_criu(oci, criu):  # noqa: F811
    pre, _ = criu
    oci.start("c")
    env = dict(os.environ, CRIU_FAILS="1")
    oci.fails("checkpoint", "c", pre=pre, env=env, says="criu dump failed (exit status 3), see "
              f"{oci.bundle}/checkpoint/dump.log: Error (criu/x.c:2): the cause")
    assert oci.status("c") == "running"
    oci.fails("checkpoint", "c", pre=["--criu", "/none"], says="is criu installed?")
    for args, says in ((["--manage-cgroups-mode", "x"], "soft, full, strict or ignore"), (["--empty-ns", "pid"], "network only"),
                       (["--page-server", "x"], "ADDRESS:PORT"), (["--parent-path", "/x"], "relative")):
        oci.fails("checkpoint", *args, "c", pre=pre, says=says)
    oci("checkpoint", "c", pre=pre)
    oci.fails("restore", "c", pre=pre, env=env, says="restore.log: Error (criu/x.c:2): the cause")
    oci.fails("restore", "--image-path", "/none", "c", pre=pre, says="image /none")
    oci.config["process"]["terminal"] = True
    oci.save("sleep", "1")
    oci.fails("restore", "c", pre=pre, says="terminal cannot be restored")
    assert not os.listdir(oci.root)


def test_with_criu_itself(oci):  # noqa: F811
    if not shutil.which("criu"):
        pytest.skip("needs criu")
    check = subprocess.run(["criu", "check"], capture_output=True, text=True, check=False)
    if check.returncode:
        pytest.skip("needs a criu that works with this kernel: " + check.stderr.strip().splitlines()[0])
    oci.start("c")
    oci("checkpoint", "--image-path", "img", "c")
    oci("restore", "-d", "--image-path", "img", "c")
    assert oci.status("c") == "running"
