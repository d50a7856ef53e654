"""One named test per published vulnerability of a container runtime, the rename-exchange race, and the table of hostile roots.

docs/security-runtime.md tells for each why the construction excludes it. HOY_RACE=2000 runs the race that often (default 100).
"""
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

from bundle import RUNTIME, Bundle, snapshot
from conftest import BUILD, calm_census, check_census, until

RACE = int(os.environ.get("HOY_RACE", "100"))


@pytest.fixture
def box(tmp_path):
    """A bundle beside a directory that nothing may touch; the host is as before afterwards."""
    before = calm_census()
    out = tmp_path / "outside"
    (out / "dir").mkdir(parents=True)
    (out / "file").write_text("outside\n")
    (out / "null").write_text("not a device\n")
    b = Bundle(tmp_path / "b")
    b.outside, b.secret = out, snapshot(out)
    yield b
    for name in os.listdir(b.state) if b.state.exists() else ():
        b.command("delete", "-f", name)
    assert snapshot(out) == b.secret, "something changed outside of the container"
    check_census(before)


def replace(path, target):
    """Makes path of the root a symbolic link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, path)


def background(box, script, name="bg"):
    """A container that goes on running; its name. Its standard error is a file: a pipe would be waited for."""
    box.script(script).write()
    argv = [str(RUNTIME), "--root", str(box.state), "run", "--detach", "--bundle", str(box.base), name]
    with open(box.base / "err", "w", encoding="utf-8") as err:
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err, timeout=60, check=False).returncode
    assert code == 0, (box.base / "err").read_text()
    return name


def status_of(text, key):
    """A line of /proc/PID/status."""
    return re.search(rf"^{key}:\s*(.*)$", text, re.M).group(1)


# ---- file descriptors and executables across the boundary (table G) ----

def test_cve_2016_9962_exec_cannot_be_traced(box):
    """From setns to execve no process of the container may look into ours: not dumpable, root of the container sees nothing."""
    name = background(box, "while :; do for p in /proc/[0-9]*; do ls -l $p/fd $p/exe 2>/dev/null; done; done >/seen")
    for _ in range(30):
        assert box.command("exec", name, "true", stdin=subprocess.DEVNULL).code == 0
    until(lambda: "busybox" in (box.root / "seen").read_text())
    box.command("delete", "-f", name)
    seen = (box.root / "seen").read_text()
    assert "busybox" in seen and "hoy-runtime" not in seen and str(box.state) not in seen


@pytest.mark.parametrize("filtered", [False, True])
def test_cve_2016_9962_who_may_trace_sees_no_rights_but_its_own(box, filtered):
    """A container with CAP_SYS_PTRACE and no user namespace may trace whatever it can name, not dumpable or not: so what it can name
    never has more capabilities than exec's program. (Both of crun and runc show processes with all of the host's.)"""
    caps = ["CAP_SYS_PTRACE", "CAP_KILL"]
    box.config["process"]["capabilities"] = {k: caps for k in ("bounding", "effective", "permitted")}
    if filtered:
        box.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                                          "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}
    box.mount("/tmp", None, "mode=1777", type="tmpfs")
    name = background(box, "while ! [ -e /tmp/end ]; do for p in /proc/[0-9]*; do while read -r k v; do "
                           "[ $k != CapPrm: ] || echo $v; done <$p/status; done 2>/dev/null; done | sort -u >/caps; sleep 100")
    for _ in range(60):
        assert box.command("exec", name, "true", stdin=subprocess.DEVNULL).code == 0
    tty = box.command("exec", "-t", name, "sh", "-c", "tty; echo $PPID", stdin=subprocess.DEVNULL)
    assert tty.code == 0 and tty.out.startswith("/dev/pts/0\n0\n"), tty
    assert box.command("exec", name, "sh", "-c", "exit 7", stdin=subprocess.DEVNULL).code == 7
    missing = box.command("exec", name, "none-such", stdin=subprocess.DEVNULL)
    assert missing.code == 255 and "none-such" in missing.err
    box.command("exec", name, "touch", "/tmp/end", stdin=subprocess.DEVNULL)
    seen = until((box.root / "caps").read_text)
    box.command("delete", "-f", name)
    assert seen.split() == [f"{1 << 19 | 1 << 5:016x}"], seen


def attack(box, program, argv):
    """The classic attack, without its race: `program` of the container is ours and waits on a fifo; a process of the container opens it
    by /proc/PID/exe, lets it end, and writes by that descriptor. Returns what the attacker saw."""
    (box.root / "b").mkdir(exist_ok=True)
    for name in ("b/config.json", "seen"):
        (box.root / name).unlink(missing_ok=True)
    os.mkfifo(box.root / "b/config.json")
    name = background(box, "while ! [ -e /seen ]; do for p in /proc/[0-9]*; do e=$(readlink $p/exe); case $e in */busybox|'') ;; *) "
                           "exec 5<$p/exe && echo opened $e >/seen; break;; esac; done; done; echo '{}' >/b/config.json; sleep 0.3; "
                           "(echo broken >/proc/self/fd/5) 2>>/seen && echo written >>/seen; echo end >>/seen")
    subprocess.run([*argv, "exec", name, program, "run", "--bundle", "/b", "x"], stdin=subprocess.DEVNULL, capture_output=True,
                   check=False, timeout=60)
    for _ in range(1200 if program != "/bin/loop" else 20):
        if (box.root / "seen").exists() and "end" in (box.root / "seen").read_text():
            break
        time.sleep(0.05)
    subprocess.run([*argv, "delete", "-f", name], check=True, timeout=60)
    return (box.root / "seen").read_text() if (box.root / "seen").exists() else ""


@pytest.mark.parametrize("program", ["/proc/self/exe", "/bin/me", "/bin/loop"])
def test_cve_2019_5736_our_binary_cannot_be_overwritten(box, program):
    """By name, by a link and as a script's interpreter: the attacker does reach the file, and cannot write it."""
    copy = box.base / "hoy-runtime"
    shutil.copy(RUNTIME, copy)
    before = copy.read_bytes()
    (box.root / "bin/loop").write_text("#!/proc/self/exe run\n")
    (box.root / "bin/loop").chmod(0o755)
    os.symlink("/proc/self/exe", box.root / "bin/me")
    seen = attack(box, program, [str(copy), "--root", str(box.state)])
    assert copy.read_bytes() == before
    if program != "/bin/loop":  # there the fifo is not read: the arguments are others
        assert "opened" in seen and "Read-only file system" in seen and "written" not in seen, seen


