"""Containers from the command line: run and its flags, life cycle, logs, exec, cp, stats."""
import contextlib
import fcntl
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from conftest import Result, free_port, until


V2 = not os.path.isdir("/sys/fs/cgroup/freezer")


def freeze(pid):
    """What a pause or commit leaves that was killed before it could thaw again."""
    groups = dict(line.split(":", 2)[1:] for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines())
    if V2:
        pathlib.Path(f"/sys/fs/cgroup{groups['']}/cgroup.freeze").write_text("1", encoding="ascii")
    else:
        pathlib.Path(f"/sys/fs/cgroup/freezer{groups['freezer']}/freezer.state").write_text("FROZEN", encoding="ascii")


def test_output_and_exit_code(hoy):
    assert hoy("run", "--rm", "busybox", "echo", "hi").out == "hi\n"
    assert hoy("run", "--rm", "busybox", "sh", "-c", "echo err >&2; exit 7", code=7).err == "err\n"


def test_stdin_reaches_the_program(hoy):
    assert hoy("run", "--rm", "-i", "busybox", "cat", stdin="one\ntwo\n").out == "one\ntwo\n"


def test_killed_by_signal_is_128_plus(hoy):
    hoy("run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?", code=137)


def test_missing_program_is_127_and_not_executable_126(hoy):
    assert "nosuch" in hoy("run", "--rm", "busybox", "nosuch", code=127).err
    hoy("run", "--rm", "busybox", "/etc/passwd", code=126)


def test_environment_and_workdir(hoy, tmp_path):
    (tmp_path / "env").write_text("# comment\nB=two\n")
    out = hoy("run", "--rm", "-e", "A=one", "--env-file", tmp_path / "env", "-w", "/tmp", "busybox", "sh", "-c",
              "echo $A $B; pwd").out
    assert out == "one two\n/tmp\n"


def test_user_by_name_and_groups(hoy):
    assert hoy("run", "--rm", "-u", "worker", "busybox", "id").out.startswith("uid=1000(worker) gid=1000(worker)")
    assert "2000" in hoy("run", "--rm", "-u", "worker", "busybox", "id", "-G").out
    assert hoy("run", "--rm", "-u", "12:34", "busybox", "sh", "-c", "id -u; id -g").out == "12\n34\n"


def test_binds_and_read_only(hoy, tmp_path):
    (tmp_path / "f").write_text("inside")
    hoy("run", "--rm", "-v", f"{tmp_path}:/data", "busybox", "sh", "-c", "cat /data/f >/data/g")
    assert (tmp_path / "g").read_text() == "inside"
    r = hoy("run", "--rm", "-v", f"{tmp_path}:/data:ro", "busybox", "touch", "/data/h", code=1)
    assert "Read-only" in r.err
    hoy("run", "--rm", "--mount", f"type=bind,source={tmp_path},target=/m,readonly", "busybox", "cat", "/m/f")
    hoy("run", "--rm", "--read-only", "busybox", "touch", "/x", code=1)
    hoy("run", "--rm", "--read-only", "--tmpfs", "/scratch", "busybox", "touch", "/scratch/x")


def test_isolation(hoy):
    out = hoy("run", "--rm", "--hostname", "box", "busybox", "sh", "-c",
              "hostname; echo $$; ls /sys/firmware | wc -l; cat /proc/kcore 2>/dev/null | wc -c;"
              "echo x >/proc/sys/kernel/domainname || true").out
    lines = out.splitlines()
    assert lines[:4] == ["box", "1", "0", "0"]


def test_default_capabilities_are_dockers(hoy):
    out = hoy("run", "--rm", "busybox", "grep", "CapEff", "/proc/self/status").out
    assert int(out.split()[1], 16) == 0xA80425FB
    out = hoy("run", "--rm", "--cap-drop", "ALL", "--cap-add", "CHOWN", "busybox", "grep", "CapEff",
              "/proc/self/status").out
    assert int(out.split()[1], 16) == 1
    assert "Seccomp:\t2" in hoy("run", "--rm", "busybox", "grep", "Seccomp:", "/proc/self/status").out


