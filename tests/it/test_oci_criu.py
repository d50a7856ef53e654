"""checkpoint and restore: what criu is ordered (seen by a stand-in), and the real program where one works with this kernel."""
import array
import json
import os
import shutil
import socket
import stat
import subprocess
import termios

import pytest

from conftest import until
from test_oci_cli import RUNTIME, V2, group, oci, read, rootfs, subreaper  # noqa: F401  (fixtures)

# criu's side of its RPC protocol: one order, perhaps a terminal's master on the way, one answer.
STAND_IN = r"""#!/usr/bin/python3
import array, ctypes, json, os, socket, sys
NAMES = {1: "images_dir_fd", 2: "pid", 3: "leave_running", 4: "ext_unix_sk", 5: "tcp_established", 7: "shell_job", 8: "file_locks",
         9: "log_level", 10: "log_file", 11: "ps", 12: "notify_scripts", 13: "root", 14: "parent_img", 15: "track_mem",
         16: "auto_dedup", 17: "work_dir_fd", 18: "link_remap", 24: "manage_cgroups", 25: "cg_root", 26: "rst_sibling", 27: "inherit_fd",
         34: "manage_cgroups_mode", 37: "external", 38: "empty_ns", 39: "join_ns", 43: "cgroup_dump_controller",
         44: "freeze_cgroup", 46: "tcp_skip_in_flight",
         48: "lazy_pages", 49: "status_fd", 50: "orphan_pts_master", 51: "config_file", 52: "tcp_close", 53: "lsm_profile",
         56: "lsm_mount_context", 57: "network_lock"}

def varint(b, i):
    v = s = 0
    while True:
        v |= (b[i] & 127) << s
        s, i = s + 7, i + 1
        if b[i - 1] < 128:
            return v, i

def fields(b):
    i = 0
    while i < len(b):
        tag, i = varint(b, i)
        v, i = varint(b, i)
        if tag & 7 == 2:
            v, i = b[i:i + v], i + v
        yield tag >> 3, v

def number(n, v):
    out = bytes([n << 3])
    while v > 127:
        out, v = out + bytes([v & 127 | 128]), v >> 7
    return out + bytes([v])

def text(n, v):
    return bytes([n << 3 | 2, len(v)]) + v

assert sys.argv[1] == "swrk"
sock = socket.socket(fileno=int(sys.argv[2]))
order = dict(fields(sock.recv(1 << 20)))
seen = {"kind": order[1], "fds": {n: os.readlink("/proc/self/fd/" + n) for n in os.listdir("/proc/self/fd") if os.path.exists(
    "/proc/self/fd/" + n)}}
for n, v in fields(order[2]):
    if n in (11, 25, 27, 39):
        v = [x.decode() if isinstance(x, bytes) else x for _, x in fields(v)]
    elif isinstance(v, bytes):
        v = v.decode()
    seen.setdefault(NAMES[n], []).append(v)
us = os.getppid()
seen["images"] = os.readlink(f"/proc/{us}/fd/{seen['images_dir_fd'][0]}")
seen["work"] = os.readlink(f"/proc/{us}/fd/{seen['work_dir_fd'][0]}")
if "status_fd" in seen:
    seen["status"] = os.readlink(f"/proc/{us}/fd/{seen['status_fd'][0]}")
seen["root_is_mount"] = seen["root"][0] in open("/proc/self/mountinfo").read()
with open(os.environ["CRIU_SEEN"], "w") as f:
    json.dump(seen, f)
with open(seen["work"] + "/" + seen["log_file"][0], "w") as f:
    f.write("(00.1) fine\n(00.2) Error (criu/util.c:1): rlimit: no\n(00.3) Error (criu/x.c:1): the cause\n(00.4) Error (criu/x.c:2): FAILED\n")
how = os.environ.get("CRIU_FAILS")
if how == "silent":
    sys.exit(3)
if how == "garbage":
    sock.send(b"\x0b\xff")
    sys.exit(3)
if how:
    sock.send(number(1, order[1]) + number(2, 0) + number(7, 52) + text(9, b"a hint\n"))
    sys.exit(1)
pid = 0
if order[1] == 1 and "leave_running" not in seen:
    os.kill(seen["pid"][0], 9)
if order[1] == 2:
    pid = ctypes.CDLL(None).syscall(56, 0x8000 | 17, 0, 0, 0, 0)  # clone(CLONE_PARENT | SIGCHLD): rst_sibling
    if not pid:
        os.setsid()
        os.closerange(3, 100)
        os.execvp("sh", ["sh", "-c", "sleep " + os.environ.get("CRIU_SLEEP", "1000") + "; exit 7"])
    if os.environ.get("CRIU_TTY"):
        master, slave = os.openpty()
        sock.sendmsg([number(1, 6) + number(2, 1) + text(5, text(1, b"orphan-pts-master"))],
                     [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master]))])
        assert dict(fields(sock.recv(4096))) == {1: 6, 3: 1}
        os.write(slave, b"from the terminal\n")
    sock.send(number(1, 6) + number(2, 1) + text(5, text(1, b"post-restore") + number(2, pid)))
    assert dict(fields(sock.recv(4096))) == {1: 6, 3: 1}
sock.send(number(1, order[1]) + number(2, 1) + text(4, number(1, pid)))
"""
SOFT, FULL, IGNORE = 3, 4, 0
NEWNET = 0x40000000


