"""Fixtures of the whole-program tests: our binary with a private root, base images, a real registry, the census."""
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tarfile
import time

import pytest

import census as host

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HOY_BUILD", TOP / "build")).resolve()


class Result:
    """Exit code and text of one command."""

    def __init__(self, proc):
        self.code, self.out, self.err = proc.returncode, proc.stdout, proc.stderr

    def __repr__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Hoy:
    """Our binary on a root and run directory of its own."""

    def __init__(self, base):
        self.root, self.run_dir = base / "root", base / "run"
        self.binary = BUILD / "src/main/hoy"
        self.env = dict(os.environ, HOY_ROOT=str(self.root), HOY_RUN=str(self.run_dir), HOME=str(base))

    def __call__(self, *args, code=0, stdin="", timeout=120, **more):
        """Runs `hoy ARGS`; fails the test unless it exits with code (None: any)."""
        r = self.any(*args, stdin=stdin, timeout=timeout, **more)
        assert code is None or r.code == code, f"hoy {' '.join(map(str, args))}: {r}"
        return r

    def any(self, *args, stdin="", timeout=120, **more):
        """Runs `hoy ARGS`, whatever its exit code."""
        env = dict(self.env, **more.pop("env", {}))
        return Result(subprocess.run([str(self.binary), *map(str, args)], input=stdin, capture_output=True, text=True,
                                     timeout=timeout, env=env, **more))

    def popen(self, *args, **more):
        """Starts `hoy ARGS` in the background."""
        return subprocess.Popen([str(self.binary), *map(str, args)], env=self.env, text=True, **more)

    def remove_all(self):
        """Removes every container; whatever a failed test left."""
        ids = self.any("ps", "-aq").out.split()
        if ids:
            self.any("rm", "-f", "-v", *ids)


def busybox_tree(path):
    """A small root file system from Debian's busybox-static."""
    for d in ("bin", "etc", "tmp", "root", "dev", "proc", "sys", "var", "home"):
        (path / d).mkdir(parents=True)
    (path / "tmp").chmod(0o1777)
    shutil.copy("/bin/busybox", path / "bin/busybox")
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for a in applets:
        if a != "busybox":
            (path / "bin" / a).symlink_to("busybox")
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/home:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nworker:x:1000:\nextra:x:2000:worker\n")


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory):
    """The tree of busybox_tree as a plain tar."""
    base = tmp_path_factory.mktemp("busybox")
    busybox_tree(base / "tree")
    path = base / "busybox.tar"

    def plain(info):
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(path, "w") as tar:
        for entry in sorted((base / "tree").iterdir()):
            tar.add(entry, entry.name, filter=plain)
    return path


@pytest.fixture(scope="session")
def debian_tar(tmp_path_factory):
    """A debian:bookworm root file system from the Debian mirror (mmdebstrap), made once a session."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("needs mmdebstrap")
    path = pathlib.Path(os.environ.get("HOY_DEBIAN_TAR", tmp_path_factory.mktemp("debian") / "debian.tar"))
    if not path.exists():
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root",
                        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
                        "bookworm", str(path)], check=True, timeout=900)
    return path


@pytest.fixture(scope="session")
def shared_hoy(tmp_path_factory, busybox_tar):
    """One root for the session with busybox:latest in it."""
    h = Hoy(tmp_path_factory.mktemp("hoy"))
    h("import", busybox_tar, "busybox")
    yield h
    h.remove_all()
    h.any("system", "reset", "--force")


@pytest.fixture
def hoy(shared_hoy):
    """The session's hoy; containers of the test are removed, and the census must be as before."""
    before = calm_census()
    yield shared_hoy
    shared_hoy.remove_all()
    check_census(before)


@pytest.fixture
def fresh_hoy(tmp_path):
    """A hoy with an empty root."""
    before = calm_census()
    h = Hoy(tmp_path)
    yield h
    h.remove_all()
    h.any("system", "reset", "--force")
    check_census(before)


def until(condition, seconds=60, tell=lambda: "waited in vain", pause=0.02):
    """Waits until the condition holds; what it gave then. Long, for a loaded machine: only what is wrong waits so long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(str(tell()))
        time.sleep(pause)
    return value


def passing(now):
    """What of a census goes by itself: who is about to end, the network that nobody uses, a loop device without a user."""
    return {x for x in now["links"] if x.startswith("hoy-")} | set(now["processes"]) | set(now["loop"])


STAYS = set()  # what was found at first and did not go, for it is of others


def transfers(hoy):
    """Who brings or sends something for this root; whoever has lost its hoy ends a moment later, without a word."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"hoy-transfer") and str(hoy.root).encode() in words:
            found.append(int(entry.name))
    return found


def calm_census(seconds=20):
    """The census when what the test before left to go by itself (a network that nobody uses stays a little) has gone."""
    deadline = time.monotonic() + seconds
    now = host.census()
    while passing(now) - STAYS and time.monotonic() < deadline:
        time.sleep(0.1)
        now = host.census()
    STAYS.update(passing(now))
    return now


def left_since(before):
    """What is on the host and was not, and what was and is not."""
    return host.difference(before, host.census())


def check_census(before, seconds=60):
    """Teardown is asynchronous in the kernel: wait for the census to be equal, then insist."""
    until(lambda: not left_since(before), seconds, lambda: "\n".join(["left on the host:", *left_since(before)]), 0.1)


@pytest.fixture(scope="session", autouse=True)
def own_files(tmp_path_factory):
    """Loop devices have no namespace: those on files of others are theirs."""
    host.OURS = str(tmp_path_factory.getbasetemp())


def below_connections():
    """Ports that the kernel gives to no connection, in any order: whoever picks one finds it free a moment later, too."""
    low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(max(low - 20000, 1024), low) or range(20000, 60000)
    return random.Random().sample(ports, len(ports))


PORTS = below_connections()


def free_port():
    """A port nobody has, of TCP or UDP, on any address; each is given once."""
    while PORTS:
        port = PORTS.pop()
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("", port))
                udp.bind(("", port))
                return port
            except OSError:
                pass
    return pytest.fail("every port is in use")


def connects(port):
    """Whether something accepts connections on the loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def wait_port(port, seconds=60):
    """Until something accepts connections on the loopback port."""
    until(lambda: connects(port), seconds, lambda: f"nothing listens on port {port}")


class Registry:
    """Debian's docker-registry on loopback."""

    def __init__(self, base, tls=None, htpasswd=None):
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        config = ["version: 0.1", "storage:", "  filesystem:", f"    rootdirectory: {base}/data", "  delete:",
                  "    enabled: true", "http:", f"  addr: 127.0.0.1:{self.port}"]
        if tls:
            config += ["  tls:", f"    certificate: {tls[0]}", f"    key: {tls[1]}"]
        if htpasswd:
            config += ["auth:", "  htpasswd:", "    realm: test", f"    path: {htpasswd}"]
        (base / "config.yml").write_text("\n".join(config) + "\n")
        self.log = open(base / "log", "w", encoding="utf-8")
        self.proc = subprocess.Popen(["docker-registry", "serve", str(base / "config.yml")], stdout=self.log,
                                     stderr=self.log)
        wait_port(self.port)

    def stop(self):
        """Ends the server."""
        self.proc.terminate()
        self.proc.wait(60)
        self.log.close()


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """A registry over plain HTTP on loopback."""
    if not shutil.which("docker-registry"):
        pytest.skip("needs docker-registry")
    r = Registry(tmp_path_factory.mktemp("registry"))
    yield r
    r.stop()