def test_privileged_has_everything_we_have(hoy):
    ours = re.search(r"CapBnd:\s+(\w+)", open("/proc/self/status", encoding="ascii").read()).group(1)
    out = hoy("run", "--rm", "--privileged", "busybox", "grep", "CapEff", "/proc/self/status").out
    assert out.split()[1] == ours


def test_limits_are_read_back(hoy):
    if os.path.exists("/sys/fs/cgroup/memory"):
        memory, pids = "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/pids/pids.max"
    else:
        memory, pids = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max"
    out = hoy("run", "--rm", "-m", "64m", "--pids-limit", "9", "busybox", "cat", memory, pids).out
    assert out.split() == [str(64 << 20), "9"]


def test_out_of_memory_is_reported(hoy):
    hoy("run", "--name", "oom", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c",
        "x=a; while true; do x=$x$x; done", code=None)
    state = json.loads(hoy("inspect", "oom").out)[0]["State"]
    assert state["OOMKilled"] is True or state["ExitCode"] in (137, 2)


def test_life_cycle(hoy):
    cid = hoy("run", "-d", "--name", "life", "busybox", "sleep", "100").out.strip()
    assert re.fullmatch(r"[0-9a-f]{64}", cid)
    assert cid[:12] in hoy("ps").out
    state = json.loads(hoy("inspect", "life").out)[0]["State"]
    assert state["Status"] == "running" and state["Pid"] > 0
    hoy("pause", "life")
    assert "Paused" in hoy("ps").out
    hoy("unpause", "life")
    hoy("stop", "-t", "1", "life")
    assert cid[:12] not in hoy("ps").out and "Exited (137)" in hoy("ps", "-a").out
    hoy("start", "life")
    hoy("kill", "life")
    assert hoy("wait", "life").out == "137\n"
    hoy("rm", "life")
    assert "life" not in hoy("ps", "-a").out


def test_remove_of_a_running_container_wants_force(hoy):
    hoy("run", "-d", "--name", "busy", "busybox", "sleep", "100")
    assert "running" in hoy("rm", "busy", code=1).err
    hoy("rm", "-f", "busy")


def test_logs(hoy):
    hoy("run", "-d", "--name", "talk", "busybox", "sh", "-c", "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three")
    hoy("wait", "talk")
    r = hoy("logs", "talk")
    assert r.out == "one\nthree\n" and r.err == "two\n"
    assert hoy("logs", "--tail", "1", "talk").out == "three\n"
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z one", hoy("logs", "-t", "talk").out)