@pytest.fixture
def criu(tmp_path):
    """The stand-in; a function that tells what it was ordered last."""
    path = tmp_path / "criu"
    path.write_text(STAND_IN)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    seen = tmp_path / "seen"
    os.environ["CRIU_SEEN"] = str(seen)
    yield ["--criu", str(path)], lambda: json.loads(seen.read_text())
    del os.environ["CRIU_SEEN"]


def test_what_criu_is_ordered_at_a_checkpoint(oci, criu, tmp_path):  # noqa: F811
    pre, seen = criu
    oci.config["mounts"].append({"destination": "/mnt", "source": "/etc", "type": "none", "options": ["rbind", "ro"]})
    pid = oci.start("c", annotations={"org.criu.config": "/etc/criu/x.conf"})
    oci("checkpoint", "--image-path", "pre", "--pre-dump", "c", pre=pre)
    s = seen()
    assert s["kind"] == 4 and s["track_mem"] == [1] and s["pid"] == [pid] and s["config_file"] == ["/etc/criu/x.conf"]
    oci("checkpoint", "--image-path", "img", "--work-path", tmp_path / "work", "--parent-path", "../pre", "--leave-running",
        "--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks", "--lazy-pages", "--auto-dedup", "--empty-ns", "network",
        "--link-remap", "--tcp-skip-in-flight", "--network-lock", "nftables", "--manage-cgroups-mode", "full", "--page-server", "10.0.0.1:99", "c", pre=pre)
    s = seen()
    assert s["kind"] == 1 and s["images"] == f"{oci.bundle}/img" and s["work"] == f"{tmp_path}/work"
    for flag in ("leave_running", "tcp_established", "ext_unix_sk", "shell_job", "file_locks", "lazy_pages", "auto_dedup", "link_remap", "tcp_skip_in_flight",
                 "track_mem", "orphan_pts_master", "manage_cgroups", "notify_scripts"):
        assert s[flag] == [1], flag
    assert s["empty_ns"] == [NEWNET] and s["manage_cgroups_mode"] == [FULL] and s["network_lock"] == [2]
    assert s["ps"] == [["10.0.0.1", 99]] and s["parent_img"] == ["../pre"]
    assert s["freeze_cgroup"] == [group("c", "freezer")]
    assert "mnt[/mnt]:/mnt" in s["external"]
    masked = [x for x in oci.config["linux"]["maskedPaths"] if os.path.isfile(x)]
    assert masked and {f"mnt[{x}]:{x}" for x in masked} <= set(s["external"])
    assert V2 or "mnt[/sys/fs/cgroup/memory]:/sys/fs/cgroup/memory" in s["external"]
    assert not [x for x in s["external"] if "firmware" in x]  # a masked directory is a tmpfs of the container's own
    assert oci.status("c") == "running" and len(json.loads((oci.bundle / "img/descriptors.json").read_text())) == 3
    oci("checkpoint", "c", pre=pre)
    assert seen()["manage_cgroups_mode"] == [SOFT]
    oci.fails("state", "c", says="does not exist")  # dumped: it is gone


def test_the_status_descriptor_reaches_criu(oci, criu):  # noqa: F811
    pre, seen = criu
    oci.start("c")
    r, w = os.pipe()
    oci("checkpoint", "--leave-running", "--lazy-pages", "--status-fd", w, "c", pre=pre, pass_fds=[w])
    assert seen()["status"].startswith("pipe:")
    os.close(r)
    os.close(w)


