"""cp: what docker's does with links, archives and names, and nothing that ends where nobody sees it."""
import io
import os
import subprocess
import tarfile

import pytest

from conftest import BUILD


@pytest.fixture
def tree(tmp_path):
    """Some files of the host."""
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/f").write_text("hi\n")
    (tmp_path / "d/e/g").write_text("low\n")
    (tmp_path / "d/l").symlink_to("f")
    os.chown(tmp_path / "d/f", 5, 6)
    os.chmod(tmp_path / "d/f", 0o4755)
    return tmp_path


@pytest.fixture
def box(hoy):
    """A running container."""
    hoy("run", "-d", "--network", "none", "--name", "box", "--stop-signal", "KILL", "busybox", "sleep", "100")
    hoy("exec", "box", "sh", "-c", "ln -s /etc/passwd /abs; ln -s ../../../etc/passwd /up; ln -s etc /dir; mkfifo /fifo")
    return hoy


def names(hoy, source, *flags):
    """What cp writes to standard output."""
    r = subprocess.run([hoy.binary, "cp", *flags, source, "-"], env=hoy.env, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(r.stdout)) as tar:
        return sorted(m.name for m in tar)


def inside(hoy, name, script):
    """What a shell in the container prints."""
    return hoy("exec", name, "sh", "-c", script).out


def test_archives_have_the_name_of_what_was_asked_for(box):
    assert names(box, "box:/etc/group") == ["group"]
    assert names(box, "box:/dir") == ["dir"]
    got = names(box, "box:/etc")
    assert "etc" in got and "etc/group" in got and names(box, "box:/etc/") == got
    assert "group" in names(box, "box:/etc/.") and not {"etc/group", "bin/sh"} - set(names(box, "box:/"))
    assert names(box, "box:/up", "-L") == ["passwd"]


def test_links_are_copied_or_followed(box, tmp_path):
    box("cp", "box:/abs", tmp_path)
    assert os.readlink(tmp_path / "abs") == "/etc/passwd"
    for name in ("abs", "up"):
        box("cp", "-L", f"box:/{name}", tmp_path / f"{name}-file")
        assert (tmp_path / f"{name}-file").read_text().startswith("root:x:0:0:root:/root:/bin/sh\nworker:")
    box("cp", "-L", "box:/dir", tmp_path / "dir")
    assert (tmp_path / "dir/group").is_file()
    box("cp", "box:/fifo", tmp_path)
    assert (tmp_path / "fifo").is_fifo()
    box("cp", "box:/etc/../../..", tmp_path / "top")
    assert (tmp_path / "top/etc/group").is_file() and not (tmp_path / "top/boot").exists()


def test_what_a_target_link_leads_to_is_written(box, tree):
    box("cp", tree / "d/f", "box:/up")
    assert inside(box, "box", "readlink /up; cat /etc/passwd") == "../../../etc/passwd\nhi\n"


def test_owners(box, tree):
    box("cp", "-a", tree / "d/f", "box:/with")
    box("cp", "-a", tree / "d", "box:/all")
    box("cp", tree / "d/f", "box:/without")
    inside(box, "box", "mkdir -p /there/d; echo > /there/d/own; chown 7:7 /there/d/own")
    box("cp", tree / "d", "box:/there")
    box("cp", f"{tree}/d/.", "box:/there")
    assert inside(box, "box", "stat -c '%u:%g %a' /with /all/f /without /there/d/f /there/f /there/d/own").split("\n")[:6] == [
        "5:6 4755", "5:6 4755", "0:0 755", "0:0 755", "0:0 755", "7:7 644"]


def test_a_file_that_is_mounted_is_written_into(box, tree):
    box("cp", tree / "d/f", "box:/etc/hostname")
    assert inside(box, "box", "cat /etc/hostname; grep -c ' /etc/hostname ' /proc/mounts") == "hi\n1\n"


def test_holes_attributes_and_long_names(box, tmp_path):
    path = tmp_path / ("n" * 255)
    with open(path, "wb") as f:
        f.truncate(1 << 30)
        f.seek(1 << 20)
        f.write(b"x")
    os.setxattr(path, "user.k", b"v\0w")
    box("cp", path, "box:/")
    assert inside(box, "box", "du -k /n* | cut -f1").strip() in ("4", "8")
    (tmp_path / "back").mkdir()
    box("cp", f"box:/{path.name}", tmp_path / "back")
    back = tmp_path / "back" / path.name
    assert back.stat().st_size == 1 << 30 and back.stat().st_blocks < 64 and os.getxattr(back, "user.k") == b"v\0w"


def test_many_at_once_and_what_a_killed_one_left(box, tmp_path):
    inside(box, "box", "mkdir -p /many/.hoy-cp-0; echo half > /many/.hoy-cp-0/f3")
    for i in range(12):
        (tmp_path / f"f{i}").write_text(f"{i}\n" * 50000)
    running = [box.popen("cp", tmp_path / f"f{i}", "box:/many/") for i in range(12)]
    assert [p.wait() for p in running] == [0] * 12
    assert inside(box, "box", "ls -A /many | wc -l; cat /many/f3 | sort -u; wc -l < /many/f11").split() == ["12", "3", "50000"]