@pytest.mark.parametrize("refused,way", [(None, "MOUNT_ATTR_RDONLY"), ("execveat:error=ENOSYS:when=1", "MOUNT_ATTR_RDONLY"),
                                         ("mount_setattr:error=ENOSYS:when=1", "MOUNT_ATTR_RDONLY"), ("open_tree:error=EPERM:when=1", "MOUNT_ATTR_RDONLY"),
                                         ("open_tree:error=EPERM:when=1..2", "F_SEAL_WRITE")])
def test_cve_2019_5736_ways(box, refused, way):
    """The program executes itself from a read-only mount before libc begins; where that is refused (here by strace in its place) main does
    it, and where mounts are refused from a sealed copy. Each way its file is out of reach before there is a child."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    box.script("true").write()
    log = box.base / "log"
    subprocess.run(["strace", "-o", str(log), "-e", "trace=open_tree,mount_setattr,memfd_create,execveat,fcntl,brk,clone3"]
                   + (["-e", "inject=" + refused] if refused else [])
                   + [str(RUNTIME), "--root", str(box.state), "run", "--bundle", str(box.base), "s"],
                   stdin=subprocess.DEVNULL, check=True, timeout=120)
    before_child = log.read_text().split("clone3(")[0]
    before, after = before_child.rsplit("execveat(", 1)
    assert way in before and ") = 0" in after.splitlines()[0] and "execveat(" not in after, before_child
    assert ("brk(" in before) == bool(refused), before_child  # libc's first call


@pytest.mark.parametrize("where", ["/proc/self/fd/{n}", "/proc/self/fd/{n}/../..", "/proc/1/fd/{n}", "/proc/thread-self/fd/{n}", "/proc/self/cwd"])
def test_cve_2024_21626_cwd_by_a_leaked_fd(box, where):
    """A working directory through any fd of ours or of the caller: refused, for the first process and for exec."""
    fd = os.open(box.outside, os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(fd, True)
    name = background(box, "sleep 100")
    try:
        for n in list(range(3, 16)) + [fd]:
            box.config["process"]["cwd"] = where.format(n=n)
            r = box.run("readlink /proc/self/cwd; ls; ls ..", code=None, pass_fds=[fd])
            assert r.code != 0, (n, r)
            r = box.command("exec", "--cwd", where.format(n=n), name, "readlink", "/proc/self/cwd", pass_fds=[fd],
                            stdin=subprocess.DEVNULL)
            assert r.code != 0, (n, r)
    finally:
        os.close(fd)
    box.command("delete", "-f", name)


def test_no_fd_leaks(box):
    """50 open descriptors and a working directory of the host: the program sees 0, 1 and 2, and of those asked for no more."""
    fds = [os.dup(f) for f in [os.open(box.outside, os.O_RDONLY)] * 50]
    script = "for f in /proc/$$/fd/*; do echo ${f##*/} $(readlink $f); done"
    try:
        for text in [box.run(script, pass_fds=fds, cwd=box.outside).out]:
            numbers = {line.split()[0] for line in text.splitlines() if not line.endswith("/fd")}
            assert {"0", "1", "2"} <= numbers <= {"0", "1", "2", "3", "10"} and str(box.outside) not in text, text  # 3, 10: the shell's
            assert not re.search(r"^3 [^\n]*(outside|state|memfd|socket|hoy)", text, re.M), text
        name = background(box, "sleep 100")
        text = box.command("exec", name, "sh", "-c", script, pass_fds=fds, cwd=box.outside, stdin=subprocess.DEVNULL).out
        numbers = {line.split()[0] for line in text.splitlines() if not line.endswith("/fd")}
        assert {"0", "1", "2"} <= numbers <= {"0", "1", "2", "3", "10"} and str(box.outside) not in text, text
        assert not re.search(r"^3 [^\n]*(outside|state|memfd|socket|hoy)", text, re.M), text
        box.command("delete", "-f", name)
    finally:
        for f in fds:
            os.close(f)


def test_preserved_fds_are_the_callers_only(box):
    """--preserve-fds of a number that is not open must not name a descriptor of ours."""
    fd = os.open(box.outside / "file", os.O_RDONLY)
    fd = fcntl.fcntl(fd, fcntl.F_DUPFD, 3)
    box.script("for f in 3 4 5 6 7 8; do [ -e /proc/$$/fd/$f ] && readlink /proc/$$/fd/$f; done; true").write()
    read, write = os.pipe()
    argv = [str(RUNTIME), "--root", str(box.state), "run", "--preserve-fds", "6", "--bundle", str(box.base), "p"]
    r = subprocess.run(["sh", "-c", 'exec "$@" 3</dev/null', "sh", *argv], capture_output=True, text=True, timeout=60,
                       stdin=subprocess.DEVNULL, check=False)
    os.close(read)
    os.close(write)
    assert r.returncode == 0 and r.stdout.split() in ([], ["/dev/null"]), r.stdout + r.stderr


def test_cve_2020_15257_no_abstract_sockets(box):
    """Everything that listens for us has a path with a mode; nothing is reachable by a shared network namespace."""
    before = set(re.findall(r"(@\S*)$", pathlib.Path("/proc/net/unix").read_text(), re.M))
    box.script("true").write()
    subprocess.run([str(RUNTIME), "--root", str(box.state), "create", "--bundle", str(box.base), "c"], stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, check=True, timeout=60)
    after = set(re.findall(r"(@\S*)$", pathlib.Path("/proc/net/unix").read_text(), re.M))
    assert after <= before
    assert stat.S_IMODE((box.state / "c").stat().st_mode) & 0o066 == 0
    box.command("delete", "-f", "c")


def test_no_program_but_the_containers_is_executed_inside(box):
    """CVE-2019-14271, CVE-2026-41567: strace as the witness; after the root has changed there is one execve, the user's."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    box.script("true").write()
    log = box.base / "strace"
    subprocess.run(["strace", "-f", "-o", str(log), "-e", "trace=execve,execveat,pivot_root,chroot,mount,open,openat,setns", str(RUNTIME),
                    "--root", str(box.state), "run", "--bundle", str(box.base), "s"], stdin=subprocess.DEVNULL, check=True, timeout=120)
    lines = log.read_text().splitlines()
    pivot = next(i for i, x in enumerate(lines) if "pivot_root(" in x)
    execs = [x for x in lines[pivot:] if re.search(r"\bexecve(at)?\(", x)]
    assert len(execs) == 1 and '"/bin/sh"' in execs[0], execs
    # CVE-2021-30465, CVE-2024-45310: mount(2) only of "/", for propagation, and on fds of the host's /proc; no path of the container
    for x in lines:
        m = re.search(r'\bmount\((\S+), "([^"]*)"', x)
        assert not m or m.group(2) in ("/", ".") or re.fullmatch(r"/proc/self/fd/\d+", m.group(2)), x
    assert not [x for x in lines if str(box.root) in x and "openat(AT_FDCWD" in x and "O_CREAT" in x]