def test_a_container_comes_back(oci, criu, tmp_path):  # noqa: F811
    pre, seen = criu
    oci.config["linux"]["namespaces"] = [n for n in oci.config["linux"]["namespaces"] if n["type"] not in ("network", "uts")]
    oci.config["linux"]["namespaces"] += [{"type": "network", "path": "/proc/self/ns/net"}, {"type": "uts", "path": "/proc/self/ns/uts"}]
    oci.config.pop("hostname", None)
    oci.start("c")
    oci("checkpoint", "--image-path", "img", "c", pre=pre)
    inode = os.stat("/proc/self/ns/net").st_ino
    assert f"net[{inode}]:extRootNetNS" in seen()["external"]
    descriptors = oci.bundle / "img/descriptors.json"
    descriptors.write_text('["/dev/null", "pipe:[123]", "pipe:[124]"]')
    oci("restore", "-d", "--image-path", "img", "--pid-file", tmp_path / "pid", "--lsm-profile", "apparmor:x", "--tcp-close", "c",
        pre=pre)
    s = seen()
    assert s["kind"] == 2 and s["lsm_profile"] == ["apparmor:x"] and s["tcp_close"] == [1] and s["rst_sibling"] == [1]
    assert s["inherit_fd"] == [["pipe:[123]", 1], ["pipe:[124]", 2], ["extRootNetNS", 4]]
    assert s["join_ns"] == [["uts", "/proc/self/ns/uts"]] and (s["cg_root"] == [["/c"]] if V2 else ["memory", "/c"] in s["cg_root"])
    assert "mnt[/proc/kcore]:/dev/null" in s["external"]
    assert s["root_is_mount"] and s["fds"]["4"].startswith("net:")
    state = json.loads(oci("state", "c"))
    assert state["status"] == "running" and state["pid"] == int((tmp_path / "pid").read_text()) and state["created"]
    assert f"{state['pid']}\n" in read(group("c") + "/cgroup.procs")
    oci("kill", "c", "KILL")
    oci("delete", "-f", "c")
    oci("restore", "--image-path", "img", "c", pre=pre, code=7, env=dict(os.environ, CRIU_SLEEP="0.2"))  # waits, and deletes at the end
    oci.fails("state", "c", says="does not exist")


def listen(path):
    """A socket for the master of a terminal."""
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(path))
    s.listen()
    s.settimeout(60)
    return s


def receive(sock):
    """The descriptor that came."""
    conn, _ = sock.accept()
    _, anc, _, _ = conn.recvmsg(100, socket.CMSG_SPACE(4))
    conn.close()
    return array.array("i", anc[0][2])[0]


def test_a_terminal_comes_back(oci, criu, tmp_path):  # noqa: F811
    pre, _ = criu
    oci.start("c")
    oci("checkpoint", "--image-path", "img", "c", pre=pre)
    oci.config["process"]["terminal"] = True
    oci.save("sleep", "1000")
    oci.fails("restore", "-d", "--image-path", "img", "c", pre=pre, says="use --console-socket")
    with listen(tmp_path / "console") as sock:
        oci("restore", "-d", "--image-path", "img", "--console-socket", tmp_path / "console", "c", pre=pre,
            env=dict(os.environ, CRIU_TTY="1"))
        master = receive(sock)
    assert os.read(master, 100) == b"from the terminal\r\n"
    os.close(master)
    assert oci.status("c") == "running"
    oci("delete", "-f", "c")
    out = oci("restore", "--image-path", "img", "c", pre=pre, code=7, env=dict(os.environ, CRIU_TTY="1", CRIU_SLEEP="0.2"))
    assert "from the terminal" in out


