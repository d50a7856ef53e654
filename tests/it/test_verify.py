"""hoy verify: a byte flipped anywhere in the store is told and mended; damage met at use names the repair."""
import json
import os
import pathlib
import random
import shutil
import subprocess

import pytest

from conftest import Registry
from liar import INDEX, Image, Liar, digest as digest_of


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


def become(path, what):
    """A rotten inode may be of any kind."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
        (path / "x").write_text("x")
    elif what == "link":
        path.symlink_to("/etc")
    else:
        path.write_text("x")


@pytest.mark.parametrize("driver", ["erofs", "overlay"])
@pytest.mark.parametrize("what", ["pipe", "directory", "link"])
def test_other_kinds_of_file(pulled, driver, what):
    hoy, name = pulled
    hoy.env["HOY_STORAGE_DRIVER"] = driver
    hoy("rmi", name)
    hoy("pull", "-q", name)
    digest, doc = manifest_of(hoy, name)
    for target in (digest, doc["layers"][0]["digest"]):
        become(blob(hoy.root, target), what)
        mended(hoy, target)
    for entry in sorted(p.name for p in layer_dir(hoy).iterdir()):
        become(layer_dir(hoy) / entry, "file" if entry == "tree" else what)
        mended(hoy, f"{name}: layer sha256:")
    if what != "directory":
        become(layer_dir(hoy), what)
        mended(hoy, f"{name}: layer sha256:")
    assert hoy("run", "--rm", name, "echo", "whole").out == "whole\n"


def test_a_layer_of_nobody(pulled):
    """It goes, whatever it is."""
    hoy, name = pulled
    (hoy.root / "layers" / ("b" * 64)).mkdir()
    mended(hoy, "layer sha256:bbbbbbbbbbbb: / is missing")
    assert len(os.listdir(hoy.root / "layers")) == 1
    assert hoy("run", "--rm", name, "echo", "whole").out == "whole\n"


def test_what_cannot_be_replaced_hinders_nothing_else(pulled):
    hoy, name = pulled
    digest, doc = manifest_of(hoy, name)
    stuck = blob(hoy.root, doc["layers"][0]["digest"])
    for target in (digest, stuck.name):
        flip(blob(hoy.root, target))
    if subprocess.run(["chattr", "+i", stuck], check=False, capture_output=True).returncode:
        pytest.skip("needs a file system with immutable files")
    try:
        r = hoy("verify", "--repair", code=1)
        assert f"{stuck.name}: not repaired: " in r.out and "Operation not permitted" in r.out and "Damaged: 2, repaired: 1" in r.out
    finally:
        subprocess.run(["chattr", "-i", stuck], check=True)
    mended(hoy)


def test_files_of_containers_and_volumes(fresh_hoy, busybox_tar):
    """A kill between a container's files and its record, or a disk that lost them: told, and rm removes the rest."""
    fresh_hoy("import", busybox_tar, "busybox")
    fresh_hoy("volume", "create", "lost")
    container = fresh_hoy("create", "--name", "cut", "-v", "lost:/v", "-v", "/anonymous", "busybox", "true").out.strip()
    shutil.rmtree(fresh_hoy.root / "containers" / container)
    shutil.rmtree(fresh_hoy.root / "volumes/lost")
    r = fresh_hoy("verify")
    assert f"container {container[:12]}: its files are gone: 'hoy rm {container[:12]}' removes the rest\n" in r.out
    assert "volume lost: its files are gone" in r.out and "Damaged" not in r.out
    assert "'hoy rm cut' removes the rest" in fresh_hoy("start", "cut", code=1).err
    assert fresh_hoy("rm", "-v", "cut").out == "cut\n"
    assert fresh_hoy("ps", "-aq").out == "" and fresh_hoy("volume", "ls", "-q").out == "lost\n"
    fresh_hoy("run", "--rm", "--name", "cut", "-v", "lost:/v", "busybox", "touch", "/v/x")
    assert "gone" not in fresh_hoy("verify").out


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