# ---- paths in a tree of the attacker (table A) ----

@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["/outside", "../../outside", "/tmp", "dir", "/proc", "/"])
def test_cve_2019_19921_and_2023_27561_proc_is_a_link(box, name, target):
    """/proc and /sys of the image must be directories: a link, wherever it points, is an error."""
    replace(box.root / name, target.replace("/outside", str(box.outside)) if target[0] == "/" else target)
    r = box.run("true", code=1)
    assert f"open mount point {name}" in r.err, r


def test_cve_2023_28642_proc_below_a_link(box):
    """proc wanted at a place behind a link, where the masks would miss it."""
    (box.root / "real").mkdir()
    os.symlink("real", box.root / "alias")
    box.mount("/alias/proc", None, type="proc")
    assert "open mount point alias/proc" in box.run("true", code=1).err


def test_cve_2019_16884_and_2025_52881_proc_writes_reach_procfs(box):
    """What we write to /proc goes to the kernel, whatever the container has mounted at /proc: here a tmpfs with files of those names."""
    fake = box.base / "fake"
    for path in ("self/attr", "self/attr/apparmor", "sys/net/ipv4", "thread-self/attr"):
        (fake / path).mkdir(parents=True)
    for path in ("self/oom_score_adj", "self/attr/exec", "self/attr/apparmor/exec", "sys/net/ipv4/ip_default_ttl"):
        (fake / path).write_text("untouched")
    box.mount("/proc", fake)
    box.config["linux"].update(maskedPaths=[], readonlyPaths=[], sysctl={"net.ipv4.ip_default_ttl": "77"})
    box.config["process"]["oomScoreAdj"] = 123
    box.mount("/realproc", None, type="proc")
    out = box.run("cat /realproc/self/oom_score_adj /realproc/sys/net/ipv4/ip_default_ttl /proc/self/oom_score_adj").out
    assert out == "123\n77\nuntouched"
    assert (fake / "sys/net/ipv4/ip_default_ttl").read_text() == "untouched"


