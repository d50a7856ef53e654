"""The command line of hoy-runtime: what callers rely on, checked on bundles of busybox."""
import base64
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tarfile
import tempfile
import time

import pytest

from conftest import BUILD, calm_census, check_census, until

RUNTIME = str(BUILD / "src/main/hoy-runtime")
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")  # in the guest of tests/v2


class Oci:
    """hoy-runtime with a state directory and a bundle of its own."""

    def __init__(self, base, rootfs):
        self.base, self.root, self.bundle = base, base / "root", base / "bundle"
        self.bundle.mkdir()
        self.config = json.loads(self.spec())
        self.config["root"] = {"path": str(rootfs), "readonly": True}
        self.config["process"]["terminal"] = False
        self.config["process"]["rlimits"] = []
        if "GLIBC_TUNABLES" in os.environ:  # without which static programs crash in the guest of tests/v2
            self.config["process"]["env"].append("GLIBC_TUNABLES=" + os.environ["GLIBC_TUNABLES"])

    def spec(self):
        """The default configuration as text."""
        subprocess.run([RUNTIME, "spec", "-b", str(self.bundle)], check=True)
        path = self.bundle / "config.json"
        text = path.read_text()
        path.unlink()
        return text

    def save(self, *args, annotations=None):
        """Writes the bundle's configuration with these process.args."""
        self.config["process"]["args"] = list(args)
        self.config["annotations"] = annotations or {}
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def any(self, *args, pre=(), **more):
        """Runs a command, whatever its exit code."""
        more.setdefault("stdin", subprocess.DEVNULL)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:  # no pipes: what is detached keeps them open
            r = subprocess.run([RUNTIME, "--root", str(self.root), *pre, *map(str, args)], stdout=out, stderr=err, text=True,
                               timeout=60, check=False, cwd=self.bundle, **more)
            for f in (out, err):
                f.seek(0)
            r.stdout, r.stderr = out.read(), err.read()
            return r

    def __call__(self, *args, code=0, **more):
        """Runs a command that must exit with code; its standard output."""
        r = self.any(*args, **more)
        assert r.returncode == code, f"{args}: exit {r.returncode}\n{r.stdout}\n{r.stderr}"
        return r.stdout

    def fails(self, *args, says, **more):
        """Runs a command that must fail with these words."""
        r = self.any(*args, **more)
        assert r.returncode != 0 and says in r.stderr, f"{args}: exit {r.returncode}\n{r.stdout}\n{r.stderr}"

    def status(self, cid):
        """The status that state tells."""
        return json.loads(self("state", cid))["status"]

    def start(self, cid, *args, **more):
        """A running container; returns its pid."""
        self.save(*(args or ("sleep", "1000")), annotations=more.pop("annotations", None))
        self("run", "-d", *more.pop("options", ()), cid, **more)
        return json.loads(self("state", cid))["pid"]


@pytest.fixture(scope="module")
def rootfs(busybox_tar, tmp_path_factory):
    """The busybox tree, unpacked."""
    path = tmp_path_factory.mktemp("rootfs")
    with tarfile.open(busybox_tar) as tar:
        tar.extractall(path)
    path.chmod(0o755)
    return path


@pytest.fixture
def oci(tmp_path, rootfs):
    """A fresh state directory; what is left is deleted, and the census must be as before."""
    before = calm_census()
    o = Oci(tmp_path, rootfs)
    yield o
    o("delete", "-f", "--regex", ".")
    assert not o.root.exists() or not os.listdir(o.root)
    check_census(before)


@pytest.fixture(scope="module", autouse=True)
def subreaper():
    """Orphans are ours: where PID 1 reaps none, a dead process of `exec -d` would keep its container from ending."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    yield
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


def end(pid_file):
    """Kills and reaps a detached process of exec."""
    pid = int(read(pid_file))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def group(name, controller="memory"):
    """The control group of a container."""
    return f"/sys/fs/cgroup/{name}" if V2 else f"/sys/fs/cgroup/{controller}/{name}"


def read(path):
    """A file's text."""
    with open(path, encoding="utf-8") as f:
        return f.read()


# ---- life ----

def test_the_states_of_a_container(oci):
    oci.save("sleep", "1000")
    oci.fails("state", "c", says="container does not exist")
    oci("create", "--pid-file", "pid", "c")
    assert oci.status("c") == "created" and read(oci.bundle / "pid") == str(json.loads(oci("state", "c"))["pid"])
    oci.fails("create", "c", says="already exists")
    oci.fails("resume", "c", says="container not paused")
    oci("start", "c")
    assert oci.status("c") == "running"
    oci.fails("start", "c", says="cannot start an already running container")
    oci.fails("delete", "c", says="that is not stopped: running")
    oci("pause", "c")
    assert oci.status("c") == "paused"
    oci.fails("exec", "c", "true", says="paused container (use --ignore-paused to override)")
    oci("resume", "c")
    oci("kill", "c", "SIGKILL")
    until(lambda: oci.status("c") == "stopped")
    assert json.loads(oci("state", "c"))["pid"] == 0
    oci.fails("kill", "c", says="container not running")
    oci.fails("exec", "c", "true", says="container not running")
    oci.fails("start", "c", says="cannot start a container that has stopped")
    oci("delete", "c")
    oci.fails("delete", "c", says="container does not exist")
    oci("delete", "--force", "c")


