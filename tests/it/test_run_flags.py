"""Every flag of `hoy run`: what it does can be seen inside, or it is refused with a reason."""
import json
import os
import re
import signal
import subprocess
import time

import pytest

from conftest import until

V1 = os.path.exists("/sys/fs/cgroup/memory")


def cgroup(v1, v2):
    """The path of a control inside the container."""
    return f"/sys/fs/cgroup/{v1}" if V1 else f"/sys/fs/cgroup/{v2}"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files that flags read."""
    d = tmp_path_factory.mktemp("flags")
    (d / "env").write_text("# comment\nFROM_FILE=yes\nTAKEN\n")
    (d / "labels").write_text("# comment\nfile.label=yes\n")
    (d / "seccomp.json").write_text(json.dumps({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}))
    (d / "bad-env").write_text("A B=c\n")
    return d


# flag words, command, what its output must hold (a regular expression)
SEEN = [
    (["--add-host", "one:10.9.8.7"], "cat /etc/hosts", r"10\.9\.8\.7\s+one"),
    (["--add-host", "two=[fe80::1]"], "cat /etc/hosts", r"fe80::1\s+two"),
    (["--cap-add", "SYS_TIME"], "grep CapEff /proc/self/status", "aa0425fb"),
    (["--cap-add", "cap_sys_time"], "grep CapEff /proc/self/status", "aa0425fb"),
    (["--cap-drop", "all"], "grep CapEff /proc/self/status", "0000000000000000"),
    (["--cap-drop", "ALL", "--cap-add", "CHOWN"], "grep CapEff /proc/self/status", "0000000000000001"),
    (["--cpu-period", "50000", "--cpu-quota", "25000"], f"cat {cgroup('cpu/cpu.cfs_quota_us', 'cpu.max')}", "25000"),
    (["--cpu-shares", "512"], f"cat {cgroup('cpu/cpu.shares', 'cpu.weight')}", "512" if V1 else r"\d+"),
    (["-c", "512"], f"cat {cgroup('cpu/cpu.shares', 'cpu.weight')}", "512" if V1 else r"\d+"),
    (["--cpus", "0.5"], f"cat {cgroup('cpu/cpu.cfs_quota_us', 'cpu.max')}", "50000"),
    (["--cpuset-cpus", "0"], "grep Cpus_allowed_list /proc/self/status", r"\s0$"),
    (["--cpuset-mems", "0"], "grep Mems_allowed_list /proc/self/status", r"\s0$"),
    (["--device-cgroup-rule", "c 1:11 rwm"], f"cat {cgroup('devices/devices.list', 'cgroup.controllers')}", "c 1:11 rwm" if V1 else ""),
    (["--disable-content-trust"], "echo x", "x"),
    (["--dns", "9.9.9.9", "--dns-search", "a.b", "--dns-option", "ndots:3"], "cat /etc/resolv.conf",
     "nameserver 9.9.9.9\nsearch a.b\noptions ndots:3"),
    (["--hostname", "box", "--domainname", "dom.ain"], "hostname; cat /proc/sys/kernel/domainname /etc/hostname", "box\ndom.ain\nbox"),
    (["-h", "box"], "hostname", "^box$"),
    (["-e", "A=b", "--env", "C=d"], "echo $A$C", "^bd$"),
    (["-e", "TAKEN"], "echo $TAKEN", "^from-outside$"),
    (["--env-file", "{files}/env"], "echo $FROM_FILE $TAKEN", "^yes from-outside$"),
    (["-u", "1000", "--group-add", "extra", "--group-add", "77"], "id -G", r"77.*2000|2000.*77"),
    (["--init"], "cat /proc/1/cmdline | tr '\\0' ' '", "docker-init"),
    (["--ipc", "host"], "readlink /proc/self/ns/ipc", "{host:ipc}"),
    (["--ipc", "none"], "grep -c ' /dev/shm ' /proc/self/mountinfo", "^0$"),
    (["--ipc", "private"], "readlink /proc/self/ns/ipc; grep -c ' /dev/shm ' /proc/self/mountinfo", "\n1$"),
    (["--isolation", "default"], "echo x", "x"),
    (["-m", "64m"], f"cat {cgroup('memory/memory.limit_in_bytes', 'memory.max')}", "^67108864$"),
    (["--memory", "64m", "--memory-reservation", "32m"],
     f"cat {cgroup('memory/memory.soft_limit_in_bytes', 'memory.low')}", "^33554432$"),
    (["--memory", "64m", "--memory-swap", "128m"],
     f"cat {cgroup('memory/memory.memsw.limit_in_bytes', 'memory.swap.max')}", "134217728" if V1 else "67108864"),
    (["--mount", "type=tmpfs,dst=/t"], "grep ' /t ' /proc/self/mountinfo", "tmpfs"),
    (["--oom-score-adj", "321"], "cat /proc/self/oom_score_adj", "^321$"),
    (["--pid", "host"], "readlink /proc/self/ns/pid", "{host:pid}"),
    (["--pids-limit", "33"], f"cat {cgroup('pids/pids.max', 'pids.max')}", "^33$"),
    (["--pids-limit", "-1"], f"cat {cgroup('pids/pids.max', 'pids.max')}", "^max$"),
    (["--privileged"], "grep Seccomp: /proc/self/status; grep -c '/proc/sys ' /proc/self/mountinfo", "0\n0"),
    (["--pull", "never"], "echo x", "x"),
    (["--pull", "missing", "--quiet"], "echo x", "x"),
    (["--read-only"], "touch /x 2>&1", "Read-only"),
    (["--runtime", "hoy"], "echo x", "x"),
    (["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status", "1$"),
    (["--security-opt", "no-new-privileges:false"], "grep NoNewPrivs /proc/self/status", "0$"),
    (["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status", "0$"),
    (["--security-opt", "seccomp={files}/seccomp.json"], "mkdir /x 2>&1", "not permitted"),
    (["--security-opt", "systempaths=unconfined"], "grep -c '/proc/sys ' /proc/self/mountinfo", "^0$"),
    (["--security-opt", "label=disable", "--security-opt", "apparmor=unconfined"], "echo x", "x"),
    (["--shm-size", "8m"], "df -k /dev/shm", " 8192 "),
    (["--sysctl", "kernel.msgmax=9001"], "cat /proc/sys/kernel/msgmax", "^9001$"),
    (["--sysctl", "net.ipv4.ip_forward=1"], "cat /proc/sys/net/ipv4/ip_forward", "^1$"),
    (["--tmpfs", "/t:size=1m"], "df -k /t", " 1024 "),
    (["--ulimit", "nofile=123:456"], "ulimit -Sn; ulimit -Hn", "^123\n456$"),
    (["--ulimit", "core=0"], "ulimit -c", "^0$"),
    (["--umask", "077"], "umask", "^0077$"),
    (["-u", "worker"], "id", r"uid=1000\(worker\) gid=1000\(worker\) groups=1000\(worker\),2000\(extra\)"),
    (["-u", "1000:2000"], "id", r"uid=1000\(worker\) gid=2000\(extra\)"),
    (["-u", "4321:8765"], "id", "uid=4321 gid=8765"),
    (["-u", "worker:extra"], "id", r"gid=2000\(extra\)"),
    (["--userns", "host"], "readlink /proc/self/ns/user", "{host:user}"),
    (["--uts", "host"], "hostname", "{hostname}"),
    (["--cgroupns", "host"], "readlink /proc/self/ns/cgroup", "{host:cgroup}"),
    (["--cgroupns", "private"], "cat /proc/self/cgroup", ":/$"),
    (["-v", "{files}:/f"], "cat /f/labels", "file.label"),
    (["--volume", "{files}:/f:ro"], "touch /f/x 2>&1", "Read-only"),
    (["-w", "/made/here"], "pwd", "^/made/here$"),
    (["--workdir", "/tmp"], "pwd", "^/tmp$"),
    (["--expose", "80"], "echo x", "x"),
    (["--net", "none"], "ls /sys/class/net", "^lo$"),
]
if V1:
    SEEN += [
        (["--memory", "64m", "--memory-swappiness", "30"], "cat /sys/fs/cgroup/memory/memory.swappiness", "^30$"),
        (["--memory", "64m", "--oom-kill-disable"], "cat /sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 1"),
    ]


@pytest.mark.parametrize("flags,command,want", SEEN, ids=[" ".join(s[0]) for s in SEEN])
def test_flag_has_its_effect(hoy, files, flags, command, want):
    flags = [f.replace("{files}", str(files)) for f in flags]
    for kind in re.findall(r"{host:(\w+)}", want):
        want = want.replace("{host:%s}" % kind, re.escape(os.readlink(f"/proc/self/ns/{kind}")))
    want = want.replace("{hostname}", re.escape(os.uname().nodename))
    network = [] if "--net" in flags else ["--network", "none"]
    r = hoy("run", "--rm", *network, *flags, "busybox", "sh", "-c", command, code=None, env={"TAKEN": "from-outside"})
    assert re.search(want, r.out.rstrip("\n"), re.M), r


REFUSED = [
    (["--add-host", "nope"], 'bad format for add-host: "nope"'),
    (["--add-host", "a:999.1.1.1"], 'invalid IP address in add-host: "999.1.1.1"'),
    (["--attach", "stdlog"], "valid streams are STDIN, STDOUT and STDERR"),
    (["-a", "stdout", "-d"], "cannot specify both --attach and --detach"),
    (["--annotation", "novalue"], "key=value"),
    (["--authfile", "/no/such", "--pull", "always"], "/no/such"),
    (["--blkio-weight", "5"], "10 to 1000"),
    (["--blkio-weight-device", "/dev/vda"], "bad format"),
    (["--blkio-weight-device", "/dev/null:5"], "10 to 1000"),
    (["--cap-add", "FLY"], 'invalid capability "FLY"'),
    (["--cap-drop", "FLY"], 'invalid capability "FLY"'),
    (["--cert-dir", "/no/such", "--pull", "always"], "/no/such"),
    (["--cgroupns", "other"], "invalid CgroupnsMode: other"),
    (["--cidfile", "{files}/env"], "File exists"),
    (["--cpu-period", "x"], 'invalid argument "x"'),
    (["--cpus", "9999"], "Range of CPUs is from 0.01"),
    (["--cpus", "1", "--cpu-period", "1000"], "Nano CPUs and CPU Period cannot both be set"),
    (["--cpuset-cpus", "4000"], "cpuset"),
    (["--creds", ":x"], "empty credentials"),
    (["--detach-keys", "nokey"], "detach keys"),
    (["--device", "/dev/nosuch"], "nosuch"),
    (["--device", "/etc/passwd"], "not a device node"),
    (["--device", "relative"], "invalid device"),
    (["--device", "/dev/zero:/dev/z:q"], "invalid device mode: q"),
    (["--device-cgroup-rule", "c 1 rwm"], "invalid device cgroup rule format: 'c 1 rwm'"),
    (["--device-cgroup-rule", "x 1:1 rwm"], "invalid device cgroup rule format"),
    (["--device-read-bps", "/dev/null:1mb"], "/dev/null"),
    (["--device-read-bps", "vda:1mb"], "bad format"),
    (["--device-write-iops", "/dev/vda:fast"], "bad format"),
    (["--dns", "1.2.3"], "1.2.3 is not an ip address"),
    (["-e", "=x"], "invalid environment variable: =x"),
    (["--env-file", "/no/such"], "/no/such"),
    (["--env-file", "{files}/bad-env"], "contains whitespaces"),
    (["--expose", "99999"], "99999"),
    (["--group-add", "nosuch"], "unable to find group nosuch"),
    (["--gpus", "all"], "unknown flag: --gpus"),
    (["--hostname", "x" * 65], "host name"),
    (["--insecure=maybe"], "expected true or false"),
    (["--ip", "10.0.0.1"], "networks of your own only"),
    (["--ipc", "other"], "invalid IpcMode: other"),
    (["--ipc", "container:nosuch"], "No such container: nosuch"),
    (["--isolation", "hyperv"], 'invalid isolation "hyperv"'),
    (["-l", "=x"], "invalid label"),
    (["--label-file", "/no/such"], "/no/such"),
    (["--log-driver", "syslog"], "no log driver named 'syslog'"),
    (["--log-opt", "novalue"], "key=value"),
    (["--log-opt", "tag=x"], "unknown log opt 'tag' for json-file log driver"),
    (["--log-opt", "max-size=big"], "big"),
    (["--log-driver", "none", "--log-opt", "max-size=1m"], "unknown log opt 'max-size' for none log driver"),
    (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
    (["-m", "lots"], "lots"),
    (["--memory-reservation", "64m", "-m", "32m"], "can not be less than memory reservation"),
    (["--memory-swap", "64m"], "should always set the Memory limit"),
    (["--memory-swap", "16m", "-m", "32m"], "should be larger than memory limit"),
    (["--memory-swappiness", "101"], "101"),
    (["--mount", "type=bind"], "target is required"),
    (["--name", "-x"], "Invalid container name"),
    (["--network", "nosuch"], "nosuch"),
    (["--network", "container:nosuch"], "No such container: nosuch"),
    (["--network-alias", "x"], "networks of your own only"),
    (["--oom-score-adj", "1001"], "range for oom score adj is [-1000, 1000]"),
    (["--pid", "container:nosuch"], "No such container: nosuch"),
    (["--pid", "other"], "invalid PidMode: other"),
    (["--pids-limit", "x"], 'invalid argument "x"'),
    (["--platform", "linux/s390x", "--pull", "never"], ""),
    (["-p", "x"], "invalid containerPort: x"),
    (["-p", "80:"], "invalid publish specification"),
    (["--pull", "sometimes"], "invalid pull option"),
    (["--restart", "sometimes"], "invalid restart policy 'sometimes'"),
    (["--restart", "no:3"], "maximum retry count cannot be used"),
    (["--runtime", "runc"], "unknown or invalid runtime name: runc"),
    (["--security-opt", "bogus"], 'invalid --security-opt 2: "bogus"'),
    (["--security-opt", "no-new-privilegesx"], "invalid --security-opt 2"),
    (["--security-opt", "apparmor=mine"], "no AppArmor profile"),
    (["--security-opt", "label=level:s0"], "no SELinux label"),
    (["--security-opt", "seccomp=/no/such"], "/no/such"),
    (["--security-opt", "seccomp={files}/env"], "seccomp"),
    (["--shm-size", "x"], 'invalid argument "x"'),
    (["--sig-proxy=maybe"], "expected true or false"),
    (["--stop-signal", "SIGFOO"], "invalid signal: SIGFOO"),
    (["--stop-timeout", "-1"], "-1"),
    (["--sysctl", "novalue"], "key=value"),
    (["--sysctl", "kernel.core_pattern=x"], "not in a namespace of the container"),
    (["--sysctl", "kernel.msgmax=1", "--ipc", "host"], "not in a namespace of the container"),
    (["--tls-verify=maybe"], "expected true or false"),
    (["--tmpfs", "relative"], "must be absolute"),
    (["--ulimit", "bogus=1"], "invalid ulimit type: bogus"),
    (["--ulimit", "nofile=9:5"], "soft limit must be less than or equal to hard limit"),
    (["--umask", "999"], "999"),
    (["-u", "nosuch"], "unable to find user nosuch"),
    (["-u", "0:nosuch"], "unable to find group nosuch"),
    (["--userns", "auto"], "invalid UsernsMode: auto"),
    (["--uts", "container:x"], "invalid UTSMode"),
    (["--volume-driver", "rex", "-v", "vol:/m"], 'plugin "rex" not found'),
    (["--volumes-from", "nosuch"], "No such container: nosuch"),
    (["-w", "relative"], "needs to be an absolute path"),
    (["--no-such-flag"], "unknown flag: --no-such-flag"),
]


@pytest.mark.parametrize("flags,text", REFUSED, ids=[" ".join(s[0]) for s in REFUSED])
def test_flag_is_refused(hoy, files, flags, text):
    flags = [f.replace("{files}", str(files)) for f in flags]
    network = [] if any(f.startswith("--net") or f == "--ip" for f in flags) else ["--network", "none"]
    r = hoy("run", *network, *flags, "busybox", "true", code=None)
    assert r.code == 125 and r.out == "" and text in r.err and r.err.startswith(("hoy: ", "Unable to find")), r
    assert hoy("ps", "-aq").out == "" and hoy("volume", "ls", "-q").out == ""


def test_every_flag_is_in_a_test(hoy):
    """A flag that is added needs a line in this file."""
    known = set(re.findall(r"--([a-z0-9-]+)", hoy("run", "--help").out))
    here = open(__file__, encoding="utf-8").read()
    assert sorted(f for f in known - {"help"} if f'"--{f}' not in here) == []


def test_inspect_shows_what_was_asked(hoy, files, tmp_path):
    hoy("create", "--name", "all", "--network", "none", "--annotation", "a=b", "--label", "l=m", "--label-file", files / "labels",
        "--stop-signal", "USR1", "--stop-timeout", "7", "--restart", "on-failure:3", "--log-opt", "max-size=1m", "--log-opt",
        "max-file=2", "--no-healthcheck", "--entrypoint", "sh", "--cidfile", tmp_path / "cid", "--platform", "linux/amd64",
        "--memory-swappiness", "10", "-m", "64m", "busybox", "-c", "true")
    v = json.loads(hoy("inspect", "all").out)[0]
    assert (tmp_path / "cid").read_text() == v["Id"]
    assert v["HostConfig"]["Annotations"] == {"a": "b"}
    assert v["Config"]["Labels"] == {"l": "m", "file.label": "yes"}
    assert (v["Config"]["StopSignal"], v["Config"]["StopTimeout"]) == ("USR1", 7)
    assert v["Config"]["Entrypoint"] == ["sh"] and v["Config"]["Cmd"] == ["-c", "true"]
    assert v["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert v["HostConfig"]["LogConfig"]["Config"] == {"max-size": "1m", "max-file": "2"}


def test_inspect_shows_the_health_check(hoy):
    hoy("create", "--name", "health", "--health-cmd", "true", "--health-interval", "1m30s", "--health-retries", "5",
        "--health-start-interval", "2s", "--health-start-period", "3s", "--health-timeout", "4s", "busybox", "true")
    assert json.loads(hoy("inspect", "-f", "{{json .Config.Healthcheck}}", "health").out) == {
        "Test": ["CMD-SHELL", "true"], "Interval": 90 * 10**9, "Retries": 5, "StartInterval": 2 * 10**9, "StartPeriod": 3 * 10**9,
        "Timeout": 4 * 10**9}  # what they do: test_health.py


def test_a_hardware_address(hoy):
    hoy("network", "create", "macs")
    for network in ("bridge", "macs"):
        hoy("run", "-d", "--name", "card", "--network", network, "--mac-address", "02:42:AC:11:00:99", "busybox",
            "sleep", "100")
        assert hoy("exec", "card", "cat", "/sys/class/net/eth0/address").out == "02:42:ac:11:00:99\n"
        assert hoy("inspect", "-f", "{{.NetworkSettings.MacAddress}}", "card").out == "02:42:ac:11:00:99\n"
        assert "02:42:ac:11:00:99" in hoy("network", "inspect", network).out
        hoy("restart", "-t", "0", "card")
        assert hoy("exec", "card", "cat", "/sys/class/net/eth0/address").out == "02:42:ac:11:00:99\n"
        hoy("rm", "-f", "card")
    hoy("network", "rm", "macs")
    for mac in ("02:42:ac:11:00", "03:00:00:00:00:01", "00:00:00:00:00:00", "02:42:ac:11:00:0g", "02-42:ac:11:00:01"):
        assert "invalid MAC address" in hoy("run", "--mac-address", mac, "busybox", "true", code=125).err
    assert "conflicting options: mac-address" in hoy("run", "--network", "host", "--mac-address", "02:42:ac:11:00:99", "busybox", "true",
                                                     code=125).err


def test_names_conflict(hoy):
    cid = hoy("create", "--name", "twice", "busybox", "true").out.strip()
    r = hoy("run", "--name", "twice", "busybox", "true", code=125)
    assert f'The container name "/twice" is already in use by container "{cid}"' in r.err


def test_namespaces_of_another_container(hoy):
    hoy("run", "-d", "--network", "none", "--name", "first", "--ipc", "shareable", "busybox", "sleep", "100")
    for kind, flag in (("ipc", "--ipc"), ("pid", "--pid"), ("net", "--network")):
        theirs = hoy("exec", "first", "readlink", f"/proc/self/ns/{kind}").out
        network = [] if kind == "net" else ["--network", "none"]
        assert hoy("run", "--rm", *network, flag, "container:first", "busybox", "readlink", f"/proc/self/ns/{kind}").out == theirs
    assert "sleep" in hoy("run", "--rm", "--network", "none", "--pid", "container:first", "busybox", "ps").out


def test_shared_memory_of_another_container(hoy):
    """POSIX shared memory lives in /dev/shm: both see the same files, also after one was started again."""
    hoy("run", "-d", "--network", "none", "--name", "donor", "--ipc", "shareable", "--shm-size", "3m", "busybox", "sh", "-c",
        "echo theirs > /dev/shm/x; sleep 100")
    hoy("run", "-d", "--network", "none", "--name", "guest", "--ipc", "container:donor", "--restart", "on-failure:1", "busybox",
        "sh", "-c", "until [ -s /dev/shm/x ]; do sleep 0.05; done; cat /dev/shm/x; echo ours > /dev/shm/y; exit 1")
    assert hoy("wait", "guest").out == "1\n"
    assert hoy("logs", "guest").out == "theirs\n" * 2 and hoy("exec", "donor", "cat", "/dev/shm/y").out == "ours\n"
    assert "nosuid,nodev,noexec" in hoy("run", "--rm", "--network", "none", "--ipc", "container:donor", "busybox", "grep", " /dev/shm ",
                                        "/proc/self/mounts").out
    hoy("run", "-d", "--network", "none", "--name", "alone", "busybox", "sleep", "100")
    assert "needs --ipc shareable" in hoy("run", "--rm", "--network", "none", "--ipc", "container:alone", "busybox", "true", code=125).err
    hoy("stop", "-t", "0", "donor")
    assert "cannot join IPC of a non running container: donor" in hoy("run", "--rm", "--network", "none", "--ipc", "container:donor",
                                                                     "busybox", "true", code=125).err
    hoy("rm", "-f", "donor", "guest", "alone")


@pytest.mark.parametrize("flags,sent,code", [
    (["--sig-proxy=false"], signal.SIGTERM, 143), (["--sig-proxy"], signal.SIGTERM, 7), ([], signal.SIGTERM, 7)])
def test_signals_are_passed_on_or_not(hoy, flags, sent, code):
    proc = hoy.popen("run", "--network", "none", "--name", "sig", *flags, "busybox", "sh", "-c",
                     "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done", stdout=subprocess.PIPE)
    assert proc.stdout.readline() == "up\n"
    proc.send_signal(sent)
    assert proc.wait(60) in (code, -sent if code == 143 else code)
    proc.stdout.close()
    time.sleep(0.2)
    assert ("Up" in hoy("ps").out) == (flags == ["--sig-proxy=false"])


def test_attach_chooses_streams(hoy):
    script = "echo out; echo err >&2"
    for streams, want in ((["stdout"], ("out\n", "")), (["STDERR"], ("", "err\n")), (["stdout", "stderr"], ("out\n", "err\n"))):
        flags = [w for s in streams for w in ("-a", s)]
        r = hoy("run", "--rm", "--network", "none", *flags, "busybox", "sh", "-c", script)
        assert (r.out, r.err) == want
    r = hoy("run", "--rm", "--network", "none", "-a", "stdin", "-i", "busybox", "cat", stdin="x")
    assert r.code == 0


def test_a_terminal_and_detaching(hoy):
    cmd = f"{hoy.binary} run --rm --network none -it --detach-keys ctrl-x,y --name term busybox sh -c 'test -t 0 && echo tty; sleep 100'"
    proc = subprocess.Popen(["script", "-qec", cmd, "/dev/null"], env=hoy.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert b"tty" in proc.stdout.readline()
    proc.stdin.write(b"\x18y")
    proc.stdin.flush()
    assert proc.wait(60) == 0
    proc.stdin.close()
    proc.stdout.close()
    assert "Up" in hoy("ps").out


def test_long_names_of_the_short(hoy):
    assert hoy("run", "--rm", "--network", "none", "--interactive", "busybox", "cat", stdin="in").out == "in"
    hoy("run", "--detach", "--network", "none", "--tty", "--name", "tt", "busybox", "sh", "-c", "tty; sleep 100")
    until(lambda: "/dev/" in hoy("logs", "tt").out)


def test_publishing_and_networks(hoy):
    hoy("network", "create", "flagnet")
    hoy("run", "-d", "--name", "pub", "--network", "flagnet", "--network-alias", "other", "--publish-all", "--expose", "81", "--publish", "127.0.0.1::80/udp",
        "busybox", "sleep", "100")
    ports = json.loads(hoy("inspect", "pub").out)[0]["NetworkSettings"]["Ports"]
    assert ports["80/udp"][0]["HostIp"] == "127.0.0.1" and int(ports["81/tcp"][0]["HostPort"]) > 0
    subnet = json.loads(hoy("network", "inspect", "flagnet").out)[0]["IPAM"]["Config"][0]["Subnet"]
    want = subnet.rsplit(".", 1)[0] + ".77"
    out = hoy("run", "--rm", "--network", "flagnet", "--ip", want, "busybox", "sh", "-c", "ip addr; ping -c1 -W30 other").out
    assert f"inet {want}/" in out and "1 packets received" in out
    hoy("rm", "-f", "pub")
    hoy("network", "rm", "flagnet")


def test_host_ca_is_seen_inside(hoy, tmp_path):
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\nhost\n")
    out = hoy("run", "--rm", "--network", "none", "--host-ca", "busybox", "sh", "-c", "cat $SSL_CERT_FILE; echo $CURL_CA_BUNDLE",
              env={"SSL_CERT_FILE": str(tmp_path / "ca.crt")}).out
    assert "host\n" in out and "/dev/hoy-ca.crt" in out


@pytest.fixture
def disk(tmp_path):
    """A loop device, of our own kernel's."""
    (tmp_path / "disk").write_bytes(b"\0" * (8 << 20))
    r = subprocess.run(["losetup", "-f", "--show", tmp_path / "disk"], capture_output=True, text=True, check=True)
    yield r.stdout.strip()
    subprocess.run(["losetup", "-d", r.stdout.strip()], check=True)


