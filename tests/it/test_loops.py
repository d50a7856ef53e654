"""The driver erofs-loop: layers over loop devices, for kernels that mount no files; tests/v2 runs it on one."""
import os
import pathlib
import signal
import subprocess

import pytest

from conftest import until


def devices(hoy):
    """The files behind loop devices that are ours."""
    files = subprocess.run(["losetup", "-n", "-O", "BACK-FILE"], capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(f.strip() for f in files if str(hoy.root) in f)


def none_left(hoy):
    """The kernel gives them back a moment later."""
    return until(lambda: not devices(hoy), tell=lambda: devices(hoy))


@pytest.fixture
def looped(fresh_hoy, busybox_tar):
    """hoy with busybox, and an image of two layers on it."""
    if not pathlib.Path("/dev/loop-control").exists():
        pytest.skip("needs loop devices")
    fresh_hoy.env["HOY_STORAGE_DRIVER"] = "erofs-loop"
    fresh_hoy("import", busybox_tar, "busybox")
    return fresh_hoy


def test_containers_share_devices(looped):
    hoy = looped
    assert "Storage Driver: erofs-loop" in hoy("info").out
    assert hoy("run", "--rm", "busybox", "echo", "hi").out == "hi\n"
    assert none_left(hoy)
    hoy("run", "-d", "--name", "one", "busybox", "sleep", "100")
    two = devices(hoy)
    assert [f.rsplit("/", 1)[1] for f in two] == ["layer.erofs", "layer.tar"]
    hoy("run", "-d", "--name", "two", "busybox", "sleep", "100")
    assert devices(hoy) == two
    assert hoy("system", "footprint").out.count("loop device /dev/loop") == 2
    hoy("rm", "-f", "one")
    assert hoy("exec", "two", "echo", "on").out == "on\n" and devices(hoy) == two
    hoy("restart", "-t", "0", "two")
    assert hoy("exec", "two", "cat", "/etc/passwd").out.startswith("root:") and devices(hoy) == two
    hoy("rm", "-f", "two")
    assert none_left(hoy)


def test_builds_copies_and_restarts(looped, tmp_path):
    hoy = looped
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /d\nRUN cat /d > /made && rm /etc/passwd\n")
    hoy("build", "-q", "-t", "built", tmp_path)
    assert none_left(hoy)
    assert hoy("run", "--rm", "--read-only", "built", "sh", "-c", "cat /made; ls /etc").out.startswith("FROM busybox\n")
    hoy("run", "-d", "--name", "again", "--restart", "always", "built", "sh", "-c", "sleep 0.3; echo once more")
    until(lambda: hoy("logs", "again").out.count("once more") > 2)
    hoy("cp", "again:/made", tmp_path / "copied")
    assert (tmp_path / "copied").read_text().startswith("FROM busybox")
    assert "not repaired" not in hoy("verify").out
    hoy("rm", "-f", "again")
    assert none_left(hoy)
    hoy("rmi", "built", "busybox")


def test_layers_are_those_of_erofs(looped):
    """One and the same on disk: whoever asks for the other driver reads them."""
    hoy = looped
    for driver in ("erofs", "erofs-loop", "overlay"):
        hoy.env["HOY_STORAGE_DRIVER"] = driver
        assert hoy("run", "--rm", "busybox", "echo", driver).out == f"{driver}\n"
    assert none_left(hoy)


def test_a_killed_keeper_leaves_no_device(looped):
    hoy = looped
    hoy("run", "-d", "--name", "box", "busybox", "sleep", "100")
    assert devices(hoy)
    keeper = int(hoy("inspect", "-f", "{{.State.Pid}}", "box").out)
    parent = int(pathlib.Path(f"/proc/{keeper}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(parent, signal.SIGKILL)
    assert none_left(hoy)
    hoy("rm", "-f", "box")
