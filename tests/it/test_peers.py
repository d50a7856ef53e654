"""Exchange with docker, podman and buildah: what one made, the other runs; and hoy-runtime as podman's runtime."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from conftest import BUILD, until

LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]


def sh(*argv, code=0, **more):
    """Runs a peer's command; its standard output."""
    r = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=180, check=False, **more)
    assert r.returncode == code, f"{argv}: exit {r.returncode}\n{r.stdout}\n{r.stderr}"
    return r.stdout


@pytest.fixture(scope="module")
def podman():
    """podman with storage of its own; crun wants the empty v2 hierarchy out of sight."""
    if not shutil.which("podman"):
        pytest.skip("needs podman")
    base = pathlib.Path(tempfile.mkdtemp(prefix="hp-"))  # podman refuses a run root of more than 50 characters
    hide = "umount /sys/fs/cgroup/unified 2>/dev/null; exec podman \"$@\""
    argv = ["unshare", "-m", "sh", "-c", hide, "podman", "--root", base / "root", "--runroot", base / "run", "--cgroup-manager", "cgroupfs",
            "--storage-driver", "vfs"]
    subprocess.run([*map(str, argv), "info"], capture_output=True, check=False)  # makes what podman keeps in /run
    yield argv
    subprocess.run([*map(str, argv), "rm", "-af"], capture_output=True, check=False)
    subprocess.run([*map(str, argv), "rmi", "-af"], capture_output=True, check=False)
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    """A dockerd in network and mount namespaces of its own, so that nothing of it reaches the host."""
    if not shutil.which("dockerd"):
        pytest.skip("needs docker.io")
    base = tmp_path_factory.mktemp("docker")
    sock = f"unix://{base}/s"
    daemon = ["dockerd", "--data-root", f"{base}/data", "--exec-root", f"{base}/exec", "-H", sock, "--pidfile",
              f"{base}/pid", "--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "vfs"]
    script = ("umount /sys/fs/cgroup/unified 2>/dev/null; ip link set lo up; exec " + " ".join(daemon))
    with open(base / "log", "w", encoding="utf-8") as log:
        proc = subprocess.Popen(["unshare", "-m", "-n", "sh", "-c", script], stdout=log, stderr=log)
    argv = ["docker", "-H", sock]
    until(lambda: subprocess.run([*argv, "version"], capture_output=True, check=False).returncode == 0 or proc.poll() is not None, 180, pause=0.2)
    if proc.poll() is not None:
        pytest.skip("needs a dockerd that starts here: " + (base / "log").read_text()[-200:])
    yield argv
    proc.terminate()
    proc.wait(120)
    for group in ("docker",):
        for root in os.listdir("/sys/fs/cgroup"):
            path = f"/sys/fs/cgroup/{root}/{group}"
            if os.path.isdir(path):
                try:
                    os.rmdir(path)
                except OSError:
                    pass


@pytest.fixture
def built(podman, docker, hoy, tmp_path):
    """An image of ours with a command, a file and an environment; and its archive."""
    ctx = tmp_path / "ctx"
    ctx.mkdir()
    (ctx / "f").write_text("content\n")
    (ctx / "Dockerfile").write_text('FROM busybox\nENV GREETING=hi\nCOPY f /f\nRUN echo run >/r && rm /bin/zcat\n'
                                    'CMD ["sh", "-c", "echo $GREETING $(cat /f /r)"]\n')
    hoy("build", "-q", "-t", "ours:1", ctx)
    hoy("save", "-o", tmp_path / "ours.tar", "ours:1")
    yield tmp_path / "ours.tar"
    hoy("rmi", "-f", "ours:1")


def test_podman_runs_ours_from_an_archive(built, podman):
    sh(*podman, "load", "-i", built)
    assert sh(*podman, "run", "--rm", "--network", "none", *LIMITS, "ours:1") == "hi content run\n"


def test_docker_runs_ours_from_an_archive(built, docker, hoy):
    assert "ours:1" in sh(*docker, "load", "-i", built)
    assert sh(*docker, "run", "--rm", "--network", "none", "ours:1") == "hi content run\n"
    ours = json.loads(hoy("inspect", "ours:1").out)[0]
    theirs = json.loads(sh(*docker, "inspect", "ours:1"))[0]
    assert ours["Id"] == theirs["Id"] and ours["RootFS"]["Layers"] == theirs["RootFS"]["Layers"]
    assert ours["Config"]["Env"] == theirs["Config"]["Env"] and ours["Config"]["Cmd"] == theirs["Config"]["Cmd"]


def test_podman_runs_ours_from_a_registry(built, hoy, podman, registry):
    name = f"{registry.host}/peers/ours:1"
    hoy("tag", "ours:1", name)
    out = hoy("push", name).out
    digest = re.search(r"sha256:[0-9a-f]{64}", out).group(0)
    sh(*podman, "pull", "-q", "--tls-verify=false", name)
    assert digest in sh(*podman, "inspect", "--format", "{{.RepoDigests}}", name)
    assert sh(*podman, "run", "--rm", "--network", "none", *LIMITS, name) == "hi content run\n"
    hoy("rmi", name)


def test_hoy_runs_what_docker_saved(built, docker, hoy, tmp_path):
    sh(*docker, "load", "-i", built)
    sh(*docker, "tag", "ours:1", "theirs:1")
    sh(*docker, "save", "-o", tmp_path / "theirs.tar", "theirs:1")
    assert "theirs:1" in hoy("load", "-i", tmp_path / "theirs.tar").out
    assert hoy("run", "--rm", "theirs:1").out == "hi content run\n"
    ids = [json.loads(hoy("inspect", n).out)[0]["Id"] for n in ("ours:1", "theirs:1")]
    assert ids[0] == ids[1]
    hoy("rmi", "theirs:1")


def test_hoy_runs_what_docker_built(docker, hoy, busybox_tar, tmp_path):
    (tmp_path / "g").write_text("built by docker\n")
    (tmp_path / "Dockerfile").write_text('FROM bb\nCOPY g /g\nRUN chmod 600 /g && ln -s g /l\nUSER 0\nCMD ["cat", "/l"]\n')
    sh(*docker, "import", busybox_tar, "bb")
    sh(*docker, "build", "--network", "none", "-t", "dbuilt:1", tmp_path, env=dict(os.environ, DOCKER_BUILDKIT="0"))
    sh(*docker, "save", "-o", tmp_path / "dbuilt.tar", "dbuilt:1")
    hoy("load", "-i", tmp_path / "dbuilt.tar")
    assert hoy("run", "--rm", "dbuilt:1").out == "built by docker\n"
    assert json.loads(hoy("inspect", "dbuilt:1").out)[0]["Id"] == json.loads(sh(*docker, "inspect", "dbuilt:1"))[0]["Id"]
    hoy("rmi", "dbuilt:1")


def test_hoy_runs_what_buildah_built(hoy, built, registry, tmp_path):
    if not shutil.which("buildah"):
        pytest.skip("needs buildah")
    name = f"{registry.host}/peers/buildah:1"
    (tmp_path / "h").write_text("by buildah\n")
    (tmp_path / "Containerfile").write_text('FROM scratch\nCOPY h /h\nENV A=1\n')
    buildah = ["buildah", "--root", tmp_path / "b", "--runroot", tmp_path / "br", "--storage-driver", "vfs"]
    sh(*buildah, "bud", "--isolation", "chroot", "-t", name, "-f", tmp_path / "Containerfile", tmp_path)
    sh(*buildah, "push", "--tls-verify=false", name)
    hoy("pull", name)
    cid = hoy("create", name, "/none").out.strip()
    hoy("cp", f"{cid}:/h", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "by buildah\n"
    hoy("rm", cid)
    hoy("rmi", name)
    sh(*buildah, "rmi", "-af")


def test_podman_with_our_runtime(podman, busybox_tar):
    sh(*podman, "import", busybox_tar, "bb")
    runtime = [*podman, "--runtime", BUILD / "src/main/hoy-runtime"]
    assert sh(*runtime, "run", "--rm", "--network", "none", *LIMITS, "bb", "sh", "-c", "echo $$ up; exit 0") == "1 up\n"
    sh(*runtime, "run", "--rm", "--network", "none", *LIMITS, "bb", "sh", "-c", "exit 7", code=7)
    sh(*runtime, "run", "-d", "--name", "rt", "--network", "none", *LIMITS, "-m", "64m", "bb", "sleep", "100")
    assert sh(*runtime, "exec", "rt", "echo", "in") == "in\n"
    assert "sleep" in sh(*runtime, "top", "rt")
    sh(*runtime, "pause", "rt")
    sh(*runtime, "unpause", "rt")
    sh(*runtime, "stop", "-t", "0", "rt")
    sh(*runtime, "rm", "rt")
    assert "not found" in subprocess.run([*map(str, runtime), "run", "--rm", "--network", "none", *LIMITS, "bb", "nosuch"],
                                         capture_output=True, text=True, check=False).stderr.lower()