def test_a_device_may_be_read_only(hoy, disk):
    script = "head -c1 /dev/mine | wc -c; (: >/dev/mine) 2>&1; head -c1 /dev/all | wc -c; : >/dev/all && echo written"
    out = hoy("run", "--rm", "--network", "none", "--device", f"{disk}:/dev/mine:r", "busybox", "sh", "-c", script, code=None).out
    assert out.startswith("1\n") and "not permitted" in out
    out = hoy("run", "--rm", "--network", "none", "--device", f"{disk}:/dev/all", "busybox", "sh", "-c", script, code=None).out
    assert out.endswith("1\nwritten\n")


@pytest.mark.parametrize("flag,file", [("--device-read-bps", "read_bps"), ("--device-write-bps", "write_bps"),
                                       ("--device-read-iops", "read_iops"), ("--device-write-iops", "write_iops")])
def test_rates_of_devices(hoy, disk, flag, file):
    path = f"/sys/fs/cgroup/blkio/blkio.throttle.{file}_device" if V1 else "/sys/fs/cgroup/io.max"
    r = hoy("run", "--rm", "--network", "none", flag, f"{disk}:1048576", "busybox", "cat", path, code=None)
    assert "1048576" in r.out, r


@pytest.mark.parametrize("flags", [["--blkio-weight", "500"], ["--cpu-rt-runtime", "1000", "--cpu-rt-period", "100000"],
                                   ["--blkio-weight-device", "{disk}:500"]])
def test_limits_that_a_kernel_may_lack(hoy, disk, flags):
    """Set, or refused with the name of what is missing."""
    r = hoy("run", "--rm", "--network", "none", *[f.format(disk=disk) for f in flags], "busybox", "true", code=None)
    assert r.code == 0 or (r.code == 125 and re.search(r"blkio|weight|rt_|real-?time", r.err)), r


def test_publish_all_tty_and_user_are_no_secret_to_create(hoy):
    """create takes the same flags as run."""
    run, create = (set(re.findall(r"--([a-z0-9-]+)", hoy(c, "--help").out)) for c in ("run", "create"))
    assert run == create
