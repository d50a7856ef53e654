"""hoy-runtime as the runtime of podman (conmon), containerd (ctr), docker and buildah: each runs, execs, stops, deletes."""
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

import pytest

from conftest import BUILD, until

RUNTIME = BUILD / "src/main/hoy-runtime"
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--network", "none"]
HIDE = "umount /sys/fs/cgroup/unified 2>/dev/null; "  # the peers want the empty v2 hierarchy out of sight


def sh(*argv, code=0, **more):
    """Runs a caller's command; its standard output."""
    r = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=180, check=False,
                       stdin=subprocess.DEVNULL, **more)
    assert r.returncode == code, f"{' '.join(map(str, argv))}: exit {r.returncode}\n{r.stdout}\n{r.stderr}"
    return r.stdout


def tty(*argv):
    """The same with a terminal around it; what it printed."""
    return sh("script", "-qec", " ".join(map(str, argv)), "/dev/null").replace("\r", "")


def need(*programs):
    """Skips naming what is missing."""
    for p in programs:
        if not shutil.which(p):
            pytest.skip(f"needs {p}")


def groups_below(parent):
    """The control groups of a caller's containers; conmon's own are podman's business."""
    return [str(g.parent) for root in os.listdir("/sys/fs/cgroup")
            for g in (pathlib.Path("/sys/fs/cgroup") / root / parent).glob("*/cgroup.procs") if "conmon" not in str(g)]


def leaves_nothing(parent):
    """No control group is left below parent, once those have ended whom the callers leave to clear away."""
    return until(lambda: not groups_below(parent), tell=lambda: groups_below(parent))


# ---- podman ----

@pytest.fixture(scope="module")
def podman(busybox_tar):
    """podman with storage of its own and our runtime; the image is called bb."""
    need("podman", "conmon")
    base = pathlib.Path(tempfile.mkdtemp(prefix="oc-"))  # podman refuses a run root of more than 50 characters
    (base / "conf").write_text(f'[engine.runtimes]\nhoy = ["{RUNTIME}"]\ncrun = ["{RUNTIME}"]\n')
    argv = ["unshare", "-m", "sh", "-c", HIDE + "exec podman \"$@\"", "podman", "--root", base / "root", "--runroot", base / "run",
            "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs", "--runtime", "hoy"]
    os.environ["CONTAINERS_CONF"] = str(base / "conf")
    sh(*argv, "import", busybox_tar, "bb")
    yield argv
    for what in (["rm", "-af", "-t", "0"], ["rmi", "-af"]):
        subprocess.run([*map(str, argv), *what], capture_output=True, check=False)
    del os.environ["CONTAINERS_CONF"]
    shutil.rmtree(base, ignore_errors=True)


def test_podman_runs_and_tells_exit_codes(podman):
    assert sh(*podman, "run", "--rm", *LIMITS, "bb", "sh", "-c", "echo $$ up") == "1 up\n"
    sh(*podman, "run", "--rm", *LIMITS, "bb", "sh", "-c", "exit 7", code=7)
    sh(*podman, "run", "--rm", *LIMITS, "bb", "nosuch", code=127)
    sh(*podman, "run", "--rm", *LIMITS, "bb", "/etc/passwd", code=126)
    assert leaves_nothing("libpod_parent")


def test_podman_manages_a_running_container(podman):
    sh(*podman, "run", "-d", "--name", "oc1", *LIMITS, "-m", "64m", "--pids-limit", "50", "bb", "sh", "-c",
       "trap 'exit 5' TERM; while :; do sleep 0.1; done")
    assert sh(*podman, "exec", "-u", "1:2", "-w", "/tmp", "-e", "X=1", "oc1", "sh", "-c", "id -u; pwd; echo $X") == "1\n/tmp\n1\n"
    sh(*podman, "exec", "oc1", "sh", "-c", "exit 9", code=9)
    sh(*podman, "exec", "oc1", "nosuch", code=127)
    assert "trap" in sh(*podman, "top", "oc1")
    assert "67.11MB" in sh(*podman, "stats", "--no-stream", "oc1")
    sh(*podman, "pause", "oc1")
    assert sh(*podman, "inspect", "--format", "{{.State.Status}}", "oc1") == "paused\n"
    sh(*podman, "unpause", "oc1")
    sh(*podman, "kill", "-s", "CONT", "oc1")
    sh(*podman, "stop", "-t", "10", "oc1")
    assert sh(*podman, "inspect", "--format", "{{.State.ExitCode}}", "oc1") == "5\n"
    sh(*podman, "start", "oc1")
    sh(*podman, "rm", "-f", "-t", "0", "oc1")
    assert leaves_nothing("libpod_parent")


