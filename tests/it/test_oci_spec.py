"""What runtime-spec 1.3 asks for and neither crun's suite nor runtime-tools looks at, on hoy-runtime itself."""
import array
import base64
import ctypes
import fcntl
import json
import os
import pathlib
import socket
import struct
import subprocess
import time

import pytest

from conftest import BUILD, Result, busybox_tree, calm_census, check_census, until

RUNTIME = BUILD / "src/main/hoy-runtime"
NAMESPACES = ["pid", "mount", "ipc", "uts", "network"]


class Bundle:
    """A bundle on busybox's tree, with the runtime's root beside it."""

    def __init__(self, base):
        self.base, self.root, self.id = base, base / "state", "spec"
        busybox_tree(base / "rootfs")
        env = ["PATH=/bin"] + [f"{k}={v}" for k, v in os.environ.items() if k == "GLIBC_TUNABLES"]  # tests/v2 needs it
        self.conf = {
            "ociVersion": "1.3.0", "root": {"path": "rootfs"}, "hostname": "box",
            "process": {"cwd": "/", "args": ["true"], "env": env, "user": {"uid": 0, "gid": 0}},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                       {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                       {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}],
            "linux": {"namespaces": [{"type": t} for t in NAMESPACES]}}
        self.process, self.linux = self.conf["process"], self.conf["linux"]

    def save(self):
        """Writes config.json."""
        (self.base / "config.json").write_text(json.dumps(self.conf))

    def command(self, *args):
        """hoy-runtime with our root."""
        return [str(RUNTIME), "--root", str(self.root), *map(str, args)]

    def __call__(self, *args, code=0, env=None, **more):
        """hoy-runtime ARGS; the exit code must be code (None: any)."""
        r = Result(subprocess.run(self.command(*args), cwd=self.base, capture_output=True, text=True, timeout=60, check=False,
                                  stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})), **more))
        assert code is None or r.code == code, f"{args}: {r}"
        return r

    def run(self, *args, **more):
        """`run` with these process.args."""
        if args:
            self.process["args"] = list(args)
        self.save()
        return self("run", self.id, **more)

    def create(self, code=0):
        """`create`; what it prints goes nowhere, for the container inherits it."""
        self.save()
        with open(self.base / "err", "w+", encoding="utf-8") as err:
            p = subprocess.run(self.command("create", self.id), cwd=self.base, stdin=subprocess.DEVNULL, stdout=err, stderr=err,
                               timeout=60, check=False)
            err.seek(0)
            text = err.read()
        assert p.returncode == code, text
        return text

    def status(self):
        """As the state document has it; None: no such container."""
        r = self("state", self.id, code=None)
        return json.loads(r.out)["status"] if r.code == 0 else None

    def wait(self, status):
        """Until the container has this status."""
        until(lambda: self.status() == status, tell=lambda: f"is {self.status()}, not {status}")


@pytest.fixture
def box(tmp_path):
    """A bundle; its container is gone afterwards and nothing is left on the host."""
    before = calm_census()
    b = Bundle(tmp_path)
    yield b
    b("delete", "--force", b.id, code=None)
    check_census(before)


def hook(script, **more):
    """A hook that runs a line of shell."""
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


# ---- process ----

def test_personality_is_that_of_32_bits(box):
    box.linux["personality"] = {"domain": "LINUX32"}
    assert box.run("uname", "-m").out.strip() == "i686"


def test_io_priority_and_nice(box):
    box.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    box.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    out = box.run("sh", "-c", "cat /proc/self/stat; ionice -p 1").out
    assert out.split(") ")[1].split()[16] == "7" and "best-effort: prio 6" in out


def test_exec_affinity_before_and_after_the_cgroup(box):
    box.process["args"] = ["sleep", "100"]
    box.create()
    box("start", box.id)
    process = dict(box.process, args=["grep", "Cpus_allowed_list", "/proc/self/status"])
    cpus = sorted(os.sched_getaffinity(0))
    for affinity, want in (({"initial": str(cpus[0])}, None), ({"initial": str(cpus[0]), "final": str(cpus[-1])}, str(cpus[-1]))):
        (box.base / "process.json").write_text(json.dumps(dict(process, execCPUAffinity=affinity)))
        out = box("exec", "--process", box.base / "process.json", box.id).out
        assert want is None or out.split()[-1] == want
    (box.base / "process.json").write_text(json.dumps(dict(process, execCPUAffinity={"final": "4-2"})))
    assert "process.execCPUAffinity.final" in box("exec", "--process", box.base / "process.json", box.id, code=None).err


def test_the_working_directory_is_made_in_a_read_only_root(box):
    box.conf["root"]["readonly"] = True
    box.process["cwd"] = "/deep/down"
    assert box.run("pwd").out == "/deep/down\n"


