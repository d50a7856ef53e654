"""A disk that failed and is read-only since: what is on it can be looked at, saved and stopped, and each change is one clear error."""
import subprocess

import pytest


def remount(h, how):
    subprocess.run(["mount", "-o", f"remount,bind,{how}", h.root], check=True)


@pytest.fixture
def failed(fresh_hoy, busybox_tar):
    """A store with a stopped and a running container, whose file system nobody can write to any more."""
    h = fresh_hoy
    h("import", "--change", 'CMD ["sh"]', busybox_tar, "busybox")
    h("run", "--network", "none", "--name", "dead", "-v", "vol:/data", "busybox", "sh", "-c", "echo x > /data/x; echo said; echo > /new")
    h("run", "--network", "none", "-d", "--name", "live", "busybox", "sleep", "100")
    subprocess.run(["mount", "--bind", h.root, h.root], check=True)
    remount(h, "ro")
    yield h
    subprocess.run(["umount", "-l", h.root], check=True)
    assert "damaged" not in h("verify").out.lower()
    h("rm", "-f", "live", "dead")


def test_what_is_there_can_be_read(failed, tmp_path):
    assert failed("ps", "-a", "--format", "{{.Names}}").out == "live\ndead\n"
    assert "busybox" in failed("images").out and "vol" in failed("volume", "ls").out
    assert "Containers" in failed("system", "df").out and failed("logs", "dead").out == "said\n"
    assert failed("inspect", "-f", "{{.Name}}", "dead").out == "/dead\n" and "A /new" in failed("diff", "dead").out
    info = failed("info").out
    assert "Running: 1" in info and "Read-only file system" in info and failed("network", "ls").code == 0
    failed("volume", "export", "-o", tmp_path / "vol.tar", "vol")
    failed("export", "-o", tmp_path / "root.tar", "dead")
    failed("cp", "dead:/data/x", tmp_path)
    assert (tmp_path / "x").read_text() == "x\n"


def test_images_can_be_saved(failed, tmp_path):
    failed("save", "-o", tmp_path / "image.tar", "busybox")
    (tmp_path / "other").mkdir()
    other = type(failed)(tmp_path / "other")
    assert "busybox" in other("load", "-i", tmp_path / "image.tar").out
    other("system", "reset", "--force")


def test_the_store_is_verified_and_not_repaired(failed):
    r = failed("verify")
    assert "Checked: " in r.out and "0 layers" not in r.out and "amaged" not in r.out
    assert "nothing can be repaired" in failed("verify", "--repair", code=1).err
    remount(failed, "rw")
    layout, text = failed.root / "oci-layout", (failed.root / "oci-layout").read_bytes()
    layout.write_text("{}")
    remount(failed, "ro")
    assert "oci-layout: is not what it should be" in failed("verify", code=1).out
    remount(failed, "rw")
    layout.write_bytes(text)


def test_what_runs_can_be_reached_and_stopped(failed):
    assert failed("exec", "live", "echo", "in").out == "in\n" and "sleep" in failed("top", "live").out
    failed("pause", "live")
    assert "(Paused)" in failed("ps").out
    failed("unpause", "live")
    assert failed("kill", "live").out == "live\n" and failed("wait", "live").out == "137\n"
    assert "Exited (137) Less than a second" in failed("ps", "-a", "--filter", "name=live").out


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