def test_podman_creates_and_starts_with_a_terminal(podman):
    sh(*podman, "create", "-t", "--name", "oc2", *LIMITS, "bb", "sh", "-c", "tty; stty size; sleep 100")
    sh(*podman, "init", "oc2")
    assert sh(*podman, "inspect", "--format", "{{.State.Status}}", "oc2") == "initialized\n"
    sh(*podman, "start", "oc2")
    until(lambda: "/dev/pts/0" in sh(*podman, "logs", "oc2"))
    assert "/dev/pts/1" in tty(*podman[:4], "'" + podman[4] + "'", *podman[5:], "exec", "-t", "oc2", "tty")
    sh(*podman, "rm", "-f", "-t", "0", "oc2")


def test_podman_checkpoints_and_restores(podman, tmp_path):
    criu = os.environ.get("HOY_CRIU") or shutil.which("criu")
    if not criu or subprocess.run([criu, "check"], capture_output=True, check=False).returncode:
        pytest.skip("needs a criu that works with this kernel (tools/criu.sh takes a newer one)")
    env = dict(os.environ, PATH=f"{os.path.dirname(criu)}:{os.environ['PATH']}")
    sh(*podman, "run", "-d", "--name", "oc6", *LIMITS, "bb", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done")
    until(lambda: "5" in sh(*podman, "logs", "oc6").split())
    sh(*podman, "container", "checkpoint", "oc6", env=env)
    assert sh(*podman, "inspect", "--format", "{{.State.Status}} {{.State.Checkpointed}}", "oc6") == "exited true\n"
    seen = [int(x) for x in sh(*podman, "logs", "oc6").split()]
    sh(*podman, "container", "restore", "oc6", env=env)
    assert sh(*podman, "inspect", "--format", "{{.State.Status}}", "oc6") == "running\n"
    until(lambda: str(seen[-1] + 5) in sh(*podman, "logs", "oc6").split())
    assert sh(*podman, "exec", "oc6", "echo", "in") == "in\n"
    sh(*podman, "container", "checkpoint", "-e", tmp_path / "image.tar", "oc6", env=env)
    sh(*podman, "rm", "-f", "-t", "0", "oc6")
    sh(*podman, "container", "restore", "-i", tmp_path / "image.tar", "--name", "oc7", env=env)  # on a root that is new
    assert sh(*podman, "exec", "oc7", "echo", "in") == "in\n"
    sh(*podman, "rm", "-f", "-t", "0", "oc7")
    assert leaves_nothing("libpod_parent")


def test_podman_without_control_groups(podman):
    """podman takes only a runtime called crun to be able to do it, whatever its configuration says."""
    before = sh("cat", "/proc/self/cgroup")
    inside = sh(*podman[:-1], "crun", "run", "--rm", *LIMITS, "--cgroups=disabled", "bb", "cat", "/proc/self/cgroup")
    assert "libpod" not in inside and len(inside.splitlines()) >= len(before.splitlines()) - 1


def test_podman_passes_annotations_and_descriptors(podman):
    out = sh(*podman, "run", "--rm", *LIMITS, "--annotation", "run.oci.keep_original_groups=1", "bb", "echo", "ok")
    assert out == "ok\n"
    r = subprocess.run([*map(str, podman), "run", "--rm", *LIMITS, "--annotation", "run.oci.handler=wasm", "bb", "true"],
                       capture_output=True, text=True, check=False)
    assert r.returncode and "run.oci.handler is not supported" in r.stderr


# ---- containerd ----

@pytest.fixture(scope="module")
def ctr(tmp_path_factory, busybox_tar):
    """A containerd of its own; containers run from a plain root directory with our runtime."""
    need("containerd", "ctr")
    base = tmp_path_factory.mktemp("ctr")
    (base / "config.toml").write_text(f'version = 2\nroot = "{base}/root"\nstate = "{base}/state"\n'
                                      'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                                      f'[grpc]\n  address = "{base}/s"\n')
    with tarfile.open(busybox_tar) as tar:
        tar.extractall(base / "rootfs")
    script = HIDE + f"exec containerd -c {base}/config.toml"
    with open(base / "log", "w", encoding="utf-8") as log:
        proc = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=log, stderr=log)
    argv = ["ctr", "-a", f"{base}/s"]
    until(lambda: subprocess.run([*argv, "version"], capture_output=True, check=False).returncode == 0 or proc.poll(), 180)
    if proc.poll():
        pytest.skip("needs a containerd that starts here: " + (base / "log").read_text()[-200:])
    yield argv, ["--runc-binary", str(RUNTIME), "--rootfs", str(base / "rootfs")]
    proc.terminate()
    proc.wait(120)


def test_containerd_runs_and_tells_exit_codes(ctr):
    c, ours = ctr
    assert sh(*c, "run", "--rm", *ours, "c1", "echo", "hello") == "hello\n"
    sh(*c, "run", "--rm", *ours, "c2", "sh", "-c", "exit 7", code=7)
    r = subprocess.run([*c, "run", "--rm", *ours, "c3", "nosuch"], capture_output=True, text=True, check=False)
    assert "executable file not found in $PATH" in r.stderr


def test_containerd_manages_a_running_container(ctr):
    c, ours = ctr
    sh(*c, "run", "-d", *ours, "c4", "sleep", "1000")
    try:
        assert "RUNNING" in sh(*c, "task", "ls")
        assert sh(*c, "task", "exec", "--exec-id", "e1", "c4", "echo", "in") == "in\n"
        sh(*c, "task", "exec", "--exec-id", "e2", "c4", "sh", "-c", "exit 3", code=3)
        assert "/dev/pts/0" in tty(*c, "task", "exec", "-t", "--exec-id", "e3", "c4", "tty")
        assert len(sh(*c, "task", "ps", "c4").splitlines()) == 2
        assert "memory.usage_in_bytes" in sh(*c, "task", "metrics", "c4")
        sh(*c, "task", "pause", "c4")
        assert "PAUSED" in sh(*c, "task", "ls")
        sh(*c, "task", "resume", "c4")
    finally:
        sh(*c, "task", "kill", "-s", "KILL", "c4")
        until(lambda: "STOPPED" in sh(*c, "task", "ls"))
        sh(*c, "task", "rm", "c4")
        sh(*c, "c", "rm", "c4")
    assert leaves_nothing("default")


def test_containerd_with_a_terminal(ctr):
    c, ours = ctr
    assert "/dev/pts/0" in tty(*c, "run", "--rm", "-t", *ours, "c5", "tty")


# ---- docker ----

@pytest.fixture(scope="module")
def docker(tmp_path_factory, busybox_tar):
    """A dockerd in network and mount namespaces of its own with our runtime as the default one."""
    need("dockerd", "docker")
    base = tmp_path_factory.mktemp("docker")
    sock = f"unix://{base}/s"
    daemon = ["dockerd", "--data-root", f"{base}/data", "--exec-root", f"{base}/exec", "-H", sock, "--pidfile", f"{base}/pid",
              "--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "vfs", "--add-runtime", f"hoy={RUNTIME}",
              "--default-runtime", "hoy"]
    with open(base / "log", "w", encoding="utf-8") as log:
        proc = subprocess.Popen(["unshare", "-m", "-n", "sh", "-c", HIDE + "ip link set lo up; exec " + " ".join(daemon)],
                                stdout=log, stderr=log)
    argv = ["docker", "-H", sock]
    until(lambda: subprocess.run([*argv, "version"], capture_output=True, check=False).returncode == 0 or proc.poll(), 180)
    if proc.poll():
        pytest.skip("needs a dockerd that starts here: " + (base / "log").read_text()[-200:])
    sh(*argv, "import", busybox_tar, "bb")
    yield argv
    proc.terminate()
    proc.wait(120)
    for root in os.listdir("/sys/fs/cgroup"):
        try:
            os.rmdir(f"/sys/fs/cgroup/{root}/docker")
        except OSError:
            pass


def test_docker_knows_our_runtime(docker):
    assert sh(*docker, "info", "--format", "{{.DefaultRuntime}}") == "hoy\n"


def test_docker_runs_and_tells_exit_codes(docker):
    none = ["--network", "none"]
    assert sh(*docker, "run", "--rm", *none, "bb", "sh", "-c", "echo $$ up") == "1 up\n"
    assert "lo" in sh(*docker, "run", "--rm", "bb", "ip", "addr")
    sh(*docker, "run", "--rm", *none, "bb", "sh", "-c", "exit 7", code=7)
    sh(*docker, "run", "--rm", *none, "bb", "nosuch", code=127)
    sh(*docker, "run", "--rm", *none, "bb", "/etc/passwd", code=126)
    assert "/dev/full" in sh(*docker, "run", "--rm", *none, "--privileged", "bb", "ls", "/dev/full")
    status = sh(*docker, "run", "--rm", *none, "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "bb",
                "cat", "/proc/self/status")
    assert "CapBnd:\t0000000000000000" in status and "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    assert leaves_nothing("docker")


def test_docker_manages_a_running_container(docker):
    sh(*docker, "run", "-d", "--name", "oc1", "--network", "none", "-m", "64m", "--pids-limit", "50", "bb", "sh", "-c",
       "trap 'exit 5' TERM; while :; do sleep 0.1; done")
    assert sh(*docker, "exec", "-u", "1:2", "-w", "/tmp", "-e", "X=1", "oc1", "sh", "-c", "id -u; pwd; echo $X") == "1\n/tmp\n1\n"
    sh(*docker, "exec", "oc1", "sh", "-c", "exit 9", code=9)
    assert "/dev/pts/0" in tty(*docker, "exec", "-t", "oc1", "tty")
    assert "trap" in sh(*docker, "top", "oc1")
    assert "64MiB" in sh(*docker, "stats", "--no-stream", "oc1")
    sh(*docker, "pause", "oc1")
    assert sh(*docker, "inspect", "-f", "{{.State.Status}}", "oc1") == "paused\n"
    sh(*docker, "unpause", "oc1")
    sh(*docker, "update", "-m", "128m", "--memory-swap", "256m", "--cpus", "0.25", "oc1")
    assert sh(*docker, "exec", "oc1", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes") == "134217728\n"
    sh(*docker, "stop", "-t", "10", "oc1")
    assert sh(*docker, "inspect", "-f", "{{.State.ExitCode}}", "oc1") == "5\n"
    sh(*docker, "start", "oc1")
    sh(*docker, "restart", "-t", "0", "oc1")
    sh(*docker, "rm", "-f", "oc1")
    assert leaves_nothing("docker")


def test_docker_with_a_terminal(docker):
    sh(*docker, "run", "-dt", "--name", "oc2", "--network", "none", "bb", "sh", "-c", "tty; sleep 100")
    until(lambda: "/dev/pts/0" in sh(*docker, "logs", "oc2"))
    sh(*docker, "rm", "-f", "oc2")


# ---- buildah ----

def test_buildah_runs_steps(busybox_tar, tmp_path):
    need("buildah")
    base = pathlib.Path(tempfile.mkdtemp(prefix="ob-"))
    argv = ["unshare", "-m", "sh", "-c", HIDE + "exec buildah \"$@\"", "buildah", "--root", base / "b", "--runroot", base / "r",
            "--storage-driver", "vfs"]
    try:
        ctr_name = sh(*argv, "from", "scratch").strip()
        sh(*argv, "add", ctr_name, busybox_tar, "/")
        run = [*argv, "run", "--isolation", "oci", "--runtime", RUNTIME, "--network", "none", ctr_name, "--"]
        assert sh(*run, "sh", "-c", "echo made >/made; cat /made") == "made\n"
        sh(*run, "sh", "-c", "exit 6", code=6)
        sh(*argv, "rm", ctr_name)
    finally:
        subprocess.run([*map(str, argv), "rm", "-a"], capture_output=True, check=False)
        shutil.rmtree(base, ignore_errors=True)