def test_files_of_the_kernel_have_content(box, tmp_path):
    box("cp", "box:/proc/1/cmdline", tmp_path)
    assert (tmp_path / "cmdline").read_bytes() == b"sleep\x00100\x00"


@pytest.mark.parametrize("source,target,text", [
    ("d/f", "box:/nodir/", "destination directory"), ("d/f/", "box:/", "is not a directory"),
    ("d/f", "box:/etc/group/", "is not a directory"), ("d", "box:/etc/group", "cannot copy directory to file"),
    ("d/f", "box:/etc/group/x", "Not a directory"), ("nothing", "box:/", "Could not find the file")])
def test_what_is_refused(box, tree, source, target, text):
    assert text in box("cp", f"{tree}/{source}", target, code=1).err
    assert not [p for p in (tree / "d").iterdir() if p.name.startswith(".hoy")]


@pytest.mark.parametrize("stopped", [False, True])
def test_volumes_of_a_container_that_does_not_run(hoy, tree, stopped):
    """Created or exited: what is copied to a volume's place is in the volume, not below it."""
    hoy("volume", "create", "cpv")
    args = ["--network", "none", "--name", "dead", "-v", "cpv:/deep/vol", "-v", f"{tree}/d:/bound:ro", "-v", f"{tree}/d/f:/etc/one",
            "--mount", "type=image,src=busybox,dst=/img", "--tmpfs", "/mem", "busybox", "true"]
    hoy("run" if stopped else "create", *args)
    mounts = open("/proc/self/mountinfo", encoding="ascii").read()
    hoy("cp", tree / "d/f", "dead:/deep/vol/new")
    assert (hoy.root / "volumes/cpv/_data/new").read_text() == "hi\n"
    assert "deep/vol/new" in names(hoy, "dead:/deep") and "bound/e/g" in names(hoy, "dead:/bound")
    assert names(hoy, "dead:/etc/one") == ["one"] and "img/bin/busybox" in names(hoy, "dead:/img")
    for place in ("/bound/x", "/img/x"):
        assert "Read-only file system" in hoy("cp", tree / "d/f", f"dead:{place}", code=1).err
    assert open("/proc/self/mountinfo", encoding="ascii").read() == mounts
    assert not [line for line in hoy("diff", "dead").out.splitlines() if line.endswith(("new", "/x"))]
    assert hoy("start", "dead").out == "dead\n"
    hoy("rm", "-f", "dead")
    hoy("volume", "rm", "cpv")


def test_a_volume_that_only_a_running_container_has(hoy, tmp_path):
    (tmp_path / "x").write_text("x")
    hoy("volume", "create", "-o", "type=nfs", "-o", "o=addr=127.0.0.1", "-o", "device=:/x", "far")
    hoy("create", "--name", "dead", "-v", "far:/far:nocopy", "busybox", "true")
    assert "while the container runs only" in hoy("cp", tmp_path / "x", "dead:/far/", code=1).err
    hoy("rm", "dead")
    hoy("volume", "rm", "far")


def test_a_read_only_root(hoy, tree):
    hoy("create", "--name", "ro", "--read-only", "-v", "cpv:/v", "busybox", "true")
    assert "Read-only file system" in hoy("cp", tree / "d/f", "ro:/x", code=1).err
    hoy("cp", tree / "d/f", "ro:/v/")
    assert (hoy.root / "volumes/cpv/_data/f").read_text() == "hi\n"
    hoy("rm", "ro")
    hoy("create", "--name", "ro", "--read-only", "busybox", "true")
    assert "Read-only file system" in hoy("cp", tree / "d/f", "ro:/x", code=1).err
    hoy("rm", "ro")
    hoy("volume", "rm", "cpv")


def test_all_of_it_in_a_user_namespace(tmp_path, busybox_tar):
    """What an ordinary user has: no right on the host's mounts, devices and tables."""
    script = f"""
        set -e
        hoy import --change 'CMD ["sh"]' {busybox_tar} busybox
        hoy create --network none --name box -v data:/data busybox
        echo low | tee low > /dev/null
        hoy cp low box:/data/new
        hoy cp low box:/etc/
        cat $HOY_ROOT/volumes/data/_data/new
        hoy cp box:/data - | tar t
        hoy export box | tar t etc/low
        hoy diff box
        hoy system footprint > /dev/null
        hoy system reset --force
        [ -e $HOY_ROOT ] || echo gone
    """
    env = dict(os.environ, HOY_ROOT=str(tmp_path / "root"), HOY_RUN=str(tmp_path / "run"), HOME=str(tmp_path),
               PATH=f"{BUILD}/src/main:{os.environ['PATH']}")
    r = subprocess.run(["unshare", "-U", "-m", "--map-root-user", "sh", "-c", script], env=env, cwd=tmp_path, text=True,
                       capture_output=True, timeout=300, check=False)
    assert r.returncode == 0, r.stderr
    assert r.stdout.splitlines()[2:] == ["low", "data/", "data/new", "etc/low", "A /data", "C /etc", "A /etc/low", "gone"]