@pytest.mark.parametrize("what", ["link", "file", "fifo", "missing"])
def test_cve_2025_31133_masks_are_our_own(box, what):
    """/dev/null of the container is anything but the null device: masked files are still empty and nothing behind it is touched."""
    box.config["mounts"] = [m for m in box.config["mounts"] if not m["destination"].startswith("/dev")]
    null = box.root / "dev/null"
    if what == "link":
        os.symlink(str(box.outside / "null"), null)
    elif what == "file":
        null.write_text("not a device\n")
    elif what == "fifo":
        os.mkfifo(null)
    (box.root / "masked").write_text("secret\n")
    box.config["linux"]["maskedPaths"] = ["/masked", "/proc/kcore"]
    r = box.run("cat /masked; echo end", code=None)
    if what == "missing":
        assert r.out == "end\n"
    else:
        assert r.code == 1 and "device /dev/null" in r.err, r  # the specification: what does not match is an error


@pytest.mark.parametrize("what", ["link", "file", "fifo"])
def test_a_false_null_device_is_not_opened_for_the_program(box, what):
    """exec without standard input in a container that has replaced /dev/null (the engine passes nothing for -d)."""
    name = background(box, "rm /dev/null; case " + what + " in link) ln -s /etc/passwd /dev/null;; file) echo x >/dev/null;; "
                           "fifo) mkfifo /dev/null;; esac; echo >/done; sleep 100")
    until((box.root / "done").exists)
    before = (box.root / "etc/passwd").read_text()
    argv = [str(RUNTIME), "--root", str(box.state), "exec", name, "sh", "-c", "echo root2:x:0:0 >&0; true"]
    subprocess.run(argv, close_fds=True, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert (box.root / "etc/passwd").read_text() == before
    box.command("delete", "-f", name)


@pytest.mark.parametrize("target", ["/outside/file", "/outside/new", "../../../outside/file", "loop"])
def test_cve_2025_52565_console_is_a_link(box, target):
    """/dev/console of the image is a link: the terminal is bound on no path outside, and only on what is no link."""
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] != "/dev"]
    replace(box.root / "dev/console", target.replace("/outside", str(box.outside)) if target[0] == "/" else target)
    (box.root / "dev/pts").mkdir()
    box.config["process"]["terminal"] = True
    r = box.run("true", code=1)
    assert "open mount point dev/console" in r.err, r