def build(hoy, base, tmp_path, name="built"):
    """An image of two layers more: COPY, RUN with a removal."""
    (tmp_path / "context").mkdir(exist_ok=True)
    (tmp_path / "context/data").write_bytes(random.randbytes(30000) + b"text\n" * 9000)
    (tmp_path / "context/Dockerfile").write_text(f"FROM {base}\nCOPY data /data\nRUN echo 1 > /made && rm /etc/group\n")
    hoy("build", "-q", "-t", name, tmp_path / "context")
    return manifest_of(hoy, f"/{name}:latest")


def test_what_no_registry_has(fresh_hoy, registry, busybox_tar, tmp_path):
    """A layer made here is made again from its tree. A header of a foreign tar is not to be had: it is told, all else stays usable,
    and the same import mends it."""
    random.seed(5)
    hoy = fresh_hoy
    hoy.env["HOY_STORAGE_DRIVER"] = "overlay"
    hoy("import", busybox_tar, "busybox")
    _, doc = build(hoy, "busybox", tmp_path)
    for layer in doc["layers"][1:]:
        for how in ("flipped", "gone", "short"):
            spoil(blob(hoy.root, layer["digest"]), how)
            mended(hoy, "built:latest: blob ")
    first = blob(hoy.root, doc["layers"][0]["digest"])
    content = first.read_bytes().index(b"root:x:0:0")
    for how, at in (("flipped", content), ("short", None)):
        flip(first, at) if how == "flipped" else spoil(first, how)
        mended(hoy, "built:latest: blob ")
    flip(first, 10)
    hoy("tag", "built", f"{registry.host}/damaged:1")
    assert "hoy verify --repair" in hoy("push", f"{registry.host}/damaged:1", code=1).err
    hoy("rmi", f"{registry.host}/damaged:1")
    before = first.read_bytes()
    r = hoy("verify", "--repair", code=1)
    assert "not repaired: nothing in the store has it" in r.out and "import, load or pull" in r.out and "still damaged" in r.err
    assert "built" in hoy("images").out and first.read_bytes() == before
    assert hoy("run", "--rm", "built", "cat", "/made").out == "1\n"
    hoy("import", busybox_tar, "again")
    assert "Damaged" not in hoy("verify").out


def test_one_file_with_two_names(fresh_hoy, busybox_tar, tmp_path):
    """erofs: the blob is the layer. Gone under one name it comes from the other; damaged it is told, until it is imported again."""
    hoy = fresh_hoy
    hoy.env["HOY_STORAGE_DRIVER"] = "erofs"
    if "storage driver erofs" in hoy("import", busybox_tar, "busybox", code=None).err:
        pytest.skip("needs EROFS mounts of files")
    _, doc = manifest_of(hoy, "/busybox:latest")
    path = blob(hoy.root, doc["layers"][0]["digest"])
    assert path.stat().st_nlink == 2
    path.unlink()
    mended(hoy, "busybox:latest: blob ")
    assert path.stat().st_nlink == 2
    flip(path, path.read_bytes().index(b"root:x:0:0"))
    assert "not repaired: nothing in the store has it" in hoy("verify", "--repair", code=1).out
    assert hoy("run", "--rm", "busybox", "cat", "/etc/group").out.startswith("root:x:0:\n")
    hoy("import", busybox_tar, "again")
    mended(hoy, "layer.tar")
    assert hoy("run", "--rm", "busybox", "head", "-c", "10", "/etc/passwd").out == "root:x:0:0"


def test_documents_of_images_made_here(fresh_hoy, busybox_tar, tmp_path):
    """Manifest and configuration have a copy in the database; a sweep meanwhile takes nothing of their image."""
    random.seed(7)
    hoy = fresh_hoy
    hoy("import", busybox_tar, "busybox")
    hoy("import", busybox_tar, "other")
    build(hoy, "busybox", tmp_path)
    hoy("run", "--network", "none", "--name", "box", "built", "sh", "-c", "echo 2 > /made")
    hoy("commit", "box", "committed")
    hoy("rm", "box")
    for name in ("busybox", "built", "committed"):
        digest, doc = manifest_of(hoy, f"/{name}:latest")
        for target in (digest, doc["config"]["digest"]):
            for how in ("flipped", "gone", "short"):
                spoil(blob(hoy.root, target), how)
                mended(hoy, f"{name}:latest: blob {target}: ")
    digest, doc = manifest_of(hoy, "/committed:latest")
    flip(blob(hoy.root, digest))
    flip(blob(hoy.root, doc["config"]["digest"]))
    hoy("rmi", "other")
    mended(hoy, "committed:latest: blob ")
    assert hoy("run", "--rm", "--network", "none", "committed", "cat", "/made").out == "2\n"