@pytest.mark.parametrize("uid, home", [(0, "/root"), (1000, "/home"), (4711, "/")])
def test_home_is_that_of_the_image(box, uid, home):
    box.process["user"] = {"uid": uid, "gid": uid}
    assert box.run("sh", "-c", "echo $HOME").out.strip() == home


def test_a_passwd_without_end_costs_nothing(box):
    (box.base / "rootfs/etc/passwd").unlink()
    os.mkfifo(box.base / "rootfs/etc/passwd")
    assert box.run("sh", "-c", "echo $HOME").out.strip() == "/"


def test_an_unset_oom_score_stays(box):
    ours = pathlib.Path("/proc/self/oom_score_adj").read_text().strip()
    assert box.run("cat", "/proc/self/oom_score_adj").out.strip() == ours
    box.process["oomScoreAdj"] = 321
    assert box.run("cat", "/proc/self/oom_score_adj").out.strip() == "321"


def test_a_container_without_process_is_created_but_not_started(box):
    del box.conf["process"]
    box.create()
    assert box.status() == "created"
    assert "no process" in box("start", box.id, code=None).err
    box.wait("stopped")
    box("delete", box.id)


# ---- namespaces ----

@pytest.mark.parametrize("kind, other", [("network", "uts"), ("uts", "ipc"), ("ipc", "net"), ("pid", "mnt"), ("time", "pid")])
def test_a_path_of_the_wrong_kind_is_an_error(box, kind, other):
    box.linux["namespaces"] = [n for n in box.linux["namespaces"] if n["type"] != kind]
    box.linux["namespaces"].append({"type": kind, "path": f"/proc/self/ns/{other}"})
    del box.conf["hostname"]
    assert "namespace" in box.run("true", code=None).err
    assert box.status() is None


def test_a_container_without_a_mount_namespace_keeps_its_mounts_to_itself(box):
    del box.conf["hostname"]
    box.linux["namespaces"] = [{"type": "pid"}]
    box.process["args"] = ["sh", "-c", "echo $(ls /) >/out; while true; do sleep 1; done"]
    box.save()
    before = pathlib.Path("/proc/self/mountinfo").read_text()
    if tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) < (6, 15):
        pytest.skip("needs Linux 6.15")
    box.create()
    box("start", box.id)
    pid = json.loads(box("state", box.id).out)["pid"]
    assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    until(lambda: box("exec", box.id, "sh", "-c", "[ ! -e /out ] || cat /out").out)
    out = box("exec", box.id, "sh", "-c", "cat /out; head -n1 /proc/self/status; ls /dev/null").out
    assert "bin dev" in out and "Name:" in out and "/dev/null" in out
    assert pathlib.Path("/proc/self/mountinfo").read_text() == before


def test_loopback_is_up(box):
    assert "LOOPBACK,UP" in box.run("ip", "link").out


