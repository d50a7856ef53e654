"""hoy verify: a byte flipped anywhere in the store is told and mended; damage met at use names the repair."""
import json
import os
import pathlib
import random

import pytest

from conftest import Registry


def blob(root, digest):
    """The file of a blob."""
    return pathlib.Path(root, "blobs/sha256", digest.removeprefix("sha256:"))


def flip(path, at=None):
    """Changes one byte of a file in place and keeps its times, as a disk does that rots."""
    st = os.stat(path)
    with open(path, "r+b") as f:
        at = random.randrange(st.st_size) if at is None else at
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 0x40]))
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def manifest_of(hoy, name):
    """(digest, document) of the manifest that index.json names so."""
    index = json.loads((hoy.root / "index.json").read_text())
    digest = next(m["digest"] for m in index["manifests"]
                  if m.get("annotations", {}).get("org.opencontainers.image.ref.name", "").endswith(name))
    return digest, json.loads(blob(hoy.root, digest).read_text())


@pytest.fixture
def pulled(fresh_hoy, registry, busybox_tar):
    """hoy with busybox as it comes from a registry; (hoy, name)."""
    random.seed(4)
    name = f"{registry.host}/verify/busybox:1"
    fresh_hoy("import", busybox_tar, name)
    fresh_hoy("push", name)
    fresh_hoy("rmi", name)
    fresh_hoy("pull", name)
    assert "Damaged" not in fresh_hoy("verify").out
    return fresh_hoy, name


def mended(hoy, *told):
    """verify tells it, --repair mends it, verify is content, and nothing is left aside."""
    r = hoy("verify", code=1)
    assert "hoy verify --repair" in r.err
    for text in told:
        assert text in r.out, r
    r = hoy("verify", "--repair")
    assert "repaired: " in r.out
    assert "Damaged" not in hoy("verify").out
    assert not [n for n in os.listdir(hoy.root / "blobs/sha256") if len(n) != 64] and not os.listdir(hoy.root / "tmp")


def spoil(path, how):
    """Damages a file in one of three ways."""
    if how == "flipped":
        flip(path)
    elif how == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size - 1)


def test_blobs(pulled):
    hoy, name = pulled
    digest, doc = manifest_of(hoy, name)
    for target in (digest, doc["config"]["digest"], doc["layers"][0]["digest"]):
        for how in ("flipped", "gone", "short"):
            spoil(blob(hoy.root, target), how)
            mended(hoy, f"{name}: blob {target}: ")
    assert hoy("run", "--rm", name, "echo", "whole").out == "whole\n"


def layer_dir(hoy):
    """The directory of the one layer."""
    dirs = [d for d in (hoy.root / "layers").iterdir() if len(d.name) == 64]
    assert len(dirs) == 1
    return dirs[0]


def test_every_file_of_a_layer(pulled):
    """Whatever the driver keeps of a layer, a byte of it flipped is found and mended."""
    hoy, name = pulled
    files = sorted(f for f in layer_dir(hoy).rglob("*") if f.is_file() and not f.is_symlink() and f.stat().st_size)
    for path in random.sample(files, min(len(files), 4)):
        flip(path)
        mended(hoy, f"{name}: layer sha256:")
    assert hoy("run", "--rm", name, "echo", "whole").out == "whole\n"


def test_layers_that_lack_something(pulled):
    hoy, name = pulled
    hoy.env["HOY_STORAGE_DRIVER"] = "overlay"
    hoy("rmi", name)
    hoy("pull", "-q", name)
    tree = layer_dir(hoy) / "tree"
    (tree / "bin/busybox").chmod(0o700)
    (tree / "etc/passwd").unlink()
    (tree / "etc/evil").write_text("x")
    r = hoy("verify", name, code=1)
    for line in ("bin/busybox mode is 0700, not 0755", "etc/passwd is missing", "etc/evil is not of the layer"):
        assert line in r.out
    mended(hoy)


def test_records_and_index(pulled):
    hoy, name = pulled
    before = (hoy.root / "index.json").read_bytes()
    flip(hoy.root / "index.json")
    mended(hoy, "index.json")
    assert (hoy.root / "index.json").read_bytes() == before
    (hoy.root / "index.json").unlink()
    mended(hoy, "index.json")
    flip(hoy.root / "oci-layout")
    mended(hoy, "oci-layout")
    assert hoy("run", "--rm", name, "echo", "whole").out == "whole\n"


def test_what_no_registry_has(fresh_hoy, registry, busybox_tar, tmp_path):
    """A layer made here is made again from its tree; an imported one is not to be had: it is told and left as it is."""
    random.seed(5)
    fresh_hoy.env["HOY_STORAGE_DRIVER"] = "overlay"  # the erofs driver has the blob itself, and no tree
    fresh_hoy("import", busybox_tar, "busybox")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo 1 > /made\n")
    fresh_hoy("build", "-q", "-t", "built", tmp_path)
    _, doc = manifest_of(fresh_hoy, "/built:latest")
    flip(blob(fresh_hoy.root, doc["layers"][1]["digest"]))
    mended(fresh_hoy, "built:latest: blob ")
    flip(blob(fresh_hoy.root, doc["layers"][0]["digest"]), 1000)
    fresh_hoy("tag", "built", f"{registry.host}/damaged:1")
    assert "hoy verify --repair" in fresh_hoy("push", f"{registry.host}/damaged:1", code=1).err
    fresh_hoy("rmi", f"{registry.host}/damaged:1")
    hash_before = blob(fresh_hoy.root, doc["layers"][0]["digest"]).read_bytes()
    r = fresh_hoy("verify", "--repair", code=1)
    assert "not repaired: nothing in the store has it" in r.out and "import, load or build" in r.out and "still damaged" in r.err
    assert "built" in fresh_hoy("images").out
    assert blob(fresh_hoy.root, doc["layers"][0]["digest"]).read_bytes() == hash_before
    assert fresh_hoy("run", "--rm", "built", "cat", "/made").out == "1\n"