def test_errors_name_the_log_of_criu(oci, criu):  # noqa: F811
    pre, _ = criu
    oci.start("c")
    env = dict(os.environ, CRIU_FAILS="1")
    oci.fails("checkpoint", "c", pre=pre, env=env, says="criu dump failed: Invalid exchange: a hint, see "
              f"{oci.bundle}/checkpoint/dump.log: Error (criu/x.c:1): the cause; Error (criu/x.c:2): FAILED\n")
    oci.fails("checkpoint", "c", pre=pre, env=dict(env, CRIU_FAILS="silent"), says="it ended without an answer, see ")
    oci.fails("checkpoint", "c", pre=pre, env=dict(env, CRIU_FAILS="garbage"), says="criu's answer: field 1 of type 3")
    assert oci.status("c") == "running"
    oci.fails("checkpoint", "c", pre=["--criu", "/none"], says="is criu installed?")
    for args, says in ((["--manage-cgroups-mode", "x"], "it knows ignore, soft, full, strict"), (["--empty-ns", "pid"], "network only"),
                       (["--page-server", "x"], "ADDRESS:PORT"), (["--parent-path", "/x"], "relative"),
                       (["--parent-path", "../none"], "--parent-path ../none: No such"), (["--network-lock", "x"], "it knows iptables")):
        oci.fails("checkpoint", *args, "c", pre=pre, says=says)
    oci("checkpoint", "c", pre=pre)
    for how in ("1", "silent", "garbage"):
        oci.fails("restore", "c", pre=pre, env=dict(env, CRIU_FAILS=how), says="criu")
    oci.fails("restore", "--image-path", "/none", "c", pre=pre, says="image /none")
    assert not os.listdir(oci.root)


# ---- the real program ----


@pytest.fixture(scope="module")
def real():
    """--criu of a program that works here."""
    path = os.environ.get("HOY_CRIU") or shutil.which("criu")
    if not path:
        pytest.skip("needs criu")
    check = subprocess.run([path, "check"], capture_output=True, text=True, check=False)
    if check.returncode:
        pytest.skip(f"needs a criu that works with this kernel (tools/criu.sh takes a newer one): {check.stderr.strip().splitlines()[0]}")
    return ["--criu", path]


def direct(oci, *args, out=subprocess.DEVNULL):  # noqa: F811
    """Runs a command whose standard streams are no files of the host's, which an image cannot hold."""
    subprocess.run([RUNTIME, "--root", str(oci.root), *map(str, args)], cwd=oci.bundle, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                   check=True)


COUNT = "i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.05; done"


def counter(oci):  # noqa: F811
    """A container that counts in a tmpfs, and in its memory."""
    oci.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]})
    oci.save("sh", "-c", COUNT)
    direct(oci, "run", "-d", "c")


def count(oci, cid="c"):  # noqa: F811
    """How far it is."""
    return int(oci("exec", cid, "cat", "/tmp/n") or 0)


def goes_on(oci, cid, after):  # noqa: F811
    """It counts from where it was."""
    assert until(lambda: (n := count(oci, cid)) > after and n) < after + 1000


def until_counting(oci):  # noqa: F811
    """It has begun."""
    return until(lambda: oci.any("exec", "c", "test", "-s", "/tmp/n").returncode == 0 and count(oci))


def test_a_real_dump_comes_back_under_another_name(oci, real, tmp_path):  # noqa: F811
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("outside\n")
    oci.config["mounts"].append({"destination": "/mnt", "source": str(tmp_path / "data"), "type": "bind", "options": ["rbind"]})
    counter(oci)
    until_counting(oci)
    oci("checkpoint", "--image-path", "img", "--leave-running", "c", pre=real)
    assert oci.status("c") == "running"
    n = count(oci)
    oci("checkpoint", "--image-path", "img", "c", pre=real)
    oci.fails("state", "c", says="does not exist")
    oci.config["linux"]["resources"] = {"memory": {"limit": 77 << 20}}
    oci.save("sh", "-c", COUNT)
    oci("restore", "-d", "--image-path", "img", "--pid-file", tmp_path / "pid", "d", pre=real)
    goes_on(oci, "d", n)
    state = json.loads(oci("state", "d"))
    assert state["status"] == "running" and state["pid"] == int((tmp_path / "pid").read_text())
    assert f"{state['pid']}\n" in read(group("d") + "/cgroup.procs") and not os.path.exists(group("c"))
    assert int(read(group("d") + ("/memory.max" if V2 else "/memory.limit_in_bytes"))) == 77 << 20
    assert oci("exec", "d", "cat", "/mnt/file") == "outside\n"
    assert oci("exec", "d", "cat", "/proc/timer_list") == "" and oci("exec", "d", "ls", "/sys/firmware") == ""
    oci.fails("exec", "d", "touch", "/sys/firmware/x", says="")
    assert len(oci("ps", "d").splitlines()) >= 2