def test_the_image_of_a_container(fresh_hoy, busybox_tar):
    """It may have lost its names: its configuration is checked and mended all the same."""
    hoy = fresh_hoy
    hoy("import", busybox_tar, "busybox")
    hoy("create", "--name", "box", "busybox", "true")
    config = manifest_of(hoy, "/busybox:latest")[1]["config"]["digest"]
    hoy("rmi", "-f", "busybox")
    for how in ("flipped", "gone"):
        spoil(blob(hoy.root, config), how)
        mended(hoy, f"blob {config}: ")
    hoy("commit", "box", "again")


@pytest.mark.parametrize("driver", ("erofs", "overlay"))
def test_compressed_again(fresh_hoy, busybox_tar, tmp_path, driver):
    """What hoy compressed it makes again, byte for byte, without the registry."""
    random.seed(8)
    hoy, server = fresh_hoy, Registry(tmp_path)
    hoy.env["HOY_STORAGE_DRIVER"] = driver
    if hoy("import", busybox_tar, "busybox", code=None).code:
        pytest.skip(f"needs the storage driver {driver}")
    build(hoy, "busybox", tmp_path)
    wanted = [(f"{server.host}/a:{i}", options) for i, options in enumerate((
        [], ["--compression-format", "zstd"], ["--compression-format", "gzip", "--compression-level", "9"],
        ["--compression-format", "zstd", "--compression-level", "12"]))]
    for name, options in wanted:
        hoy("tag", "built", name)
        hoy("push", "-q", *options, name)
    hoy("rmi", "built", "busybox", *(name for name, _ in wanted))
    hoy("builder", "prune", "-af")
    for name, _ in wanted:
        hoy("pull", "-q", name)
    server.stop()
    for name, options in wanted:
        doc = manifest_of(hoy, name)[1]
        path = blob(hoy.root, doc["layers"][1]["digest"])  # not the first: the overlay driver keeps no foreign tar
        for how in ("flipped", "short") if "--compression-level" in options else ("flipped", "gone", "short"):
            spoil(path, how)
            mended(hoy, f"{name}: blob ")
    if driver == "erofs":
        flip(blob(hoy.root, manifest_of(hoy, wanted[0][0])[1]["layers"][0]["digest"]))
        mended(hoy)


def test_from_where_it_was(fresh_hoy, registry, busybox_tar, tmp_path):
    """A registry that a blob came from, or went to, gives it also when no image here has that name any more."""
    random.seed(9)
    hoy, base, away = fresh_hoy, f"{registry.host}/where/base:1", f"{registry.host}/where/pushed:1"
    hoy("import", busybox_tar, base)
    hoy("push", "-q", base)
    hoy("rmi", base)
    hoy("pull", "-q", base)
    _, doc = build(hoy, base, tmp_path, "aaa")
    flip(blob(hoy.root, doc["layers"][0]["digest"]))
    mended(hoy, f"blob {doc['layers'][0]['digest']}: ")  # by the base's name
    hoy("rmi", base)
    flip(blob(hoy.root, doc["layers"][0]["digest"]))
    mended(hoy, "aaa:latest: blob ")
    hoy("tag", "aaa", away)
    hoy("push", "-q", away)
    hoy("rmi", away)
    path = blob(hoy.root, doc["layers"][1]["digest"])
    flip(path, path.stat().st_size // 2)
    mended(hoy, "aaa:latest: blob ")
    assert hoy("run", "--rm", "--network", "none", "aaa", "cat", "/made").out == "1\n"


@pytest.mark.parametrize("extra", (0, 100000))
def test_an_index(fresh_hoy, busybox_tar, extra):
    """What a name of several platforms stands for is checked, too; a long one has no copy, and comes from the registry."""
    amd, liar = Image([busybox_tar.read_bytes()]), Liar()
    arm = Image([b"arm"], arch="arm64")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "annotations": {"x": "x" * extra},
                        "manifests": [arm.descriptor("arm64"), amd.descriptor("amd64")]}).encode()
    liar.image.blobs = {**amd.blobs, **arm.blobs}
    for body in (amd.manifest(), arm.manifest(), index):
        liar.more[digest_of(body)] = body
    liar.routes["/v2/x/manifests/latest"] = (200, {"Content-Type": INDEX}, index)
    name = f"{liar.host}/x"
    try:
        fresh_hoy("pull", "-q", name)
        if not extra:
            liar.stop()
        flip(blob(fresh_hoy.root, digest_of(index)))
        mended(fresh_hoy, f"{name}:latest: blob {digest_of(index)}")
    finally:
        if extra:
            liar.stop()


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