def test_clocks_of_a_time_namespace(box):
    box.linux["namespaces"] += [{"type": "time"}, {"type": "user"}]
    box.linux["uidMappings"] = box.linux["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    box.linux["timeOffsets"] = {"boottime": {"secs": 1000000}}
    del box.conf["mounts"][2]
    here = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 999000 < float(box.run("cat", "/proc/uptime").out.split()[0]) - here < 1001000


def test_network_devices_move_with_their_addresses(box):
    def ip(*args, check=True):
        return subprocess.run(["ip", *args], check=check, capture_output=True, text=True)

    pair = f"hs{os.getpid() % 100000}"
    if ip("link", "add", pair + "a", "type", "veth", "peer", "name", pair + "b", check=False).returncode:
        pytest.skip("needs veth")
    try:
        ip("address", "add", "10.77.1.2/24", "dev", pair + "a")
        ip("address", "add", "fd77::2/64", "dev", pair + "a", "nodad")
        ip("address", "add", "10.77.9.9/32", "scope", "link", "dev", pair + "a")
        box.linux["netDevices"] = {pair + "a": {"name": "lo"}}
        assert "lo" in box.run("true", code=None).err
        assert ip("link", "show", pair + "a").returncode == 0  # nothing was moved
        box.linux["netDevices"] = {pair + "a": {"name": "eth%d"}, pair + "b": {"name": "eth%d"}}
        out = box.run("ip", "address").out
        assert "eth0@" in out and "eth1@" in out
        first = out[out.index("eth0@"):out.index("eth1@")] if out.index("eth0@") < out.index("eth1@") else out[out.index("eth0@"):]
        assert "10.77.1.2/24" in first and "fd77::2/64" in first and "UP" in first and "10.77.9.9" not in first
    finally:
        ip("link", "delete", pair + "a", check=False)


# ---- hooks ----

def test_hooks_come_in_order_and_read_the_state(box):
    log = box.base / "log"
    name = '"status":"[a-z]*"'
    for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop"):
        box.conf.setdefault("hooks", {})[kind] = [hook(f"echo {kind} $(grep -o '{name}') >>{log}"), hook(f"echo {kind} 2 >>{log}")]
    box.conf["annotations"] = {"long": "x" * 200000}  # more than a pipe holds; the second hook does not read it
    box.run("true")
    states = {"prestart": "created", "createRuntime": "created", "createContainer": "created", "poststart": "running",
              "poststop": "stopped"}
    want = [line for kind, status in states.items() for line in (f'{kind} status:{status}', f"{kind} 2")]
    assert log.read_text().replace('"', "").splitlines() == want


def test_what_create_container_hooks_mount_is_in_the_container(box):
    box.conf["hooks"] = {"createContainer": [hook("mount -t tmpfs tmpfs rootfs/tmp && echo here >rootfs/tmp/mark")]}
    assert box.run("cat", "/tmp/mark").out == "here\n"
    assert not (box.base / "rootfs/tmp/mark").exists()


def test_start_container_hooks_are_the_containers(box):
    (box.base / "rootfs/bin/mark").write_text("#!/bin/sh\n/bin/busybox cat >/state; echo \"$SECRET\" >>/state\n")
    (box.base / "rootfs/bin/mark").chmod(0o755)
    box.conf["hooks"] = {"startContainer": [{"path": "/bin/mark"}]}
    box.create()
    assert not (box.base / "rootfs/state").exists()
    box("start", box.id, env={"SECRET": "ours"})
    text = (box.base / "rootfs/state").read_text()
    assert json.loads(text.splitlines()[0])["status"] == "created" and "ours" not in text


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_destroys_what_was_created(box, kind):
    box.conf["hooks"] = {kind: [hook("exit 3")], "poststop": [hook(f"echo stopped >{box.base}/log")]}
    assert f"{kind} hook failed with exit code 3" in box.create(code=1)
    assert box.status() is None and (box.base / "log").read_text() == "stopped\n"


@pytest.mark.parametrize("kind", ["startContainer", "poststart"])
def test_a_hook_that_fails_at_start_destroys_the_container(box, kind):
    box.conf["hooks"] = {kind: [{"path": "/bin/false"}], "poststop": [hook(f"echo stopped >{box.base}/log")]}
    box.process["args"] = ["sleep", "100"]
    box.create()
    assert f"{kind} hook failed with exit code 1" in box("start", box.id, code=None).err
    assert box.status() is None and (box.base / "log").read_text() == "stopped\n"


def test_a_hook_has_only_so_much_time(box):
    box.conf["hooks"] = {"prestart": [hook("exec sleep 1000", timeout=1)]}
    start = time.monotonic()
    assert "timed out" in box.create(code=1) and time.monotonic() - start < 500


def test_the_remaining_poststop_hooks_run(box):
    box.conf["hooks"] = {"poststop": [hook("exit 1"), hook(f"echo second >{box.base}/log"), hook("exit 2")]}
    err = box.run("true").err
    assert "exit code 1" in err and "exit code 2" in err and (box.base / "log").read_text() == "second\n"


# ---- seccomp ----

def test_a_narrow_profile_is_enough_to_start(box):
    """Nothing of ours runs under the filter but execve."""
    names = ["execve", "brk", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "readlink", "getrandom",
             "mprotect", "prctl", "getuid", "setuid", "getgid", "setgid", "exit_group", "writev", "newuname", "uname"]
    box.process["noNewPrivileges"] = True
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
                            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]}
    box.run("true")


def test_arguments_have_64_bits(box):
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7,
         "args": [{"index": 0, "value": 18446744073709551615, "op": "SCMP_CMP_LT"}]}]}
    box.run("true")


def test_a_raw_program_takes_the_place_of_the_profile(box):
    """Loads the number; mkdir (83): EDOM; else allow."""
    program = struct.pack("HBBI", 0x20, 0, 0, 0) + struct.pack("HBBI", 0x15, 0, 1, 83) + \
        struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | 33) + struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    box.conf["annotations"] = {"run.oci.seccomp_bpf_data": base64.b64encode(program).decode()}
    assert "Numerical argument out of domain" in box.run("mkdir", "/x", code=1).err


