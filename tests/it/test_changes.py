"""diff, export and commit: what a container changed, and that mount points are no change."""
import io
import json
import resource
import subprocess
import tarfile

import pytest

from conftest import until


@pytest.fixture
def changed(hoy):
    hoy("run", "--name", "base", "busybox", "sh", "-c", "mkdir -p /data/old /data/gone /keep; echo 1 >/data/old/f; echo 2 >/data/f; echo 3 >/g")
    hoy("commit", "base", "based")
    hoy("rm", "base")
    yield hoy
    hoy.remove_all()
    hoy("rmi", "based")


def raw(hoy, *args):
    return subprocess.run([hoy.binary, *args], env=hoy.env, stdout=subprocess.PIPE, check=True).stdout


def members(data):
    return {m.name.removeprefix("./").rstrip("/"): m for m in tarfile.open(fileobj=io.BytesIO(data))}


def test_diff(changed):
    hoy = changed
    script = """echo x >/data/f; echo new >/data/new; rm /g; rm -r /data/old; mkdir /data/old; echo y >/data/old/g
                rmdir /data/gone; ln -s x /link; mkfifo /pipe; chmod 700 /keep"""
    hoy("run", "--name", "ctr", "based", "sh", "-c", script)
    want = ["C /data", "C /data/f", "D /data/gone", "A /data/new", "C /data/old", "D /data/old/f", "A /data/old/g", "D /g", "C /keep",
            "A /link", "A /pipe"]
    assert hoy("diff", "ctr").out.splitlines() == want
    assert hoy("container", "diff", "ctr").out.splitlines() == want


def test_nothing_changed(changed):
    hoy = changed
    hoy("run", "-d", "--name", "ctr", "--init", "based", "sleep", "100")
    assert hoy("diff", "ctr").out == ""
    hoy("exec", "ctr", "touch", "/keep/f")
    assert hoy("diff", "ctr").out == "C /keep\nA /keep/f\n"


def test_commit_has_no_mount_points(changed):
    hoy = changed
    hoy("run", "--name", "ctr", "--init", "based", "sh", "-c", "mkdir -p /etc; echo x >/only")
    hoy("commit", "ctr", "next")
    with tarfile.open(fileobj=io.BytesIO(raw(hoy, "save", "next"))) as archive:
        index = json.load(archive.extractfile("manifest.json"))
        last = archive.extractfile(index[0]["Layers"][-1]).read()
    assert list(members(last)) == ["only"]
    hoy("rmi", "next")


def test_export(changed, tmp_path):
    hoy = changed
    hoy("run", "-d", "--name", "ctr", "-v", f"{tmp_path}:/mounted", "based", "sh", "-c", "rm /g; echo x >/data/f; echo z >/mounted/m; sleep 100")
    until((tmp_path / "m").exists)
    data = raw(hoy, "export", "ctr")
    have = members(data)
    assert "g" not in have and have["data/f"].size == 2 and "bin/busybox" in have and "mounted/m" not in have
    out = tmp_path / "out.tar"
    hoy("export", "-o", out, "ctr")
    assert out.read_bytes() == data and out.stat().st_mode & 0o777 == 0o600
    hoy("import", out, "again")
    assert hoy("run", "--rm", "again", "cat", "/data/f").out == "x\n"
    hoy("rmi", "again")


def test_output_that_cannot_be_written(changed):
    hoy = changed
    hoy("run", "--name", "ctr", "based", "touch", "/x")
    for command in (["diff", "ctr"], ["ps", "-a"], ["export", "ctr"], ["version"]):
        with open("/dev/full", "w", encoding="ascii") as full:
            r = subprocess.run([hoy.binary, *command], env=hoy.env, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert r.returncode == 1 and r.stderr.count("No space left on device") == 1


def test_bad_output_paths(changed, tmp_path):
    hoy = changed
    hoy("create", "--name", "ctr", "based", "true")
    for command in (["export", "-o", "/dev/null", "ctr"], ["save", "-o", "/dev/null", "based"], ["save", "-o", tmp_path, "based"]):
        assert "must be a regular file" in hoy(*command, code=1).err
    assert "is in no directory that exists" in hoy("export", "-o", tmp_path / "no/x", "ctr", code=1).err
    for command in ("diff", "export"):
        assert "No such container: nosuch" in hoy(command, "nosuch", code=1).err
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_cut_off_leaves_no_file(changed, tmp_path):
    """Killed in the middle: nothing is there, and what was there before is as it was."""
    hoy = changed
    hoy("create", "--name", "ctr", "based", "true")
    out = tmp_path / "out/image.tar"
    out.parent.mkdir()
    out.write_text("old")
    p = hoy.popen("export", "-o", out, "ctr", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
    assert p.wait(60) != 0
    assert [x.name for x in out.parent.iterdir()] == ["image.tar"] and out.read_text() == "old"
    hoy("export", "-o", out, "ctr")
    assert [x.name for x in out.parent.iterdir()] == ["image.tar"] and out.stat().st_size > 4096