def test_a_killed_create_is_cleared_by_delete_force(oci):
    """A hook hangs; the creator is killed: nothing of it is a container, and its directory and group go."""
    oci.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo >{oci.base}/hangs; exec sleep 1000"]}]}
    oci.save("true")
    proc = subprocess.Popen([RUNTIME, "--root", str(oci.root), "create", "c"], cwd=oci.bundle)
    until((oci.base / "hangs").exists)
    assert (oci.root / "c/status").exists() and os.path.exists(group("c"))
    proc.kill()
    proc.wait()
    oci.fails("state", "c", says="container does not exist")
    oci.fails("create", "c", says="already exists")
    oci("delete", "--force", "c")
    assert not os.path.exists(group("c")) and not (oci.root / "c").exists()


def test_run_in_the_foreground_passes_exit_codes_signals_and_input(oci):
    oci.save("sh", "-c", "read a; echo got $a; exit 42")
    r = oci.any("run", "c", stdin=None, input="word\n")
    assert (r.returncode, r.stdout) == (42, "got word\n")
    oci.save("sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
    proc = subprocess.Popen([RUNTIME, "--root", str(oci.root), "run", "c"], cwd=oci.bundle, stdout=subprocess.PIPE, text=True)
    assert proc.stdout.readline() == "up\n"
    proc.terminate()
    assert proc.wait(60) == 3
    oci.save("true")
    oci("run", "--keep", "c")
    assert oci.status("c") == "stopped"


def test_many_at_once_by_regular_expressions(oci):
    for name in ("web-1", "web-2", "db"):
        oci.start(name)
    oci("kill", "--regex", "^web-", "KILL")
    until(lambda: oci.status("web-1") == oci.status("web-2") == "stopped")
    oci("delete", "--regex", "^web-[0-9]$")
    assert oci("list", "-q") == "db\n"
    oci.fails("kill", "--regex", "(", says="bad regular expression")


def test_listing(oci):
    assert oci("list", "-q") == "" and json.loads(oci("list", "--format", "json")) == []
    oci.start("c")
    lines = oci("list").splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"] and lines[1].split()[2] == "running"
    entry = json.loads(oci("list", "-f", "json"))[0]
    assert entry["id"] == "c" and entry["bundle"] == str(oci.bundle) and entry["owner"] == "root"
    pids = json.loads(oci("ps", "--format", "json", "c"))
    assert pids == [entry["pid"]]
    if V2:  # user-mode-linux tells no boot time, which ps wants
        return
    assert "sleep 1000" in oci("ps", "c") and len(oci("ps", "c").splitlines()) == 2
    assert oci("ps", "c", "-o", "pid,comm").split() == ["PID", "COMMAND", str(pids[0]), "sleep"]
    oci.fails("ps", "c", "-o", "comm", says="column PID")
    oci.fails("list", "--format", "xml", says="table or json")


def test_the_default_root_goes_with_the_last_container(oci):
    """While some come, others go: none fails because its root went in the middle. In a /run of their own."""
    oci.save("true")
    script = """mount -t tmpfs none /run
        for n in 1 2 3 4; do
            (for i in $(seq 25); do "$0" run $n-$i </dev/null; "$0" state nobody 2>/dev/null; done) &
        done
        wait
        "$0" create last </dev/null; ls /run/hoy-runtime; "$0" delete -f last; ls -A /run"""
    r = subprocess.run(["unshare", "-m", "sh", "-c", script, RUNTIME], cwd=oci.bundle, capture_output=True, text=True, timeout=600, check=True)
    assert (r.stdout, r.stderr) == ("last\n", "")


# ---- errors and the log ----

def test_errors_are_told_in_the_log_as_callers_read_it(oci, tmp_path):
    log = tmp_path / "log"
    oci.fails("state", "none", pre=["--log", log, "--log-format", "json"], says="container does not exist")
    entry = json.loads(log.read_text())
    assert entry["level"] == "error" and "container does not exist" in entry["msg"] and entry["time"].endswith("Z")
    oci.fails("state", "none", pre=["--log", log], says="does not exist")
    assert 'level=error msg="container does not exist' in log.read_text().splitlines()[1]
    r = oci.any("state", "none", pre=["--log-format", "json"])
    assert json.loads(r.stderr)["level"] == "error"
    oci.fails("state", "none", pre=["--log", "/none/x"], says="open log /none/x")
    oci.fails("state", "none", pre=["--log-format", "xml"], says="text or json")


@pytest.mark.parametrize("args, says", [
    (["nothing"], 'unknown command "nothing"'),
    (["state", "--what", "c"], 'unknown option "--what"'),
    (["state"], "too few arguments"),
    (["state", "a", "b"], "too many arguments"),
    (["create", "--bundle"], "needs a value"),
    (["create", "--bundle", "/none", "c"], "bundle /none"),
    (["create", "../c"], "container ID"),
    (["create", "--console-socket", "/s", "c"], "process.terminal"),
    (["create", "--preserve-fds", "x", "c"], "--preserve-fds"),
    (["kill", "c", "SIGNOTHING"], "unknown signal"),
    (["update", "c"], "nothing to update"),
    (["update", "--memory", "12q", "c"], "--memory 12q"),
    (["events", "--interval", "0s", "c"], "--interval"),
    (["--cgroup-manager", "x", "list"], "cgroupfs, systemd or disabled"),
    (["--rootless", "x", "list"], "true, false or auto"),
])
def test_bad_command_lines(oci, args, says):
    oci.save("true")
    oci.fails(*args, says=says)
    assert not oci.root.exists() or not os.listdir(oci.root)


def test_a_program_that_is_not_there_is_told_as_docker_and_podman_match_it(oci):
    oci.save("nosuch")
    oci.fails("run", "c", says="executable file not found in $PATH")
    oci.save("/etc/passwd")
    oci.fails("run", "c", says="permission denied")
    oci.start("c")
    assert oci.any("exec", "c", "nosuch").returncode == 255
    oci.fails("exec", "c", "nosuch", says="executable file not found in $PATH")


# ---- exec ----

def test_options_of_exec(oci, tmp_path):
    oci.config["process"]["env"].append("A=old")
    oci.start("c")
    out = oci("exec", "--cwd", "/tmp", "-e", "A=new", "--env", "B=2", "-u", "1:2", "-g", "7,8", "-g", "9", "c", "sh", "-c",
              "pwd; echo $A $B; id -u; id -g; grep Groups /proc/self/status")
    assert out == "/tmp\nnew 2\n1\n2\nGroups:\t7 8 9 \n"
    caps = oci("exec", "--cap", "CAP_SYS_ADMIN", "c", "grep", "CapEff", "/proc/self/status")
    assert int(caps.split()[1], 16) & 1 << 21
    oci.fails("exec", "--cap", "CAP_NOTHING", "c", "true", says="unknown capability")
    oci.fails("exec", "--env", "X", "c", "true", says="NAME=VALUE")
    oci.fails("exec", "c", says="no command")
    assert oci.any("exec", "c", "sh", "-c", "exit 9").returncode == 9
    process = dict(oci.config["process"], args=["cat"], cwd="/etc")
    (tmp_path / "p.json").write_text(json.dumps(process))
    r = oci.any("exec", "--process", tmp_path / "p.json", "c", stdin=None, input="through\n")
    assert (r.returncode, r.stdout) == (0, "through\n")
    oci("exec", "-d", "--pid-file", tmp_path / "pid", "c", "sleep", "50")
    assert read(f"/proc/{read(tmp_path / 'pid')}/cmdline").startswith("sleep")
    end(tmp_path / "pid")


def test_exec_in_a_group_below_the_container_s(oci):
    oci.start("c")
    os.mkdir(group("c", "pids") + "/sub")
    assert ":/sub\n" in oci("exec", "--cgroup", "sub", "c", "cat", "/proc/self/cgroup")
    oci("exec", "--cgroup", "pids:sub", "c", "true")
    if not V2:
        oci.fails("exec", "--cgroup", "memory:sub", "c", "true", says="--cgroup memory:sub")
    oci.fails("exec", "--cgroup", "none", "c", "true", says="no such control group")
    oci.fails("exec", "--cgroup", "sub/../..", "c", "true", says="`..` components are not allowed")


def test_exec_waits_in_a_paused_container_when_asked(oci):
    oci.start("c")
    oci("pause", "c")
    proc = subprocess.Popen([RUNTIME, "--root", str(oci.root), "exec", "--ignore-paused", "c", "echo", "late"],
                            stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    assert proc.poll() is None
    oci("resume", "c")
    assert proc.communicate(timeout=60)[0] == "late\n"


# ---- terminals, descriptors, sockets ----

def receive(listener):
    """One message and one descriptor of a stream connection."""
    conn, _ = listener.accept()
    text, fds, _, _ = socket.recv_fds(conn, 100, 1)
    conn.close()
    return text.decode(), fds[0]


def test_terminals_go_to_the_console_socket(oci, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        oci.config["process"]["terminal"] = True
        oci.save("sh", "-c", "stty size; sleep 100")
        oci.config["process"]["consoleSize"] = {"height": 11, "width": 77}
        oci.save("sh", "-c", "stty size; sleep 100")
        oci.fails("create", "c", says="use --console-socket")
        oci("create", "--console-socket", tmp_path / "s", "c")
        _, tty = receive(listener)
        oci("start", "c")
        assert os.read(tty, 100) == b"11 77\r\n"
        os.close(tty)
        oci("exec", "-t", "-d", "--pid-file", tmp_path / "pid", "--console-socket", tmp_path / "s", "c", "sh", "-c", "tty; sleep 1000")
        _, tty = receive(listener)
        assert os.read(tty, 100) == b"/dev/pts/1\r\n"
        os.close(tty)
        end(tmp_path / "pid")
        oci.fails("exec", "--console-socket", tmp_path / "s", "c", "true", says="--tty")


def test_pidfds_go_to_who_asked(oci, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        pid = oci.start("c", options=["--pidfd-socket", tmp_path / "s"])
        text, fd = receive(listener)
        assert text == "standard" and f"Pid:\t{pid}\n" in read(f"/proc/self/fdinfo/{fd}")
        os.close(fd)
        oci("exec", "-d", "--pid-file", tmp_path / "pid", "--pidfd-socket", tmp_path / "s", "c", "sleep", "50")
        text, fd = receive(listener)
        assert text == "setns"
        os.close(fd)
        end(tmp_path / "pid")
        pid = oci.start("d", annotations={"run.oci.pidfd_receiver": str(tmp_path / "s")})
        _, fd = receive(listener)
        assert f"Pid:\t{pid}\n" in read(f"/proc/self/fdinfo/{fd}")
        os.close(fd)


def test_only_the_descriptors_that_were_passed_arrive(oci):
    oci.save("ls", "/proc/self/fd")
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(40)]
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        assert oci("run", "c", close_fds=False).split() == ["0", "1", "2", "3"]  # 3: the directory that ls lists
    finally:
        for fd in fds:
            os.close(fd)
    target = os.open("/etc/hostname", os.O_RDONLY)
    oci.save("sh", "-c", "for f in /proc/self/fd/*; do readlink $f; done; env | grep LISTEN")
    script = f'exec 3<&{target}; exec "$@"'
    r = subprocess.run(["bash", "-c", script, "bash", RUNTIME, "--root", str(oci.root), "run", "--preserve-fds", "1", "c"],
                       capture_output=True, text=True, pass_fds=[target], cwd=oci.bundle, check=False)
    assert "/etc/hostname" in r.stdout and "LISTEN" not in r.stdout, r
    r = subprocess.run(["bash", "-c", script, "bash", RUNTIME, "--root", str(oci.root), "run", "c"], capture_output=True, text=True,
                       pass_fds=[target], cwd=oci.bundle, check=False, env=dict(os.environ, LISTEN_FDS="1"))
    os.close(target)
    assert "/etc/hostname" in r.stdout and "LISTEN_FDS=1" in r.stdout and "LISTEN_PID=1" in r.stdout
    oci.save("sh", "-c", "ls -l /proc/self/fd")
    out = oci("run", "--preserve-fds", "100", "c")  # numbers that were free at the start may be ours by now
    assert "hoy" not in out and str(oci.root) not in out and len(out.splitlines()) <= 5


def test_readiness_is_passed_on_and_nothing_else(oci, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        path = tmp_path / "notify"
        host.bind(str(path))
        host.settimeout(60)
        env = dict(os.environ, NOTIFY_SOCKET=str(path))
        oci.save("sleep", "100")
        oci("create", "c", env=env)
        inside = oci.root / "c/notify/notify"
        proc = subprocess.Popen([RUNTIME, "--root", str(oci.root), "start", "c"], env=env)
        until(inside.exists)
        time.sleep(0.2)
        assert proc.poll() is None  # start waits for the readiness
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.connect(str(inside))
            s.send(b"MAINPID=1\nFDSTORE=1\nSTATUS=warm\nREADY=1")
        pid = json.loads(oci("state", "c"))["pid"]
        assert [host.recv(100) for _ in range(3)] == [b"STATUS=warm", f"MAINPID={pid}".encode(), b"READY=1"]
        assert proc.wait(60) == 0
        out = oci("exec", "c", "sh", "-c", "cat /proc/1/environ")
        assert f"NOTIFY_SOCKET={path}/notify" in out


# ---- limits ----

def test_update(oci):
    oci.start("c")
    has_cpuset = not V2 or "cpuset" in read("/sys/fs/cgroup/cgroup.controllers")
    oci("update", "--memory", "64m", "--memory-reservation", "32m", "--pids-limit", "77", "--cpu-share", "512", "--cpu-quota",
        "50000", "--cpu-period", "200000", *(["--cpuset-cpus", "0"] if has_cpuset else []), "c")
    files = [("", "memory.max", "67108864"), ("", "memory.low", "33554432"), ("", "pids.max", "77"), ("", "cpu.max", "50000 200000"),
             ("", "cpuset.cpus", "0")] if V2 else [
                 ("memory", "memory.limit_in_bytes", "67108864"), ("memory", "memory.soft_limit_in_bytes", "33554432"),
                 ("pids", "pids.max", "77"), ("cpu", "cpu.shares", "512"), ("cpu", "cpu.cfs_quota_us", "50000"),
                 ("cpu", "cpu.cfs_period_us", "200000"), ("cpuset", "cpuset.cpus", "0")]
    for controller, name, value in files if has_cpuset else files[:-1]:
        assert read(f"{group('c', controller)}/{name}").strip() == value
    oci("update", "-r", "-", "c", stdin=None, input='{"pids": {"limit": 88}, "memory": {"limit": 33554432}}')
    assert read(group("c", "pids") + "/pids.max") == "88\n"
    saved = json.loads((oci.root / "c/config.json").read_text())["linux"]["resources"]
    assert saved["pids"] == {"limit": 88} and saved["memory"] == {"limit": 33554432, "reservation": 33554432}
    oci.fails("update", "-r", "-", "--memory", "1m", "c", says="exclude each other")
    oci.fails("update", "--l3-cache-schema", "L3:0=f", "c", says="made without linux.intelRdt")
    oci.fails("update", "-r", "-", "--mem-bw-schema", "MB:0=1", "c", stdin=subprocess.DEVNULL, says="resources")


def test_events(oci):
    oci.config["linux"]["resources"]["memory"] = {"limit": 33554432}
    oci.start("c")
    event = json.loads(oci("events", "--stats", "c"))
    data = event["data"]
    assert event["type"] == "stats" and event["id"] == "c" and data["pids"]["current"] == 1
    assert data["memory"]["usage"]["limit"] == 33554432 and data["memory"]["usage"]["usage"] > 0 and ("anon" if V2 else "rss") in data["memory"]["raw"]
    assert data["cpu"]["usage"]["total"] > 0 and (V2 or len(data["cpu"]["usage"]["percpu"]) >= 1)
    assert isinstance(data["blkio"]["ioServiceBytesRecursive"], list)
    proc = subprocess.Popen([RUNTIME, "--root", str(oci.root), "events", "--interval", "100ms", "c"], stdout=subprocess.PIPE, text=True)
    assert json.loads(proc.stdout.readline())["type"] == "stats"
    oci.any("exec", "c", "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=60; true")
    oci.any("exec", "c", "tail", "/dev/zero")
    kinds = set()
    while "oom" not in kinds:
        kinds.add(json.loads(proc.stdout.readline())["type"])
    oci("kill", "c", "KILL")
    proc.communicate(timeout=60)
    assert proc.returncode == 0


def test_without_control_groups(oci):
    pre = ["--cgroup-manager", "disabled"]
    del oci.config["linux"]["resources"]
    oci.save("sleep", "100")
    oci("run", "-d", "c", pre=pre)
    assert not os.path.exists(group("c")) and oci.status("c") == "running"
    for args in (["pause", "c"], ["ps", "c"], ["kill", "--all", "c"], ["update", "--pids-limit", "5", "c"]):
        oci.fails(*args, says="has no control group")
    assert oci("exec", "c", "echo", "in") == "in\n"
    oci("delete", "-f", "c")
    oci.config["linux"]["resources"] = {"pids": {"limit": 5}}
    oci.save("true")
    oci.fails("run", "c", pre=pre, says="limits need a control group")


# ---- without root rights ----

def test_a_user_without_rights_runs_a_container(rootfs):
    base = pathlib.Path(tempfile.mkdtemp(prefix="hoy-user-"))
    try:
        shutil.copy(RUNTIME, base / "runtime")
        shutil.copytree(rootfs, base / "rootfs", symlinks=True)
        for path in (base, *base.glob("**/*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
        base.chmod(0o755)

        def user(*args, code=0):
            r = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", base / "runtime", *args], cwd=base,
                               capture_output=True, text=True, env={"XDG_RUNTIME_DIR": str(base), "PATH": os.environ["PATH"]},
                               timeout=60, check=False)
            assert r.returncode == code, r
            return r.stdout + r.stderr

        user("spec", "--rootless")
        config = json.loads((base / "config.json").read_text())
        config["process"].update(terminal=False, args=["sh", "-c", "id; cat /proc/self/uid_map"], rlimits=[])
        if "GLIBC_TUNABLES" in os.environ:
            config["process"]["env"].append("GLIBC_TUNABLES=" + os.environ["GLIBC_TUNABLES"])
        (base / "config.json").write_text(json.dumps(config))
        out = user("run", "c")  # no control group may be made, and none is needed
        assert out.startswith("uid=0(root) gid=0") and out.split()[-3:] == ["0", "65534", "1"]
        config["process"]["args"] = ["sleep", "1000"]
        (base / "config.json").write_text(json.dumps(config))
        script = 'cd $1; ./runtime run -d d >/dev/null 2>&1 </dev/null; ./runtime exec d sh -c "id -u; cat /proc/1/comm; exit 4"; echo $?'
        r = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", script, "sh", base],
                           capture_output=True, text=True, env={"XDG_RUNTIME_DIR": str(base), "PATH": os.environ["PATH"]},
                           timeout=60, check=False)
        assert r.stdout == "0\nsleep\n4\n", r
        user("delete", "-f", "d")
        assert "Permission denied" in user("--rootless=false", "run", "c", code=1)
        config["linux"]["resources"] = {"pids": {"limit": 5}}
        (base / "config.json").write_text(json.dumps(config))
        assert "limits need a control group" in user("run", "c", code=1)
        assert user("list", "-q") == ""
    finally:
        shutil.rmtree(base)


# ---- exec where processes of the container may trace: the program is born last ----

def test_exec_is_as_ever_where_it_is_born_last(oci, tmp_path):
    for kind in ("bounding", "effective", "permitted"):
        oci.config["process"]["capabilities"][kind] = ["CAP_SYS_PTRACE", "CAP_KILL"]
    oci.start("c")
    oci("exec", "-d", "--pid-file", tmp_path / "pid", "c", "sleep", "500")
    pid = int(read(tmp_path / "pid"))
    assert read(f"/proc/{pid}/cmdline") == "sleep\x00500\x00" and f"{pid}\n" in read(group("c") + "/cgroup.procs")
    status = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert status["CapEff"] == status["CapBnd"] == f"{1 << 19 | 1 << 5:016x}" and status["NoNewPrivs"] == "1"
    assert int(read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[3]) == pid  # a session of its own
    end(tmp_path / "pid")
    (tmp_path / "f").write_text("handed over")
    r = subprocess.run(["sh", "-c", f'exec {RUNTIME} --root {oci.root} exec --preserve-fds 1 c sh -c "cat <&3; ls /proc/self/fd | wc -l" '
                        f'3<{tmp_path}/f'], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert r.stdout == "handed over5\n"
    oci("exec", "c", "sh", "-c", "kill -9 $$", code=137)
    oci.fails("exec", "c", "none-such", says="none-such")
    oci("update", "--pids-limit", "1", "c")
    oci.fails("exec", "c", "true", says="make a process in the container: Resource temporarily unavailable")
    assert oci("ps", "c").count("\n") == 2  # nothing of it is left


# ---- logs ----

LOG_SERVICES = """
import os, socket, struct, subprocess, sys
runtime, root = sys.argv[1:]
subprocess.run("mount -t tmpfs x /run && mkdir -p /run/systemd/journal && mount -t tmpfs x /dev && mknod -m 666 /dev/null c 1 3", shell=True,
               check=True)
def said(path, log, *more):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path)
    r = subprocess.run([runtime, "--root", root, "--log", log, *more, "state", "none"], capture_output=True, text=True)
    assert r.returncode == 1 and r.stderr == 'hoy-runtime: container does not exist: "none"\\n', r
    return s.recv(9999)
text = b'container does not exist: "none"'
assert said("/run/systemd/journal/socket", "journald:me") == (b"PRIORITY=3\\nSYSLOG_IDENTIFIER=me\\nMESSAGE\\n" +
                                                              struct.pack("<Q", len(text)) + text + b"\\n")
got = said("/dev/log", "syslog:", "--log-format", "json")
assert got.startswith(b"<11>hoy-runtime[") and got.endswith(b"]: " + text), got
os.unlink("/dev/log")
r = subprocess.run([runtime, "--root", root, "--log", "syslog:x", "list"], capture_output=True, text=True)
assert r.returncode == 1 and "--log=syslog:x: connect to /dev/log" in r.stderr, r
"""


def test_errors_go_to_the_journal_and_to_syslog(oci):
    subprocess.run(["unshare", "-m", "/usr/bin/python3", "-c", LOG_SERVICES, RUNTIME, str(oci.root)], check=True, timeout=60)


def test_log_levels(oci):
    oci.config["process"]["capabilities"]["bounding"].append("CAP_NONE_SUCH")
    oci.save("true")
    assert "CAP_NONE_SUCH" in oci.any("run", "c").stderr
    assert oci.any("run", "c", pre=["--log-level", "error"]).stderr == ""
    assert "oci_box.c:" in oci.any("state", "none", pre=["--log-level=debug"]).stderr
    oci.fails("list", pre=["--log-level", "x"], says="error, warning or debug")


# ---- mounts ----

def test_mounts_come_and_go_while_it_runs(oci, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/f").write_text("seen\n")
    mounts = [{"destination": "/var", "source": str(tmp_path / "src"), "options": ["rbind", "ro"]},
              {"destination": "/etc/passwd", "source": str(tmp_path / "src/f"), "type": "bind", "options": ["bind"]}]
    (tmp_path / "m.json").write_text(json.dumps(mounts))
    oci.start("c")
    oci("mounts", "add", "c", tmp_path / "m.json")
    assert oci("exec", "c", "cat", "/var/f", "/etc/passwd") == "seen\nseen\n"
    assert "Read-only" in oci.any("exec", "c", "touch", "/var/g").stderr
    saved = json.loads((oci.root / "c/config.json").read_text())["mounts"]
    assert saved[-2:] == mounts
    oci("mounts", "remove", "c", tmp_path / "m.json")
    assert oci.any("exec", "c", "cat", "/var/f").returncode == 1 and "root:" in oci("exec", "c", "cat", "/etc/passwd")
    assert json.loads((oci.root / "c/config.json").read_text())["mounts"] == saved[:-2]
    oci.fails("mounts", "remove", "c", tmp_path / "m.json", says="unmount")
    for bad, says in (({"destination": "/nowhere", "source": "/etc", "options": ["bind"]}, "nowhere: Read-only"),
                      ({"destination": "/tmp", "source": "x", "type": "nofs"}, "unknown file system nofs"),
                      ({"destination": "/tmp", "source": "tmpfs", "type": "tmpfs", "options": ["size=x"]}, "mount option size"),
                      ({"destination": "/", "type": "tmpfs", "options": ["remount"]}, 'option "remount" is not supported while'),
                      ({"destination": "/tmp", "type": "cgroup"}, "control groups is not supported while"),
                      ({"destination": "/tmp", "source": "/none", "options": ["bind"]}, "bind mount source /none")):
        (tmp_path / "bad.json").write_text(json.dumps([mounts[0], bad]))
        oci.fails("mounts", "add", "c", tmp_path / "bad.json", says=says)
        assert oci.any("exec", "c", "cat", "/var/f").returncode == 1  # all or none
    oci.fails("mounts", "move", "c", tmp_path / "m.json", says="add or remove")


@pytest.mark.parametrize("user_ns", [False, True])
def test_mounts_of_any_kind_come_while_it_runs(oci, tmp_path, user_ns):
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/f").write_text("seen\n")
    for d in ("lower", "upper", "work"):
        (tmp_path / d).mkdir()
    if user_ns:
        tmp_path.chmod(0o755)
        oci.config["linux"]["namespaces"].append({"type": "user"})
        ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        oci.config["linux"].update(uidMappings=ids, gidMappings=ids)
        oci.config["mounts"] = [m for m in oci.config["mounts"] if m["type"] != "cgroup"]
    oci.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]})
    pid = oci.start("c")
    mounts = [{"destination": "/tmp/a/b", "source": str(tmp_path / "src"), "type": "bind", "options": ["rbind", "ro"]},
              {"destination": "/tmp/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=700", "nosuid"]},
              {"destination": "/tmp/p", "type": "proc", "source": "proc"},
              {"destination": "/tmp/q", "type": "mqueue", "source": "mqueue"},
              {"destination": "/tmp/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]},
              {"destination": "/tmp/o", "type": "overlay", "source": "overlay",
               "options": [f"lowerdir={tmp_path}/src", f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work"]}]
    (tmp_path / "m.json").write_text(json.dumps(mounts))
    oci("mounts", "add", "c", tmp_path / "m.json")
    table = oci("exec", "c", "cat", "/proc/self/mountinfo")
    assert all(f" {m['destination']} " in table for m in mounts)
    assert oci("exec", "c", "cat", "/tmp/a/b/sub/f", "/tmp/o/sub/f") == "seen\nseen\n"
    assert oci("exec", "c", "stat", "-c", "%a %u", "/tmp/t") == "700 0\n"  # its root's, also in a user namespace
    oci("exec", "c", "touch", "/tmp/t/x")
    assert oci("exec", "c", "readlink", "/tmp/p/1/exe") == "/bin/busybox\n"  # of its own pid namespace
    assert " /tmp/t " in read(f"/proc/{pid}/mountinfo") and " /tmp/t " not in read("/proc/self/mountinfo")
    oci("pause", "c")
    oci("mounts", "remove", "c", tmp_path / "m.json")
    oci("resume", "c")
    table = oci("exec", "c", "cat", "/proc/self/mountinfo")
    assert not [m for m in mounts if f" {m['destination']} " in table]


def test_a_hostile_proc_misleads_no_mount_that_comes_late(oci, tmp_path):
    """A container that has put something else on /proc: what is mounted goes where it was told to."""
    oci.config["root"]["readonly"] = False
    oci.config["process"]["capabilities"]["bounding"] += ["CAP_SYS_ADMIN"]
    for kind in ("effective", "permitted"):
        oci.config["process"]["capabilities"][kind] = oci.config["process"]["capabilities"]["bounding"]
    oci.config["linux"]["seccomp"] = None
    oci.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    oci.start("c", "sh", "-c", "umount -l /proc; mount -t tmpfs x /proc; mkdir -p /proc/self/fd /tmp/trap; "
              "for i in 3 4 5 6 7 8 9 10 11 12; do ln -s /tmp/trap /proc/self/fd/$i; done; touch /tmp/ready; sleep 1000")
    until(lambda: oci.any("exec", "c", "test", "-e", "/tmp/ready").returncode == 0)
    (tmp_path / "m.json").write_text(json.dumps([{"destination": "/tmp/t", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}]))
    oci("mounts", "add", "c", tmp_path / "m.json")
    assert " /tmp/t " in read(f"/proc/{json.loads(oci('state', 'c'))['pid']}/mountinfo")
    assert " /tmp/trap " not in read(f"/proc/{json.loads(oci('state', 'c'))['pid']}/mountinfo")


def test_without_a_mount_namespace_of_its_own_there_are_no_late_mounts(oci, tmp_path):
    oci.config["linux"]["namespaces"] = [n for n in oci.config["linux"]["namespaces"] if n["type"] not in ("mount", "cgroup")]
    oci.config["linux"].pop("maskedPaths")
    oci.config["linux"].pop("readonlyPaths")
    oci.config["root"]["readonly"] = False
    oci.config["mounts"] = []
    (tmp_path / "m.json").write_text(json.dumps([{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]))
    oci.save("sleep", "1000")
    r = oci.any("run", "-d", "c")
    if r.returncode:
        assert "needs Linux 6.15" in r.stderr
        return
    for what in ("add", "remove"):
        oci.fails("mounts", what, "c", tmp_path / "m.json", says="no mount namespace of its own")


# ---- annotations ----

def test_annotations(oci, tmp_path):
    oci.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo out; echo err >&2"]}],
                           "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", "echo end"]}]}
    oci.save("true", annotations={"run.oci.hooks.stdout": str(tmp_path / "o"), "run.oci.hooks.stderr": str(tmp_path / "e")})
    assert oci("run", "c") == ""
    assert (read(tmp_path / "o"), read(tmp_path / "e")) == ("out\nend\n", "err\n")
    del oci.config["hooks"]
    # return ERRNO(EXDEV) for getuid, else allow
    program = b"".join(struct.pack("HBBI", *i) for i in ((0x20, 0, 0, 0), (0x15, 0, 1, 102), (6, 0, 0, 0x50000 | 18), (6, 0, 0, 0x7fff0000)))
    oci.save("grep", "Seccomp:", "/proc/self/status", annotations={"run.oci.seccomp_bpf_data": base64.b64encode(program).decode()})
    assert oci("run", "c") == "Seccomp:\t2\n"
    oci.save("true", annotations={"run.oci.seccomp_bpf_data": "AAAA"})
    oci.fails("run", "c", says="are no program")
    oci.save("grep", "Groups", "/proc/self/status", annotations={"run.oci.keep_original_groups": "1"})
    r = subprocess.run(["setpriv", "--groups", "5,6", RUNTIME, "--root", str(oci.root), "run", "c"], capture_output=True, text=True,
                       cwd=oci.bundle, check=False)
    assert r.stdout == "Groups:\t5 6 \n", r
    for name in ("run.oci.handler", "run.oci.seccomp.plugins", "run.oci.systemd.force_cgroup_v1"):
        oci.save("true", annotations={name: "x"})
        oci.fails("run", "c", says=f"{name} is not supported")
    oci.save("true", annotations={"run.oci.mount_context_type": "x"})
    oci.fails("run", "c", says="not context, fscontext, defcontext or rootcontext")
    oci.config["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0"
    oci.save("true", annotations={"run.oci.mount_context_type": "rootcontext"})
    if not os.path.exists("/sys/fs/selinux/enforce"):
        assert "linux.mountLabel" in oci.any("run", "c").stderr
    del oci.config["linux"]["mountLabel"]
    oci.save("true")
    oci.fails("run", "c", env=dict(os.environ, RUN_OCI_SECCOMP_RECEIVER="/nobody"), says="connect to the seccomp agent /nobody")
    oci.save("sh", "-c", "cat /proc/self/cgroup; sleep 100", annotations={"run.oci.delegate-cgroup": "sub"})
    if not V2:
        oci.fails("run", "c", says="delegating is not safe with control groups v1")
        return
    oci("run", "-d", "c")
    pid = json.loads(oci("state", "c"))["pid"]
    assert read(f"/proc/{pid}/cgroup") == "0::/c/sub\n" and read(group("c") + "/cgroup.procs") == ""
    assert oci("exec", "c", "cat", "/proc/self/cgroup") == "0::/\n"


# ---- spec, features, help ----

def test_spec_makes_a_configuration_that_runs(oci):
    assert json.loads(oci.spec())["ociVersion"].startswith("1.")
    oci.save("true")
    oci("run", "c")
    oci.fails("spec", says="exists")
    oci("spec", "--rootless", "-f", "user.json")
    rootless = json.loads(read(oci.bundle / "user.json"))
    assert {"type": "user"} in rootless["linux"]["namespaces"] and rootless["linux"]["uidMappings"][0]["size"] == 1


def test_features_are_what_the_parser_takes(oci):
    features = json.loads(oci("features"))
    assert "CAP_SYS_ADMIN" in features["linux"]["capabilities"] and features["linux"]["cgroup"]["systemd"]
    for option in features["mountOptions"]:
        if option[0] == "r" and option not in ("ro", "rw", "relatime") or option in (
                "bind", "tmpcopyup", "mand", "iversion", "loud", "silent", "shared", "unbindable", "idmap", "copy-symlink"):
            continue  # recursive ones, and those that want a certain source or file system
        oci.config["mounts"].append({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": [option]})
        oci.save("true")
        oci("run", "c")
        oci.config["mounts"].pop()


def test_help_tells_every_command_and_follows_the_name_of_a_link(oci, tmp_path):
    os.symlink(RUNTIME, tmp_path / "crun")
    out = subprocess.run([tmp_path / "crun", "--help"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^  ([a-z]+) ", out.split("COMMANDS:")[1], re.M)
    assert {"create", "start", "state", "kill", "delete", "run", "exec", "ps", "list", "update", "pause", "resume", "events", "spec",
            "features"} <= set(commands)
    for c in commands:
        text = oci(c, "--help")
        assert text.startswith(f"Usage: hoy-runtime [OPTION...] {c}")
    version = subprocess.run([tmp_path / "crun", "--version"], capture_output=True, text=True, check=True).stdout
    assert version.startswith("crun version ") and "\nspec: 1." in version