def test_logs_follow_ends_with_the_container(hoy):
    hoy("run", "-d", "--name", "slow", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
    assert hoy("logs", "-f", "slow").out == "1\n2\n3\n"


def test_exec_where_processes_may_be_traced(hoy):
    """The program of exec is born last there (docs/security-runtime.md): to it and to us all is as ever."""
    hoy("run", "-d", "--name", "traced", "--cap-add", "SYS_PTRACE", "busybox", "sleep", "100")
    assert hoy("exec", "traced", "sh", "-c", "echo out; exit 3", code=3).out == "out\n"
    assert hoy("exec", "-i", "traced", "cat", stdin="in").out == "in"
    assert hoy("exec", "-t", "traced", "tty").out.strip() == "/dev/pts/0"
    assert hoy("exec", "-u", "1000", "traced", "id", "-u").out == "1000\n"
    assert "none-such" in hoy("exec", "traced", "none-such", code=127).err
    hoy("exec", "-d", "traced", "sh", "-c", "echo here >/f; sleep 100")
    assert hoy("exec", "traced", "sh", "-c", "while ! [ -s /f ]; do sleep 0.05; done; cat /f").out == "here\n"
    hoy("rm", "-f", "traced")


def test_exec(hoy):
    hoy("run", "-d", "--name", "ex", "-e", "A=1", "busybox", "sleep", "100")
    assert hoy("exec", "ex", "sh", "-c", "echo $A $B", code=0).out == "1\n"
    assert hoy("exec", "-e", "B=2", "-w", "/tmp", "-u", "worker", "ex", "sh", "-c", "echo $A $B; pwd; id -u").out \
        == "1 2\n/tmp\n1000\n"
    hoy("exec", "ex", "sh", "-c", "exit 5", code=5)
    hoy("exec", "ex", "nosuch", code=127)
    assert hoy("exec", "-i", "ex", "cat", stdin="in").out == "in"
    hoy("rm", "-f", "ex")
    assert "No such container" in hoy("exec", "ex", "true", code=1).err


def test_whoever_froze_it_it_is_paused(hoy):
    hoy("run", "-d", "--name", "cold", "busybox", "sleep", "100")
    pid = int(hoy("inspect", "-f", "{{.State.Pid}}", "cold").out)
    for how, args in (("exec", ["cold", "true"]), ("pause", ["cold"])):
        freeze(pid)
        until_paused(hoy)
        assert "paused" in hoy(how, *args, code=1).err
        hoy("unpause", "cold")
        assert hoy("exec", "cold", "echo", "warm").out == "warm\n"
    freeze(pid)
    hoy("stop", "-t", "0", "cold")
    hoy("start", "cold")
    freeze(int(hoy("inspect", "-f", "{{.State.Pid}}", "cold").out))
    until_paused(hoy)
    assert "a paused container" in hoy("rm", "cold", code=1).err
    hoy("rm", "-f", "cold")


def until_paused(hoy):
    """Freezing takes the kernel a moment."""
    until(lambda: "(Paused)" in hoy("ps").out)


def test_tty(hoy):
    script = subprocess.run(["script", "-qec", f"{hoy.binary} run --rm -t busybox tty", "/dev/null"], env=hoy.env,
                            capture_output=True, text=True, timeout=120, check=True, stdin=subprocess.DEVNULL)
    assert "/dev/pts/0" in script.stdout or "/dev/console" in script.stdout


def test_a_container_survives_its_starter(hoy):
    starter = hoy.popen("run", "--name", "orphan", "busybox", "sleep", "100", stdout=subprocess.PIPE)
    until(lambda: "orphan" in hoy("ps").out)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    time.sleep(0.3)
    assert "orphan" in hoy("ps").out


def test_copy_in_and_out(hoy, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_text("content")
    hoy("run", "-d", "--name", "box", "busybox", "sleep", "100")
    hoy("cp", tmp_path / "d", "box:/tmp/copied")
    assert hoy("exec", "box", "cat", "/tmp/copied/x").out == "content"
    hoy("cp", "box:/tmp/copied/x", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "content"
    hoy("stop", "-t", "0", "box")
    hoy("cp", "box:/tmp/copied/x", tmp_path / "again")
    assert (tmp_path / "again").read_text() == "content"


def test_stats_and_top(hoy):
    hoy("run", "-d", "--name", "st", "-m", "64m", "busybox", "sleep", "100")
    out = hoy("stats", "--no-stream", "st").out
    assert "st" in out and "64MiB" in out and "MEM USAGE / LIMIT" in out
    assert "sleep 100" in hoy("top", "st").out


def test_volumes(hoy):
    hoy("volume", "create", "vol")
    hoy("run", "--rm", "-v", "vol:/data", "busybox", "sh", "-c", "echo kept >/data/f")
    assert hoy("run", "--rm", "-v", "vol:/data", "busybox", "cat", "/data/f").out == "kept\n"
    assert "vol" in hoy("volume", "ls").out
    hoy("run", "-d", "--name", "user", "-v", "vol:/data", "busybox", "sleep", "100")
    assert "in use" in hoy("volume", "rm", "vol", code=1).err
    hoy("rm", "-f", "user")
    hoy("volume", "rm", "vol")


def test_a_new_named_volume_gets_the_images_content(hoy):
    out = hoy("run", "--rm", "-v", "etcvol:/etc", "busybox", "cat", "/etc/group").out
    assert "worker" in out
    hoy("volume", "rm", "etcvol")


def test_published_port(hoy):
    port = free_port()
    hoy("run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sh", "-c",
        "mkdir /w; echo page >/w/index.html; exec httpd -f -p 80 -h /w")

    def page():
        r = subprocess.run(["curl", "-s", "-m", "10", f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=False)
        return r.returncode == 0 and r.stdout

    assert until(page) == "page\n"
    assert f"{port}->80/tcp" in hoy("ps").out
    r = hoy("run", "-d", "-p", f"{port}:80", "busybox", "true", code=125)
    assert "in use" in r.err


def test_network_modes(hoy):
    assert "eth0" not in hoy("run", "--rm", "--network", "none", "busybox", "ip", "link").out
    host = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    mine = hoy("run", "--rm", "--network", "host", "busybox", "ip", "-o", "link").out
    assert len(mine.splitlines()) >= len(host.splitlines())
    hoy("run", "-d", "--name", "one", "busybox", "sleep", "100")
    one = hoy("exec", "one", "ip", "addr", "show", "eth0").out
    two = hoy("run", "--rm", "--network", "container:one", "busybox", "ip", "addr", "show", "eth0").out
    assert re.search(r"inet (\S+)", one).group(1) == re.search(r"inet (\S+)", two).group(1)


def test_init_reaps(hoy):
    """An orphan is gone when it has ended: the shell does not wait for it, and is not its parent any more."""
    script = "(sleep 0.1 & echo $! >/pid); for i in $(seq 600); do [ -e /proc/$(cat /pid) ] || exit 0; sleep 0.1; done; exit 1"
    hoy("run", "--rm", "--init", "busybox", "sh", "-c", script)


@pytest.mark.parametrize("policy,count", [("no", 0), ("on-failure:2", 2)])
def test_restart_policy(hoy, policy, count):
    hoy("run", "-d", "--name", "re", "--restart", policy, "busybox", "sh", "-c", "exit 3")
    assert hoy("wait", "re").out == "3\n"
    time.sleep(1)  # nothing begins once more
    state = json.loads(hoy("inspect", "re").out)[0]
    assert state["RestartCount"] == count and state["State"]["ExitCode"] == 3


def test_a_start_that_fails_waits_for_nobody(hoy):
    """Its keeper goes at once: whoever cleaned up for it would wait for the lock of who starts it, for five seconds."""
    def failing():
        begun = time.monotonic()
        assert "nosuch not found" in hoy("run", "--network", "nosuch", "busybox", "true", code=125).err
        return time.monotonic() - begun

    assert min(failing() for _ in range(4)) < 4


@contextlib.contextmanager
def lock_of(hoy, cid):
    """The lock that whoever reaps a container needs."""
    fd = os.open(hoy.root / "containers" / cid, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@pytest.mark.parametrize("command", [["start", "-a", "over"], ["start", "over"], ["commit", "over", "ended"], ["rm", "over"]], ids=" ".join)
def test_what_has_ended_is_no_more_running(hoy, command):
    """From when ps tells so it can be started, committed and removed, though it is not reaped yet: here because somebody has the lock."""
    script = "while ! [ -e /end ]; do sleep 0.05; done; rm /end"
    cid = hoy("run", "-d", "--network", "none", "--name", "over", "busybox", "sh", "-c", script).out.strip()
    begin = functools.partial(hoy.popen, *command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with lock_of(hoy, cid):
        p = begin() if command[0] == "start" else None  # which then has the lock before whoever reaps
        time.sleep(0.5)
        hoy("exec", "over", "touch", "/end")
        until(lambda: hoy("ps", "-q").out == "")
        p = p or begin()
        time.sleep(0.5)  # it has come as far as it can
    if command[0] == "start":
        until(lambda: hoy.any("exec", "over", "touch", "/end").code == 0)
    assert p.communicate(timeout=60)[1] == "" and p.returncode == 0
    hoy.remove_all()
    hoy.any("rmi", "ended")


def test_names_on_a_network_of_the_user(hoy):
    hoy("network", "create", "apart")
    hoy("run", "-d", "--network", "apart", "--name", "one", "busybox", "sleep", "100")
    assert "1 packets received" in hoy("run", "--rm", "--network", "apart", "busybox", "ping", "-c1", "-W30", "one").out
    hoy("run", "-d", "--network", "apart", "--name", "beta", "busybox", "sleep", "100")
    assert "1 packets received" in hoy("exec", "one", "ping", "-c1", "-W30", "beta").out
    address = re.search(r"inet (\S+)/", hoy("exec", "beta", "ip", "addr", "show", "eth0").out).group(1)
    hoy("run", "--rm", "busybox", "ping", "-c1", "-W1", address, code=1)  # another network
    r = hoy("network", "rm", "apart", code=1)
    assert "active endpoints" in r.err
    hoy("rm", "-f", "beta")
    assert "beta" not in hoy("exec", "one", "cat", "/etc/hosts").out
    hoy("rm", "-f", "one")
    hoy("network", "rm", "apart")


def test_input_and_output_do_not_wait_for_each_other(hoy):
    """A program that writes more than it reads: whoever pumps for it must not stand still in a write of its input."""
    text = "0123456789abcdef" * 60000
    want = subprocess.run(["/bin/busybox", "od", "-v", "-t", "x1"], input=text, capture_output=True, text=True, check=True)
    assert hoy("run", "--rm", "-i", "busybox", "od", "-v", "-t", "x1", stdin=text).out == want.stdout
    hoy("run", "-d", "--name", "od", "busybox", "sleep", "100")
    assert hoy("exec", "-i", "od", "od", "-v", "-t", "x1", stdin=text).out == want.stdout


def test_signals_pass_input_that_is_not_taken(hoy):
    proc = hoy.popen("run", "--rm", "-i", "--init", "busybox", "sh", "-c", "echo up; exec sleep 100", stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE)
    assert proc.stdout.readline() == "up\n"
    os.set_blocking(proc.stdin.fileno(), False)
    for _ in range(200):
        try:
            os.write(proc.stdin.fileno(), b"x" * 65536)
        except BlockingIOError:
            time.sleep(0.005)
    proc.send_signal(signal.SIGINT)
    assert proc.wait(60) == 130
    proc.stdin.close()
    proc.stdout.close()


def test_a_reader_that_goes_away_ends_the_client(hoy):
    proc = hoy.popen("run", "--name", "yes", "busybox", "yes", stdout=subprocess.PIPE)
    assert proc.stdout.readline() == "y\n"
    proc.stdout.close()
    assert proc.wait(60) == 0
    assert "yes" in hoy("ps").out


def open_files(pid):
    """What a process of ours has open."""
    found = []
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(fd))
        except FileNotFoundError:
            pass
    return found


@pytest.mark.parametrize("rm", [[], ["--rm"]])
def test_wait_gives_the_exit_code(hoy, rm):
    hoy("run", "-d", *rm, "--name", "waited", "busybox", "sh", "-c", "while ! [ -e /end ]; do sleep 0.05; done; exit 9")
    waiting = hoy.popen("wait", "waited", stdout=subprocess.PIPE)
    until(lambda: any(x.startswith("socket:") for x in open_files(waiting.pid)))  # the keeper's
    hoy("exec", "waited", "touch", "/end")
    assert waiting.communicate(timeout=60)[0] == "9\n" and waiting.returncode == 0


def test_an_idle_keeper_has_little_memory_of_its_own(hoy):
    """What the start needed is gone; its buffers take memory when something flows (measured: 64 KiB)."""
    cid = hoy("run", "-d", "busybox", "sleep", "100").out.strip()
    keeper = json.loads((hoy.run_dir / cid / "status").read_text())["Keeper"]
    rollup = pathlib.Path(f"/proc/{keeper}/smaps_rollup")

    def own():
        return sum(int(line.split()[1]) for line in rollup.read_text().splitlines() if line.startswith("Private_Dirty"))

    until(lambda: own() <= 100, tell=rollup.read_text)
    hoy("rm", "-f", cid)


def test_filters_of_lists(hoy):
    port = free_port()
    hoy("network", "create", "--label", "a=b", "net-f")
    hoy("create", "--name", "one", "busybox", "true")
    hoy("run", "-d", "-p", f"127.0.0.1:{port}:80", "--name", "two", "--stop-signal", "KILL", "busybox", "sleep", "100")
    hoy("create", "--expose", "90/udp", "--name", "three", "busybox", "true")

    def names(*filters):
        return hoy("ps", "-a", "--format", "{{.Names}}", *(x for f in filters for x in ("-f", f))).out.split()

    assert names("name=^one$") == names("name=^/one$") == ["one"] and names("name=^ne$") == []
    assert names("before=two") == ["one"] and names("since=two") == ["three"] and names("since=one", "before=three") == ["two"]
    assert names(f"publish={port}") == ["two"] and names("publish=80") == [] and names("expose=80-85/tcp") == ["two"]
    assert names("expose=1-100/udp") == ["three"] and names("expose=80", "expose=90/udp") == ["three", "two"]
    assert "No such container: nobody" in hoy("ps", "-f", "since=nobody", code=1).err
    assert 'invalid filter: port "x"' in hoy("ps", "-f", "publish=x", code=1).err
    assert hoy("network", "ls", "-q", "-f", "label=a=b").out == hoy("network", "ls", "-q", "-f", "name=net-f", "-f", "type=custom").out
    assert hoy("network", "ls", "--format", "{{.Name}}", "-f", "type=builtin", "-f", "driver=bridge").out == "bridge\n"
    assert "invalid filter 'x'" in hoy("network", "ls", "-f", "x=y", code=1).err
    hoy("rm", "-f", "one", "two", "three")
    hoy("network", "rm", "net-f")


@pytest.fixture
def careless_init():
    """Enters a pid namespace whose pid 1 reaps nobody, as in a container of `sleep`: what to put before a command, and the pid."""
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sleep", "1000"]) as outer:
        children = pathlib.Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        pid = until(lambda: children.read_text(encoding="ascii").split())[0]
        until(lambda: pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "sleep\n")
        yield ["nsenter", "-p", "-m", "-t", pid], pid
        outer.kill()


def test_exec_detached_where_pid_1_does_not_reap(fresh_hoy, busybox_tar, careless_init):
    """A process of exec -d is its keeper's child: nobody else could reap it, and a container ends only when all its own are reaped."""
    enter, _ = careless_init

    def inside(*args, code=0):
        r = Result(subprocess.run([*enter, str(fresh_hoy.binary), *args], env=fresh_hoy.env, capture_output=True, text=True, timeout=120))
        assert r.code == code, r
        return r

    inside("import", busybox_tar, "busybox")
    inside("run", "-d", "--name", "cc", "busybox", "sleep", "1000")
    for _ in range(3):
        inside("exec", "-d", "cc", "true")
    inside("exec", "-d", "cc", "sleep", "1000")
    inside("exec", "-d", "-t", "cc", "sleep", "1000")
    assert "none-such" in inside("exec", "-d", "cc", "none-such", code=127).err

    def top_without_dead():
        top = inside("top", "cc", "-eo", "pid,stat,args").out
        return " Z " not in top and top

    top = until(top_without_dead)
    assert top.count("sleep 1000") == 3 and "defunct" not in top
    inside("rm", "-f", "cc")
    assert inside("ps", "-aq").out == ""