class Agent:
    """A seccomp agent: takes one listener and answers one call with an errno."""

    RECV, SEND = 0xC0502100, 0xC0182101

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(str(path))
        self.sock.listen(1)
        self.sock.settimeout(60)

    def accept(self):
        """The message and the listener."""
        conn, _ = self.sock.accept()
        with conn:
            data, ancillary, _, _ = conn.recvmsg(65536, socket.CMSG_LEN(4))
        fds = array.array("i")
        fds.frombytes(ancillary[0][2])
        return json.loads(data), fds[0]

    def answer(self, listener, errno):
        """Receives one notification; its system call number."""
        request = bytearray(80)
        fcntl.ioctl(listener, self.RECV, request)
        call_id, _, _, number = struct.unpack_from("QIIi", request)
        fcntl.ioctl(listener, self.SEND, struct.pack("QqiI", call_id, 0, -errno, 0))
        return number


@pytest.mark.parametrize("how", ["run", "exec"])
@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"])
def test_the_agent_is_asked(box, how, default):
    agent = Agent(box.base / "agent")
    box.linux["seccomp"] = {
        "defaultAction": default, "listenerPath": str(box.base / "agent"), "listenerMetadata": 'me "and" you',
        "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        # what a sender would call is asked about, too: nobody of ours may make these calls under the filter
        "syscalls": [{"names": ["mkdir", "sendmsg", "sendto", "close_range", "nanosleep"], "action": "SCMP_ACT_NOTIFY"}]}
    box.process["args"] = ["mkdir", "/x"] if how == "run" else ["cat"]
    box.save()
    cat = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=box.base)
    with subprocess.Popen(box.command("run", box.id), **cat) as p:
        message, listener = agent.accept()
        pid = message["pid"]
        if how == "exec":
            os.close(listener)
            box.wait("running")
            with subprocess.Popen(box.command("exec", box.id, "mkdir", "/x"), **cat) as q:
                message, listener = agent.accept()
                assert message["pid"] != pid and message["state"]["status"] == "running"
                assert agent.answer(listener, 33) == 83
                assert "out of domain" in q.communicate(timeout=60)[1]
        else:
            assert message["state"]["status"] == "creating" and message["state"]["pid"] == pid
            assert agent.answer(listener, 33) == 83
        _, err = p.communicate(timeout=60)
    os.close(listener)
    assert how == "exec" or "out of domain" in err
    assert message["fds"] == ["seccompFd"] and message["metadata"] == 'me "and" you' and message["state"]["id"] == box.id
    assert message["state"]["bundle"] == str(box.base)


def test_no_agent_is_an_error(box):
    box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(box.base / "nobody")}
    assert "seccomp agent" in box.run("true", code=None).err
    assert box.status() is None


# ---- the rest ----

def test_the_host_name_is_no_sysctl(box):
    box.linux["sysctl"] = {"kernel.hostname": "x"}
    assert "kernel.hostname" in box.run("true", code=None).err


def test_intel_rdt_needs_resctrl(box):
    if pathlib.Path("/sys/fs/resctrl/schemata").exists():
        pytest.skip("has resctrl")
    box.linux["intelRdt"] = {"closID": "x"}
    assert "resctrl" in box.run("true", code=None).err


def test_labels_without_their_module_warn(box):
    if pathlib.Path("/sys/module/apparmor/parameters/enabled").exists():
        pytest.skip("has AppArmor")
    box.process["apparmorProfile"] = "nosuch"
    assert "AppArmor is not enabled" in box.run("true").err


def test_a_capability_that_we_lack_is_a_warning(box):
    box.process["capabilities"] = {s: ["CAP_SYS_TIME", "CAP_CHOWN"] for s in ("bounding", "effective", "permitted")}
    box.process["args"] = ["grep", "CapEff", "/proc/self/status"]
    box.save()
    p = subprocess.run(["setpriv", "--bounding-set=-sys_time", *box.command("run", box.id)], cwd=box.base, capture_output=True,
                       text=True, timeout=60, check=True, stdin=subprocess.DEVNULL)
    assert p.stdout.split()[1] == "0000000000000001" and "CAP_SYS_TIME" in p.stderr and "CAP_CHOWN" not in p.stderr


def test_rlimits_are_exact(box):
    box.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 4096, "hard": 8192}]
    assert box.run("sh", "-c", "ulimit -c; ulimit -H -c").out.split() == ["8", "16"]


def test_the_caller_keeps_its_groups_when_it_says_so(box):
    box.conf["annotations"] = {"run.oci.keep_original_groups": "1"}

    def groups():
        ctypes.CDLL(None).setgroups(2, (ctypes.c_uint32 * 2)(7, 8))

    assert {"7", "8"} <= set(box.run("id", "-G", preexec_fn=groups).out.split())


def test_no_descriptor_of_ours_is_open(box):
    assert box.run("sh", "-c", "ls /proc/1/fd; true").out.split() == ["0", "1", "2"]