def test_a_layer_in_use_waits(pulled):
    hoy, name = pulled
    hoy("run", "-d", "--name", "user", name, "sleep", "100")
    path = next(f for f in sorted(layer_dir(hoy).rglob("*")) if f.is_file() and not f.is_symlink() and f.stat().st_size > 1000)
    flip(path, 600)
    r = hoy("verify", "--repair", code=1)
    assert "runs on it: stop it and repair again" in r.out
    assert hoy("exec", "user", "echo", "on").out == "on\n"
    hoy("rm", "-f", "user")
    mended(hoy)


def test_damage_met_at_use_names_the_repair(pulled, tmp_path):
    hoy, name = pulled
    other = Registry(tmp_path)
    try:
        meet_damage(hoy, name, f"{other.host}/other:1", tmp_path)
    finally:
        other.stop()


def meet_damage(hoy, name, elsewhere, tmp_path):
    """Every use of a damaged blob ends with one error."""
    digest, doc = manifest_of(hoy, name)
    layer = blob(hoy.root, doc["layers"][0]["digest"])
    (tmp_path / "Dockerfile").write_text(f"FROM {name}\nRUN true\n")
    flip(layer)
    hoy("tag", name, elsewhere)
    for cmd in (["save", "-o", tmp_path / "x.tar", name], ["push", elsewhere]):
        r = hoy(*cmd, code=None)
        assert r.code != 0 and "hoy verify --repair" in r.err, r
    assert not (tmp_path / "x.tar").exists()
    hoy("rmi", elsewhere)
    mended(hoy)
    for target in (digest, doc["config"]["digest"]):
        path = blob(hoy.root, target)
        flip(path)
        for cmd in (["run", "--rm", name, "true"], ["build", tmp_path], ["save", "-o", tmp_path / "x.tar", name]):
            r = hoy(*cmd, code=None)
            assert r.code != 0 and "hoy verify --repair" in r.err, (cmd, r)
        mended(hoy)


def test_what_nobody_needs_goes(pulled):
    hoy, name = pulled
    stray = hoy.root / "blobs/sha256" / ("0" * 64)
    stray.write_text("stray")
    r = hoy("verify", code=1)
    assert "blob sha256:000" in r.out
    mended(hoy)
    assert not stray.exists()
    assert "No such image" in hoy("verify", "nothing", code=1).err


def everything(hoy):
    """What the database says."""
    return [hoy(*c).out for c in (
        ["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"], ["volume", "ls"], ["network", "ls", "--no-trunc"],
        ["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}}"])]


def test_the_database(fresh_hoy, busybox_tar):
    """A byte flipped anywhere in it, or in its log: told or without effect; afterwards everything is as it was."""
    random.seed(6)
    hoy = fresh_hoy
    hoy("import", busybox_tar, "busybox")
    for i in range(3):
        hoy("create", "--name", f"box{i}", "-v", f"vol{i}:/data", "busybox", "true")
        hoy("tag", "busybox", f"other:{i}")
    hoy("network", "create", "net")
    want, meta = everything(hoy), hoy.root / "meta"
    data, log = (meta / "data.mdb").read_bytes(), (meta / "log").read_bytes()
    found = 0
    for n in range(24):
        (meta / "data.mdb").write_bytes(data)
        (meta / "log").write_bytes(log)
        flip(meta / ("log" if n % 4 == 0 else "data.mdb"))
        if n == 20:
            (meta / "log").unlink()
        r = hoy("verify", code=None)
        assert r.code in (0, 1), r
        found += r.code
        hoy("verify", "--repair")
        assert "Damaged" not in hoy("verify").out
        assert everything(hoy) == want, n
        assert sorted(os.listdir(meta)) == ["data.mdb", "lock.mdb", "log"]
    assert found >= 4
    for spoilt in (data[:8192] + bytes(8192) + data[16384:], data[:12288], b""):
        (meta / "data.mdb").write_bytes(spoilt)
        (meta / "log").write_bytes(log)
        r = hoy("images", code=None)
        assert r.code and r.err.count("\n") == 1 and "hoy verify --repair" in r.err, r
        assert hoy("verify", code=1).err.count("\n") == 1
        hoy("verify", "--repair")
        assert everything(hoy) == want
    hoy("rm", "box0")
    (meta / "data.mdb").unlink()
    (meta / "log").unlink()
    (meta / "data.mdb").write_bytes(data[:12288])
    assert "no second copy" in hoy("verify", "--repair", code=1).err
