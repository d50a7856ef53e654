"""kill -9 of hoy at random moments and other trouble: the next command reconciles, nothing is left, the operation succeeds."""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest

from conftest import calm_census, check_census, transfers, until

ROUNDS = int(os.environ.get("KILL_ROUNDS", "100"))


def kill_at_random(hoy, args, longest):
    """Starts hoy and kills it after a random time; True when it was still running."""
    proc = hoy.popen(*args, stdout=-3, stderr=-3, start_new_session=True)
    time.sleep(random.uniform(0, longest))
    running = proc.poll() is None
    proc.send_signal(signal.SIGKILL)
    proc.wait()
    return running


def test_run_detached(hoy):
    random.seed(1)
    before = calm_census()
    hit = 0
    for n in range(ROUNDS):
        hit += kill_at_random(hoy, ["run", "-d", "--name", f"k{n}", "busybox", "sleep", "60"], 0.04)
        hoy("ps", "-a")
        hoy.any("rm", "-f", f"k{n}")
        hoy("run", "--rm", "busybox", "true")
    assert hit
    hoy.remove_all()
    check_census(before)


def keepers(hoy):
    """Who keeps a container of this root."""
    found = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (proc / "comm").read_text() == "hoy-keeper\n" and \
                    any(os.readlink(fd).startswith(str(hoy.root)) for fd in (proc / "fd").iterdir()):
                found.append(int(proc.name))
        except OSError:
            continue
    return found


def kill_keepers(hoy):
    """kill -9 of every keeper of this root; what they keep dies with them."""
    for pid in keepers(hoy):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not keepers(hoy))


@pytest.mark.parametrize("power_cut", [False, True])
def test_keeper_killed(fresh_hoy, busybox_tar, power_cut):
    """Nobody saw the container end: 255, its network is free, it starts again. A power cut takes RUN along."""
    fresh_hoy("import", busybox_tar, "busybox")
    fresh_hoy("run", "-d", "--name", "kept", "busybox", "sleep", "100")
    fresh_hoy("run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "100")
    fresh_hoy("create", "--rm", "--name", "waiting", "busybox", "true")
    kill_keepers(fresh_hoy)
    if power_cut:
        shutil.rmtree(fresh_hoy.run_dir)
    listing = fresh_hoy("ps", "-a").out
    assert "Exited (255)" in listing and "gone" not in listing and "waiting" in listing
    assert fresh_hoy("wait", "kept").out == "255\n"
    fresh_hoy("start", "kept")
    assert "Up" in fresh_hoy("ps").out
    fresh_hoy("rm", "-f", "kept")


def test_build(hoy, tmp_path):
    random.seed(2)
    (tmp_path / "f").write_text("x" * 100000)
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY f /\nRUN cat /f > /g\nRUN echo 1 > /h\n")
    before = calm_census()
    want = hoy("build", "-q", "--no-cache", tmp_path).out
    for _ in range(ROUNDS):
        kill_at_random(hoy, ["build", "-q", "--no-cache", str(tmp_path)], 0.15)
        hoy("images")
    assert hoy("build", "-q", "--no-cache", tmp_path).out == want
    check_census(before)


def test_pull(fresh_hoy, registry, busybox_tar):
    random.seed(3)
    name = f"{registry.host}/killed:1"
    fresh_hoy("import", busybox_tar, name)
    fresh_hoy("push", name)
    for _ in range(ROUNDS):
        fresh_hoy.any("rmi", "-f", name)
        kill_at_random(fresh_hoy, ["pull", name], 0.15)
        fresh_hoy("images")
    until(lambda: not transfers(fresh_hoy))
    fresh_hoy("pull", name)
    assert fresh_hoy("run", "--rm", name, "echo", "whole").out == "whole\n"
    assert not os.listdir(fresh_hoy.root / "tmp")


def run_dir(hoy, name):
    """RUN/<id> of a container that was started, and the pid of its keeper."""
    path = hoy.run_dir / hoy("run", "-d", "--name", name, "busybox", "sleep", "100").out.strip()
    return path, json.loads((path / "status").read_text())["Keeper"]


def test_a_keeper_that_cannot_be_reached(hoy):
    """Its socket was taken away, or all of RUN/<id>: stop, start and rm -f end it all the same."""
    path, _ = run_dir(hoy, "deaf")
    (path / "ctl").unlink()
    hoy("stop", "-t", "0", "deaf", timeout=20)
    assert hoy("ps", "-a", "--format", "{{.Status}}").out.startswith("Exited")
    hoy("rm", "deaf")
    for command in (["rm", "-f", "lost"], ["stop", "lost"], ["start", "lost"]):
        path, keeper = run_dir(hoy, "lost")
        shutil.rmtree(path)
        hoy(*command)
        until(lambda pid=keeper: not os.path.exists(f"/proc/{pid}"))
        assert (hoy("ps", "-q").out != "") == (command[0] == "start")
        hoy.any("rm", "-f", "lost")


def test_a_keeper_that_is_stuck(hoy):
    _, keeper = run_dir(hoy, "stuck")
    os.kill(keeper, signal.SIGSTOP)
    hoy("rm", "-f", "stuck", timeout=30)
    assert not hoy("ps", "-aq").out


def test_what_is_mounted_below_stays(fresh_hoy, busybox_tar, tmp_path):
    """rm -r of a volume or container never goes into what somebody mounted there."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("x")
    fresh_hoy("import", busybox_tar, "busybox")
    fresh_hoy("volume", "create", "vol")
    cid = fresh_hoy("run", "--network", "none", "--name", "box", "busybox", "mkdir", "/dir").out or fresh_hoy("ps", "-aq", "--no-trunc").out
    for at, args in ((fresh_hoy.root / "volumes/vol/_data", ["volume", "rm", "vol"]),
                     (fresh_hoy.root / "containers" / cid.strip() / "upper/dir", ["rm", "box"])):
        subprocess.run(["mount", "--bind", mine, at], check=True)
        try:
            assert "mounted" in fresh_hoy(*args, code=1).err
        finally:
            subprocess.run(["umount", at], check=True)
        assert (mine / "file").read_text() == "x"
    fresh_hoy("rm", "box")
    assert fresh_hoy("volume", "ls", "-q").out == "" and not list((fresh_hoy.root / "volumes").glob("vol*"))