@pytest.mark.parametrize("what", ["file", "fifo", "device", "link"])
def test_a_false_ptmx_is_no_terminal(box, what):
    """Without devpts in the configuration /dev/pts/ptmx is the image's: never used, never waited for."""
    box.config["mounts"] = [m for m in box.config["mounts"] if not m["destination"].startswith("/dev")]
    ptmx = box.root / "dev/pts/ptmx"
    ptmx.parent.mkdir()
    if what == "file":
        ptmx.write_text("x")
    elif what == "fifo":
        os.mkfifo(ptmx)
    elif what == "device":
        os.mknod(ptmx, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    else:
        os.symlink("/dev/zero", ptmx)
    box.config["process"]["terminal"] = True
    r = box.run("true", code=1)
    assert "/dev/pts/ptmx" in r.err, r


@pytest.mark.parametrize("target", ["outside", "inside"])
def test_cve_2026_41579_dev_is_a_link(box, target):
    """/dev of the image is a link: an error, or devices inside of the root; never a device outside."""
    box.config["mounts"] = [m for m in box.config["mounts"] if not m["destination"].startswith("/dev")]
    replace(box.root / "dev", str(box.outside / "dir") if target == "outside" else "/home")
    r = box.run("ls /dev/null && echo made", code=None)
    assert (r.code == 0 and r.out == "/dev/null\nmade\n") or "open mount point dev: Too many levels" in r.err, r
    assert not list((box.outside / "dir").iterdir())


def test_a_device_is_the_one_asked_for(box):
    """In a user namespace, where nodes can't be made: whatever the host has at that path, the container has what was asked for."""
    box.config["linux"]["namespaces"].append({"type": "user"})
    maps = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    box.config["linux"].update(uidMappings=maps, gidMappings=maps,
                               devices=[{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 3, "fileMode": 438}])
    subprocess.run(["chown", "-R", "100000:100000", box.root], check=True)
    r = box.run("stat -c %t:%T /dev/kmsg /dev/null", code=None)
    assert r.out == "1:3\n1:3\n" or "another device at /dev/kmsg" in r.err, r


def test_cve_2021_30465_and_2024_45310_exchange_race(box, tmp_path):
    """Two containers share a volume; in it a directory and a link to "/" change places all the time while mounts are set up below it."""
    cc = shutil.which("gcc") or shutil.which("clang")
    if not cc:
        pytest.skip("needs a C compiler")
    program = tmp_path / "exchange"
    subprocess.run([cc, "-O2", "-o", str(program), str(pathlib.Path(__file__).parent / "exchange.c")], check=True)
    volume = tmp_path / "volume"
    (volume / "a").mkdir(parents=True)
    os.symlink("../../../../../../../../../.." + str(box.outside / "dir"), volume / "b")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/mark").write_text("mark\n")
    box.mount("/vol", volume).mount("/vol/a/x", tmp_path / "src").mount("/vol/a/deep/er/file", tmp_path / "src/mark")
    box.mount("/vol/a/t", None, type="tmpfs").mount("/vol/a/copied", None, "tmpcopyup", type="tmpfs")
    box.config["linux"]["maskedPaths"] += ["/vol/a/masked"]
    box.config["linux"]["readonlyPaths"] += ["/vol/a/read"]
    box.config["process"]["cwd"] = "/vol/a/work"
    box.config["linux"]["devices"] = [{"path": "/vol/a/dev", "type": "c", "major": 1, "minor": 3}]
    box.script("true")
    attacker = subprocess.Popen([str(program), str(volume)], stdout=subprocess.PIPE, text=True)
    started = failed = 0
    errors = {}
    try:
        assert attacker.stdout.readline() == "ready\n"
        for i in range(RACE):
            r = box.run(code=None, name=f"race-{i}")
            started += r.code == 0
            failed += r.code != 0
            if r.code:
                errors[r.err.strip()] = errors.get(r.err.strip(), 0) + 1
        assert attacker.poll() is None
    finally:
        attacker.kill()
        attacker.wait()
    print(f"race: {RACE} starts, {started} ran, {failed} refused: {json.dumps(errors, indent=1)}")
    assert snapshot(box.outside) == box.secret
    assert not [x for x in open("/proc/self/mountinfo", encoding="utf-8") if str(box.outside) in x]


# ---- identities (table B) ----

def test_cve_2022_29162_and_24769_no_inheritable_capabilities(box):
    """Inheritable and ambient are empty unless asked for, also for exec --cap."""
    text = box.run("cat /proc/self/status").out
    assert int(status_of(text, "CapInh"), 16) == int(status_of(text, "CapAmb"), 16) == 0
    name = background(box, "sleep 100")
    text = box.command("exec", "--cap", "CAP_NET_RAW", name, "cat", "/proc/self/status", stdin=subprocess.DEVNULL).out
    assert int(status_of(text, "CapInh"), 16) == int(status_of(text, "CapAmb"), 16) == 0
    assert int(status_of(text, "CapEff"), 16) >> 13 & 1
    box.command("delete", "-f", name)


def test_a_process_without_capabilities_has_none(box):
    del box.config["process"]["capabilities"]
    text = box.run("cat /proc/self/status").out
    assert int(status_of(text, "CapEff"), 16) == int(status_of(text, "CapBnd"), 16) == 0


def test_cve_2022_2989_and_36109_exact_groups(box):
    """The groups of the caller stay outside: gid and what was asked for."""
    box.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [2000]}
    text = box.run("cat /proc/self/status", extra_groups=[0, 4, 27]).out
    assert set(status_of(text, "Groups").split()) <= {"1000", "2000"}