def test_a_database_that_is_gone(fresh_hoy, busybox_tar):
    """A store that holds images is no new one: nothing is swept, and their names come from index.json. Twice, as after a kill."""
    fresh_hoy("import", busybox_tar, "kept:1")
    fresh_hoy("tag", "kept:1", "kept:2")
    container = fresh_hoy("run", "-d", "--network", "none", "-v", "data:/data", "kept:1", "sh", "-c", "echo mine >/mine; echo data >/data/f").out.strip()
    fresh_hoy("wait", container)
    before = sorted(os.listdir(fresh_hoy.root / "blobs/sha256"))
    for name in os.listdir(fresh_hoy.root / "meta"):
        (fresh_hoy.root / "meta" / name).unlink()
    for meta in ("empty", "missing"):
        if meta == "missing":
            (fresh_hoy.root / "meta").rmdir()
        for command in (["ps", "-a"], ["image", "prune", "-af"], ["verify"]):
            r = fresh_hoy(*command, code=1)
            assert "the database is gone, and its log: 'hoy verify --repair' makes one again from index.json" in r.err, r
    assert sorted(os.listdir(fresh_hoy.root / "blobs/sha256")) == before
    (fresh_hoy.root / "meta.new").mkdir()
    r = fresh_hoy("verify", "--repair")
    assert "made again from index.json with 2 names of images" in r.out and f"volume data: its files are in {fresh_hoy.root}/volumes/data" in r.out
    assert (fresh_hoy.root / "containers.lost" / container / "upper/mine").read_text() == "mine\n"
    assert (fresh_hoy.root / "volumes/data/_data/f").read_text() == "data\n"
    assert "Damaged" not in fresh_hoy("verify").out and sorted(os.listdir(fresh_hoy.root / "blobs/sha256")) == before
    assert sorted(fresh_hoy("images", "--format", "{{.Repository}}:{{.Tag}}").out.split()) == ["kept:1", "kept:2"]
    assert fresh_hoy("run", "--rm", "--network", "none", "kept:2", "echo", "whole").out == "whole\n"


def test_repairs_at_once(pulled):
    """They wait for one another; a verify beside them disturbs none."""
    hoy, name = pulled
    for _ in range(3):
        digest, doc = manifest_of(hoy, name)
        for target in (digest, doc["config"]["digest"], doc["layers"][0]["digest"]):
            flip(blob(hoy.root, target))
        flip(next(f for f in layer_dir(hoy).rglob("*") if f.is_file() and not f.is_symlink() and f.stat().st_size))
        running = [hoy.popen("verify", *how, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for how in 2 * [["--repair"], ["--repair"], []]]
        told = [p.communicate(timeout=120)[0] for p in running]
        assert [p.returncode for p, how in zip(running, 2 * [1, 1, 0]) if how] == [0, 0, 0, 0], told
        assert "Damaged" not in hoy("verify").out
    assert hoy("run", "--rm", name, "echo", "whole").out == "whole\n"


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
