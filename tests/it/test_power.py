"""A power cut at the instant of success: what a command confirmed is whole on a copy of the disk made right then."""
import hashlib
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from conftest import Hoy


@pytest.fixture
def disk(tmp_path):
    """An ext4 file system on a loop file of its own, mounted at base/mnt."""
    image, mount = tmp_path / "disk", tmp_path / "mnt"
    mount.mkdir()
    with open(image, "wb") as f:
        f.truncate(400 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, mount], capture_output=True, check=False).returncode:
        pytest.skip("needs a loop device")
    yield image, mount
    subprocess.run(["umount", "-l", mount], check=False)


def cut_and_look(image, tmp_path, look):
    """Copies the disk as it is now and calls look(mount point of the copy)."""
    copy, mount = tmp_path / "copy", tmp_path / "after"
    subprocess.run(["cp", "--sparse=always", image, copy], check=True)
    mount.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", copy, mount], check=True)
    try:
        look(mount)
    finally:
        subprocess.run(["umount", mount], check=True)


def many_files(path, count=3000):
    """A tar of count files whose content is known; {name: sha256}."""
    want = {}
    with tarfile.open(path, "w") as tar:
        for i in range(count):
            data = hashlib.sha256(str(i).encode()).hexdigest().encode() * (1 + i % 40)
            info = tarfile.TarInfo(f"d{i % 50}/f{i}")
            info.size = len(data)
            source = pathlib.Path(path.parent / "one")
            source.write_bytes(data)
            with open(source, "rb") as f:
                tar.addfile(info, f)
            want[info.name] = hashlib.sha256(data).hexdigest()
    return want


def check_layer(root, want):
    """Every file of the one layer below root is byte-exact, and every blob is what its name says."""
    layers = [d for d in (root / "layers").iterdir() if len(d.name) == 64]
    assert len(layers) == 1
    if (layers[0] / "tree").is_dir():
        for name, digest in want.items():
            assert hashlib.sha256((layers[0] / "tree" / name).read_bytes()).hexdigest() == digest, name
    else:  # its index is compared with one made again
        assert hashlib.sha256((layers[0] / "layer.tar").read_bytes()).hexdigest() == layers[0].name
        Hoy(root.parent)("verify", env={"HOY_ROOT": str(root)})
    for blob in (root / "blobs/sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def test_import(disk, tmp_path):
    image, mount = disk
    want = many_files(tmp_path / "many.tar")
    hoy = Hoy(tmp_path)
    hoy.root = mount / "root"
    hoy.env["HOY_ROOT"] = str(hoy.root)
    hoy("import", tmp_path / "many.tar", "many:1")

    def look(after):
        check_layer(after / "root", want)
        again = Hoy(tmp_path)
        again.env["HOY_ROOT"] = str(after / "root")
        assert "many" in again("images").out

    cut_and_look(image, tmp_path, look)
    hoy("system", "reset", "--force")


def test_pull(disk, tmp_path, registry):
    image, mount = disk
    want = many_files(tmp_path / "many.tar")
    name = f"{registry.host}/power/many:1"
    maker = Hoy(tmp_path / "maker")
    maker("import", tmp_path / "many.tar", name)
    maker("push", name)
    hoy = Hoy(tmp_path)
    hoy.root = mount / "root"
    hoy.env["HOY_ROOT"] = str(hoy.root)
    hoy("pull", name)
    cut_and_look(image, tmp_path, lambda after: check_layer(after / "root", want))
    hoy("system", "reset", "--force")
    maker("system", "reset", "--force")


def test_a_full_disk_is_one_error_and_nothing_left(tmp_path):
    """64 MiB of disk, 80 MiB of image."""
    image, mount = tmp_path / "small", tmp_path / "mnt"
    mount.mkdir()
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, mount], capture_output=True, check=False).returncode:
        pytest.skip("needs a loop device")
    try:
        big = tmp_path / "big"
        big.write_bytes(os.urandom(80 << 20))
        subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "big.tar", "big"], check=True)
        hoy = Hoy(tmp_path)
        hoy.root = mount / "root"
        hoy.env["HOY_ROOT"] = str(hoy.root)
        r = hoy("import", tmp_path / "big.tar", "big:1", code=1)
        assert "No space left" in r.err and len(r.err.strip().splitlines()) == 1
        assert hoy("images", "-q").out == "" and not os.listdir(hoy.root / "tmp")
        used = shutil.disk_usage(mount).used
        assert used < 8 << 20
        hoy("system", "reset", "--force")
    finally:
        subprocess.run(["umount", "-l", mount], check=False)
