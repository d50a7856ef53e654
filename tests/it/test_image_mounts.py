"""--mount type=image: the files of an image, read only, wherever the container wants them."""
import json

import pytest


@pytest.fixture
def files(hoy, tmp_path):
    """An image of two layers, one file of which hides another."""
    (tmp_path / "one").write_text("one\n")
    (tmp_path / "two").write_text("two\n")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY one /data/f\nCOPY two /data/f\nCOPY one /top\n")
    hoy("build", "-q", "-t", "files", tmp_path)
    yield "files"
    hoy.any("rmi", "files")


def run(hoy, *args, code=0):
    return hoy("run", "--rm", "--network", "none", *args, code=code)


def test_files_of_an_image(hoy, files):
    mount = f"type=image,src={files},dst=/img"
    assert run(hoy, "--mount", mount, "busybox", "cat", "/img/data/f", "/img/top").out == "two\none\n"
    assert "Read-only file system" in run(hoy, "--mount", mount, "busybox", "touch", "/img/x", code=1).err
    assert run(hoy, "--mount", mount + ",image-subpath=data", "busybox", "ls", "/img").out == "f\n"
    assert run(hoy, "--mount", mount + "/a,image-subpath=data/f", "busybox", "cat", "/img/a").out == "two\n"
    assert "no-such" in run(hoy, "--mount", mount + ",image-subpath=no-such", "busybox", "true", code=125).err
    assert run(hoy, "--mount", "type=image,src=busybox,dst=/tools", "busybox", "/tools/bin/busybox", "echo", "runs").out == "runs\n"
    assert run(hoy, "--read-only", "--mount", mount.replace("/img", "/tmp/deep/er"), "busybox", "cat", "/tmp/deep/er/top").out == "one\n"


def test_an_image_that_is_mounted_stays(hoy, files):
    hoy("run", "-d", "--name", "user", "--restart", "on-failure:2", "--network", "none", "--mount", f"type=image,src={files},dst=/img",
        "busybox", "sh", "-c", "cat /img/data/f; exit 1")
    assert hoy("wait", "user").out == "1\n"
    assert hoy("logs", "user").out == "two\n" * 3  # also when the keeper starts it again, with nobody there
    assert "is using" in hoy("rmi", files, code=1).err
    hoy("image", "prune", "-a", "-f")
    hoy("rmi", "-f", files)
    hoy("image", "prune", "-a", "-f")
    assert run(hoy, "--volumes-from", "user", "busybox", "cat", "/img/data/f").out == "two\n"
    hoy("start", "user")
    hoy("wait", "user")
    assert hoy("logs", "user").out == "two\n" * 6
    mount = json.loads(hoy("inspect", "-f", "{{json .Mounts}}", "user").out)[0]
    assert (mount["Type"], mount["Source"], mount["Destination"], mount["RW"]) == ("image", files, "/img", False)
    hoy("verify")
    hoy("rm", "user")


def test_what_cannot_be_mounted(hoy):
    for spec, words in (("type=image,src=nosuch,dst=/m", "No such image: nosuch"), ("type=image,dst=/m", "Source must not be empty"),
                        ("type=image,src=busybox,dst=/m,volume-nocopy", "cannot mix"), ("type=bind,src=/,dst=/m,image-subpath=x", "cannot mix")):
        assert words in run(hoy, "--mount", spec, "busybox", "true", code=125).err
