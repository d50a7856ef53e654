"""A disk that failed and is read-only since: what is on it can be looked at, saved and stopped, and each change is one clear error."""
import subprocess

import pytest


@pytest.fixture
def failed(fresh_hoy, busybox_tar):
    """A store with a stopped and a running container, whose file system nobody can write to any more."""
    h = fresh_hoy
    h("import", "--change", 'CMD ["sh"]', busybox_tar, "busybox")
    h("run", "--network", "none", "--name", "dead", "-v", "vol:/data", "busybox", "sh", "-c", "echo x > /data/x; echo said; echo > /new")
    h("run", "--network", "none", "-d", "--name", "live", "busybox", "sleep", "100")
    subprocess.run(["mount", "--bind", h.root, h.root], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", h.root], check=True)
    yield h
    subprocess.run(["umount", "-l", h.root], check=True)
    assert "damaged" not in h("verify").out.lower()
    h("rm", "-f", "live", "dead")


def test_what_is_there_can_be_read(failed, tmp_path):
    assert failed("ps", "-a", "--format", "{{.Names}}").out == "live\ndead\n"
    assert "busybox" in failed("images").out and "vol" in failed("volume", "ls").out
    assert "Containers" in failed("system", "df").out and failed("logs", "dead").out == "said\n"
    assert failed("inspect", "-f", "{{.Name}}", "dead").out == "/dead\n" and "A /new" in failed("diff", "dead").out
    failed("volume", "export", "-o", tmp_path / "vol.tar", "vol")
    failed("export", "-o", tmp_path / "root.tar", "dead")
    failed("cp", "dead:/data/x", tmp_path)
    assert (tmp_path / "x").read_text() == "x\n"


def test_what_runs_can_be_reached_and_stopped(failed):
    assert failed("exec", "live", "echo", "in").out == "in\n" and "sleep" in failed("top", "live").out
    failed("pause", "live")
    assert "(Paused)" in failed("ps").out
    failed("unpause", "live")
    assert failed("kill", "live").out == "live\n"


@pytest.mark.parametrize("command", [
    ["run", "--rm", "busybox", "true"], ["rm", "dead"], ["start", "dead"], ["rename", "dead", "other"], ["tag", "busybox", "b"],
    ["volume", "create", "v2"], ["volume", "rm", "vol"], ["commit", "dead"], ["cp", "/etc/hostname", "dead:/"], ["system", "prune", "-f"]])
def test_changes_are_refused(failed, command):
    r = failed.any(*command)
    assert r.code in (1, 125) and len(r.err.splitlines()) == 1
    assert "Read-only file system" in r.err or command[:2] == ["volume", "rm"]
    assert failed("ps", "-a", "--format", "{{.Names}}").out == "live\ndead\n"


def test_a_root_that_never_was(failed, tmp_path):
    assert "Read-only file system" in failed("--root", failed.root / "more", "ps", code=1).err