@pytest.mark.parametrize("user", [{"uid": 1 << 32}, {"uid": -1}, {"uid": (1 << 32) - 1}, {"gid": 1 << 32}, {"gid": -5},
                                  {"uid": 1, "additionalGids": [1 << 32]}, {"uid": "0"}])
def test_cve_2024_40635_ids_do_not_overflow(box, user):
    box.config["process"]["user"] = user
    r = box.run("id", code=1)
    assert "process.user" in r.err, r


def test_cve_2023_25809_cgroups_are_read_only(box):
    """ro means ro for each hierarchy, with and without a cgroup namespace; and nothing of the host's tree is there to write."""
    for own in (False, True):
        box.config["linux"]["namespaces"] = [n for n in box.config["linux"]["namespaces"] if n["type"] != "cgroup"]
        box.config["mounts"] = box.config["mounts"][:4]
        if own:
            box.config["linux"]["namespaces"].append({"type": "cgroup"})
        box.mount("/sys/fs/cgroup", "cgroup", "ro", type="cgroup")
        out = box.run("for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/x 2>/dev/null && echo $d; done; true").out
        assert out == "", out


def test_state_is_for_its_owner(box):
    """CVE-2021-41091 and its like: nothing that we make on the host is open to others."""
    os.umask(0)
    try:
        name = background(box, "sleep 100")
    finally:
        os.umask(0o022)
    assert stat.S_IMODE(box.state.stat().st_mode) == 0o700
    for top, dirs, files in os.walk(box.state):
        for n in dirs + files:
            mode = stat.S_IMODE(os.lstat(os.path.join(top, n)).st_mode)
            assert mode & 0o022 == 0, (n, oct(mode))
    box.command("delete", "-f", name)


