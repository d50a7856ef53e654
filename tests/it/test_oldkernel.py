"""Everyday work as on a Linux 5.15, as far as a seccomp filter can play one (oldkernel.c); tests/v2 has a real 6.1."""
import pathlib
import shutil
import socket
import subprocess

import pytest

from bundle import RUNTIME, Bundle
from conftest import Result


@pytest.fixture(scope="module")
def oldkernel(tmp_path_factory):
    """The program that puts others under the filter."""
    cc = shutil.which("gcc") or shutil.which("clang")
    if not cc:
        pytest.skip("needs a C compiler")
    path = tmp_path_factory.mktemp("old") / "oldkernel"
    subprocess.run([cc, "-o", path, pathlib.Path(__file__).parent / "oldkernel.c"], check=True)
    return path


def test_hoy(fresh_hoy, oldkernel, busybox_tar, tmp_path):
    script = tmp_path / "hoy"
    script.write_text(f"#!/bin/sh\nexec {oldkernel} {fresh_hoy.binary} \"$@\"\n")
    script.chmod(0o755)
    fresh_hoy.binary = script
    fresh_hoy("import", busybox_tar, "busybox")
    assert fresh_hoy("run", "--rm", "busybox", "echo", "hello").out == "hello\n"
    fresh_hoy("run", "-d", "--name", "old", "-v", "vol:/v", "--tmpfs", "/t", "--memory", "64m", "--read-only", "-p", "127.0.0.1::80",
              "busybox", "sleep", "100")
    assert fresh_hoy("exec", "old", "sh", "-c", "echo x >/v/f; cat /v/f; touch /no 2>&1", code=1).out == "x\ntouch: /no: Read-only file system\n"
    assert "old" in fresh_hoy("ps").out
    fresh_hoy("pause", "old")
    fresh_hoy("unpause", "old")
    fresh_hoy("stop", "-t", "0", "old")
    fresh_hoy("rm", "-v", "old")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo built >/f\nCMD [\"cat\", \"/f\"]\n")
    fresh_hoy("build", "-t", "made", tmp_path)
    assert fresh_hoy("run", "--rm", "made").out == "built\n"


def test_the_runtime(oldkernel, tmp_path):
    box = Bundle(tmp_path)
    box.script("sleep 100").write()

    def command(*args, code=0):
        r = Result(subprocess.run([oldkernel, RUNTIME, "--root", box.state, *args], capture_output=True, text=True, timeout=60,
                                  stdin=subprocess.DEVNULL, check=False))
        assert r.code == code, r
        return r

    (tmp_path / "m").write_text('[{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}]')
    subprocess.run([oldkernel, RUNTIME, "--root", box.state, "run", "-d", "--bundle", box.base, "old"], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert command("exec", "old", "echo", "in").out == "in\n"
        command("mounts", "add", "old", str(tmp_path / "m"))
        assert " /tmp " in command("exec", "old", "cat", "/proc/self/mountinfo").out
        command("mounts", "remove", "old", str(tmp_path / "m"))
        command("update", "--pids-limit", "50", "old")
        command("pause", "old")
        command("resume", "old")
        assert '"pids"' in command("events", "--stats", "old").out
        assert "sleep 100" in command("ps", "old").out
    finally:
        command("delete", "-f", "old")


def test_a_flag_of_newer_kernels_is_told(oldkernel, tmp_path):
    box = Bundle(tmp_path)
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        box.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(tmp_path / "agent"),
                                          "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
                                          "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}
        box.script("true").write()
        r = subprocess.run([oldkernel, RUNTIME, "--root", box.state, "run", "--bundle", box.base, "old"], capture_output=True, text=True,
                           timeout=60, stdin=subprocess.DEVNULL, check=False)
    assert r.returncode == 1 and "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs Linux 5.19" in r.stderr, r.stderr