def test_a_real_pre_dump_is_the_parent_of_an_image(oci, real):  # noqa: F811
    counter(oci)
    n = until_counting(oci)
    first = oci.any("checkpoint", "--image-path", "pre", "--pre-dump", "c", pre=real)
    if first.returncode and "Tracking memory is not available" in first.stderr:
        pytest.skip("this kernel tracks no memory (CONFIG_MEM_SOFT_DIRTY)")
    assert first.returncode == 0, first.stderr
    assert oci.status("c") == "running"
    oci("checkpoint", "--image-path", "img", "--parent-path", "../pre", "c", pre=real)
    assert os.readlink(oci.bundle / "img/parent") == "../pre"
    oci("restore", "-d", "--image-path", "img", "c", pre=real)
    goes_on(oci, "c", n)


def test_a_real_restore_in_the_foreground_ends_with_the_program(oci, real):  # noqa: F811
    oci.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    oci.save("sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.05; done; echo heard; exit 5")
    direct(oci, "run", "-d", "c")
    oci("checkpoint", "--image-path", "img", "c", pre=real)
    proc = subprocess.Popen([RUNTIME, "--root", str(oci.root), *real, "restore", "--image-path", "img", "c"], cwd=oci.bundle,
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: oci.any("exec", "c", "touch", "/tmp/go").returncode == 0 or proc.poll() is not None)
    assert proc.wait(60) == 5
    oci.fails("state", "c", says="does not exist")


def test_a_real_restore_of_pipes(oci, real):  # noqa: F811
    oci.save("sh", "-c", "while :; do echo tick; sleep 0.05; done")
    r, w = os.pipe()
    direct(oci, "run", "-d", "c", out=w)
    os.close(w)
    assert b"tick" in os.read(r, 100)
    oci("checkpoint", "--image-path", "img", "c", pre=real)
    while os.read(r, 4096):
        pass
    os.close(r)
    r, w = os.pipe()
    direct(oci, *real, "restore", "-d", "--image-path", "img", "c", out=w)
    os.close(w)
    assert b"tick" in os.read(r, 100)
    oci("delete", "-f", "c")
    os.close(r)


def test_a_real_restore_of_a_terminal(oci, real, tmp_path):  # noqa: F811
    oci.config["process"]["terminal"] = True
    with listen(tmp_path / "console") as sock:
        oci.start("c", "sh", "-c", "stty -echo; while read x; do echo \"got $x\"; done", options=["--console-socket", tmp_path / "console"])
        master = receive(sock)
        os.write(master, b"one\n")
        talk(master, b"got one\r\n")
        oci("checkpoint", "--image-path", "img", "c", pre=real)
        os.close(master)
        oci("restore", "-d", "--image-path", "img", "--console-socket", tmp_path / "console", "c", pre=real)
        master = receive(sock)
    assert termios.tcgetattr(master)[3] & termios.ECHO == 0  # the terminal's settings, too
    os.write(master, b"two\n")
    talk(master, b"got two\r\n")
    oci("delete", "-f", "c")
    os.close(master)


def talk(master, words):
    """Reads until these words have come."""
    seen = b""
    while words not in seen:
        seen += os.read(master, 4096)


def test_a_real_dump_of_a_paused_container(oci, real):  # noqa: F811
    counter(oci)
    n = until_counting(oci)
    oci("pause", "c")
    oci("checkpoint", "--image-path", "img", "c", pre=real)
    oci("restore", "-d", "--image-path", "img", "c", pre=real)
    goes_on(oci, "c", n)


def test_a_real_namespace_of_others_stays_outside(oci, real):  # noqa: F811
    oci.config["linux"]["namespaces"] = [n for n in oci.config["linux"]["namespaces"] if n["type"] != "network"]
    oci.config["linux"]["namespaces"].append({"type": "network", "path": "/proc/self/ns/net"})
    counter(oci)
    n = until_counting(oci)
    oci("checkpoint", "--image-path", "img", "c", pre=real)
    oci("restore", "-d", "--image-path", "img", "c", pre=real)
    goes_on(oci, "c", n)
    pid = json.loads(oci("state", "c"))["pid"]
    assert os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")


def test_what_criu_cannot_dump_goes_on(oci, real, tmp_path):  # noqa: F811
    with open(tmp_path / "log", "w") as f:  # a file of the host's as standard output
        oci.save("sh", "-c", "sleep 1000")
        direct(oci, "run", "-d", "c", out=f)
    oci.fails("checkpoint", "--image-path", "img", "c", pre=real, says="Error (criu/files-reg.c")
    assert oci.status("c") == "running" and oci("exec", "c", "echo", "alive") == "alive\n"