# ---- the table of hostile roots ----

TARGETS = ["etc/resolv.conf", "mnt/dir", "dev", "dev/pts", "dev/shm", "tmp", "etc"]
LONG = "/".join(["d" * 200] * 19)


def hostile(kind, path, outside):
    """Puts something unwanted at path; whether a start may succeed with it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    links = {"absolute link": str(outside / "dir"), "link to a file": str(outside / "file"), "link up": "../" * 20 + str(outside / "dir")[1:],
             "dangling link": "/no/such/place", "dangling link out": str(outside / "new"), "loop": path.name, "link to proc": "/proc/self/root",
             "magic link": "/proc/1/cwd", "long link": "/" + LONG, "link to the root": "/"}
    if kind in links:
        os.symlink(links[kind], path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    elif kind == "socket":
        s = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(path.parent)
        s.bind(path.name)
        os.chdir(here)
        s.close()
    elif kind == "file":
        path.write_text("a file\n")
    elif kind == "directory":
        path.mkdir()


KINDS = ["absolute link", "link to a file", "link up", "dangling link", "dangling link out", "loop", "link to proc", "magic link", "long link",
         "link to the root", "fifo", "device", "socket", "file", "directory"]


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_roots(box, tmp_path, kind):
    """Each mount point of a usual configuration replaced by each kind of file: it works inside of the root, or one clear error; outside
    nothing changes."""
    (tmp_path / "resolv").write_text("nameserver 10.0.0.1\n")
    (tmp_path / "src").mkdir()
    box.mount("/etc/resolv.conf", tmp_path / "resolv", "ro").mount("/mnt/dir", tmp_path / "src")
    box.mount("/dev/shm", None, "mode=1777", type="tmpfs").mount("/tmp", None, "tmpcopyup", type="tmpfs")
    box.config["linux"]["maskedPaths"] += ["/etc/masked"]
    box.config["linux"]["readonlyPaths"] += ["/etc/read"]
    clean = box.base / "clean"
    subprocess.run(["cp", "-a", box.root, clean], check=True)
    for target in [*TARGETS, "etc/masked", "etc/read", "work"]:
        shutil.rmtree(box.root)
        subprocess.run(["cp", "-a", clean, box.root], check=True)
        hostile(kind, box.root / target, box.outside)
        box.config["process"]["cwd"] = "/work"
        r = box.run("true", code=None)
        assert r.code in (0, 1), (target, r)
        if r.code:
            assert re.match(r"hoy-runtime: [^\n]+\n$", r.err), (target, r)
        assert snapshot(box.outside) == box.secret, (target, r)


# ---- the engine's own programs ----

def exe_is_read_only(needle):
    """Whether every process with needle in its command line runs from a read-only mount; fails when there is none."""
    found = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if needle in (proc / "cmdline").read_bytes().split(b"\0") and (proc / "cmdline").read_bytes().startswith((b"hoy", str(BUILD).encode())):
                found.append(bool(os.statvfs(proc / "exe").f_flag & os.ST_RDONLY))
        except OSError:
            continue
    assert found, f"no process {needle}"
    return all(found)


def test_cve_2019_5736_keepers(hoy):
    """What a container started by hoy reaches by /proc/PID/exe before its program runs is the keeper's file: read-only."""
    cid = hoy("run", "-d", "busybox", "sleep", "100").out.strip()
    assert exe_is_read_only(cid[:12].encode())
    assert hoy("exec", cid, "echo", "fine").out == "fine\n"


def test_cve_2019_5736_build_steps(hoy, tmp_path):
    """The steps of a build are children of hoy itself."""
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo up; sleep 1000\n")
    build = hoy.popen("build", "-t", "shielded", str(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert any(" up" in line and "RUN" not in line for line in build.stderr)
        assert exe_is_read_only(b"shielded")
    finally:
        build.send_signal(signal.SIGINT)
        build.communicate(timeout=60)
