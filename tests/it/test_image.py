"""Images: import, list, tag, remove, save and load, transport through a registry, exchange with other tools."""
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import time

import pytest

from conftest import busybox_tree, until


def identity(hoy, name):
    """The id of an image."""
    return json.loads(hoy("inspect", name).out)[0]["Id"]


def test_list_tag_remove(fresh_hoy, busybox_tar):
    fresh_hoy("import", busybox_tar, "busybox:1")
    fresh_hoy("tag", "busybox:1", "other/name:2")
    out = fresh_hoy("images").out
    assert out.splitlines()[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert "other/name" in out
    r = fresh_hoy("rmi", "busybox:1").out
    assert "Untagged" in r and "Deleted" not in r
    assert "Deleted" in fresh_hoy("rmi", "other/name:2").out
    assert len(fresh_hoy("images", "-q").out.split()) == 0


def test_import_is_reproducible(fresh_hoy, busybox_tar):
    fresh_hoy("import", busybox_tar, "a")
    fresh_hoy("import", busybox_tar, "b")
    a, b = (json.loads(fresh_hoy("inspect", n).out)[0] for n in "ab")
    assert a["RootFS"] == b["RootFS"]


def test_save_and_load_keep_the_identity(fresh_hoy, busybox_tar, tmp_path):
    fresh_hoy("import", busybox_tar, "busybox:1")
    before = identity(fresh_hoy, "busybox:1")
    fresh_hoy("save", "-o", tmp_path / "image.tar", "busybox:1")
    names = tarfile.open(tmp_path / "image.tar").getnames()
    assert "manifest.json" in names and "oci-layout" in names
    fresh_hoy("rmi", "busybox:1")
    assert "busybox:1" in fresh_hoy("load", "-i", tmp_path / "image.tar").out
    assert identity(fresh_hoy, "busybox:1") == before
    assert fresh_hoy("run", "--rm", "busybox:1", "echo", "works").out == "works\n"


def test_save_names_everything_once(fresh_hoy, busybox_tar, tmp_path):
    """docker's archive has each tag once, however often and by whatever it is asked for."""
    fresh_hoy("import", busybox_tar, "busybox:1")
    fresh_hoy("tag", "busybox:1", "other")
    image = fresh_hoy("images", "-q", "busybox").out.strip()
    fresh_hoy("save", "-o", tmp_path / "image.tar", image, "busybox:1", "docker.io/library/busybox:1", "other", image, "busybox:1")
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert len(tar.getnames()) == len(set(tar.getnames()))
        manifest, index = json.load(tar.extractfile("manifest.json")), json.load(tar.extractfile("index.json"))
    assert [x["RepoTags"] for x in manifest] == [["busybox:1", "other:latest"]]
    assert [x["annotations"]["io.containerd.image.name"] for x in index["manifests"]] == [
        "docker.io/library/busybox:1", "docker.io/library/other:latest"]
    fresh_hoy("save", "-o", tmp_path / "image.tar", image, image)
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert len(json.load(tar.extractfile("index.json"))["manifests"]) == 1


def test_registry_round_trip(fresh_hoy, busybox_tar, registry):
    name = f"{registry.host}/round:trip"
    fresh_hoy("import", busybox_tar, name)
    before = identity(fresh_hoy, name)
    fresh_hoy("push", name)
    fresh_hoy("rmi", name)
    assert "Digest: sha256:" in fresh_hoy("pull", name).out
    assert identity(fresh_hoy, name) == before
    assert fresh_hoy("run", "--rm", name, "echo", "back").out == "back\n"


def test_skopeo_reads_the_store_and_what_was_pushed(fresh_hoy, busybox_tar, registry):
    name = f"{registry.host}/seen:1"
    fresh_hoy("import", busybox_tar, name)
    fresh_hoy("push", name)
    seen = json.loads(subprocess.run(["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"], check=True,
                                     capture_output=True, text=True).stdout)
    assert seen["Architecture"] == "amd64" and len(seen["Layers"]) == 1


def test_pull_of_what_skopeo_copied(fresh_hoy, busybox_tar, registry, tmp_path):
    """A gzip image with a docker schema-2 manifest, made by another tool."""
    name = f"{registry.host}/copied:1"
    fresh_hoy("import", busybox_tar, "local")
    fresh_hoy("save", "-o", tmp_path / "local.tar", "local")
    subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", "--dest-compress-format=gzip", "--format=v2s2",
                    f"docker-archive:{tmp_path}/local.tar", f"docker://{name}"], check=True, capture_output=True)
    fresh_hoy("pull", name)
    assert fresh_hoy("run", "--rm", name, "echo", "ok").out == "ok\n"


def test_history_and_inspect_format(hoy, busybox_tar):
    assert hoy("inspect", "--format", "{{.Os}}/{{.Architecture}}", "busybox").out == "linux/amd64\n"
    assert hoy("history", "-q", "busybox").out.strip()


def test_an_image_in_use_is_kept(hoy, busybox_tar):
    hoy("import", "--change", "ENV OWN=1", busybox_tar, "used:1")
    hoy("run", "-d", "--name", "uses", "used:1", "sleep", "100")
    assert "conflict" in hoy("rmi", "used:1", code=1).err
    hoy("rm", "-f", "uses")
    hoy("rmi", "used:1")


def test_an_image_that_loses_its_name_is_kept_until_pruned(fresh_hoy, busybox_tar):
    fresh_hoy("import", busybox_tar, "a")
    old = identity(fresh_hoy, "a")
    fresh_hoy("import", "--change", "ENV X=1", busybox_tar, "a")
    assert len(fresh_hoy("images", "-q").out.split()) == 2
    assert "<none>" in fresh_hoy("images").out and "<none>" not in fresh_hoy("images", "-f", "dangling=false").out
    assert fresh_hoy("run", "--rm", old[7:19], "echo", "still here").out == "still here\n"
    assert f"deleted: {old}" in fresh_hoy("image", "prune", "-f").out
    assert len(fresh_hoy("images", "-q").out.split()) == 1
    out = fresh_hoy("system", "prune", "-a", "-f").out
    assert "untagged: a:latest" in out and "Total reclaimed space" in out
    assert not list((fresh_hoy.root / "blobs/sha256").iterdir())


def test_a_running_containers_image_can_lose_only_its_name(hoy, busybox_tar):
    hoy("import", "--change", "ENV OWN=2", busybox_tar, "runs:1")
    image = identity(hoy, "runs:1")
    hoy("run", "-d", "--name", "runs", "runs:1", "sleep", "100")
    assert "cannot be forced" in hoy("rmi", "-f", image, code=1).err
    assert "Deleted" not in hoy("rmi", "-f", "runs:1").out
    assert identity(hoy, image) == image
    hoy("rm", "-f", "runs")
    assert "Deleted" in hoy("rmi", image).out


def test_a_pull_brings_damaged_content_again(fresh_hoy, busybox_tar, registry):
    name = f"{registry.host}/damaged:1"
    fresh_hoy("import", busybox_tar, name)
    fresh_hoy("push", name)
    fresh_hoy("rmi", name)
    fresh_hoy("pull", name)
    for blob in (fresh_hoy.root / "blobs/sha256").iterdir():
        with open(blob, "r+b") as f:
            f.write(b"damaged")
    assert name.split(":1")[0] in fresh_hoy("images").out or fresh_hoy("images", "-q").out
    shutil.rmtree(fresh_hoy.root / "layers")
    os.mkdir(fresh_hoy.root / "layers")
    fresh_hoy("pull", name)
    assert fresh_hoy("run", "--rm", name, "echo", "whole").out == "whole\n"
    for blob in (fresh_hoy.root / "blobs/sha256").iterdir():
        assert subprocess.run(["sha256sum", blob], check=True, capture_output=True, text=True).stdout.startswith(blob.name)


@pytest.fixture
def short_dir():
    """podman refuses a run root of more than 50 characters."""
    with tempfile.TemporaryDirectory(prefix="hp-") as name:
        yield pathlib.Path(name)


def test_archives_go_to_podman_and_back(short_dir, fresh_hoy, busybox_tar, tmp_path):
    if not shutil.which("podman"):
        pytest.skip("needs podman")
    podman = ["podman", "--root", short_dir / "p", "--runroot", short_dir / "pr", "--storage-driver", "vfs"]
    subprocess.run([*podman, "info"], capture_output=True, check=False)  # makes what podman keeps in /run
    fresh_hoy("import", "--change", "CMD echo works", busybox_tar, "box:1")
    before = identity(fresh_hoy, "box:1")
    fresh_hoy("save", "-o", tmp_path / "ours.tar", "box:1")
    fresh_hoy("rmi", "box:1")
    subprocess.run([*podman, "load", "-q", "-i", tmp_path / "ours.tar"], check=True, capture_output=True, timeout=120)
    subprocess.run([*podman, "save", "-q", "-o", tmp_path / "theirs.tar", "docker.io/library/box:1"], check=True,
                   capture_output=True, timeout=120)
    fresh_hoy("load", "-i", tmp_path / "theirs.tar")
    assert identity(fresh_hoy, "box:1") == before
    assert fresh_hoy("run", "--rm", "box:1").out == "works\n"


def test_the_store_is_a_layout_that_skopeo_reads(fresh_hoy, busybox_tar, tmp_path):
    fresh_hoy("import", busybox_tar, "box:1")
    subprocess.run(["skopeo", "copy", f"oci:{fresh_hoy.root}:docker.io/library/box:1", f"oci-archive:{tmp_path}/x.tar:box:2"],
                   check=True, capture_output=True)
    fresh_hoy("load", "-i", tmp_path / "x.tar")
    assert identity(fresh_hoy, "box:2")


FAKES = {
    "silent": ("exit 0", "ended without a result"),
    "failing": ("exit 3", "exit code 3"),
    "killed": ("kill -9 $$", "signal 9"),
    "garbage": ("echo garbage", "hoy-transfer"),
    "not an object": ("echo '[]'", "ended without a result"),
    "an error": ("""echo '{"error":{"kind":"denied","message":"go away"}}'; exit 1""", "go away"),
    "a result without digests": ("""echo '{"result":{}}'""", "digest"),
    "a digest that is not there": (f"""echo '{{"result":{{"digest":"sha256:{'0' * 64}"}}}}'""", "0" * 64),
    "endless line": ("head -c 3000000 /dev/zero | tr '\\0' x", "hoy-transfer"),
}


@pytest.mark.parametrize("fake", FAKES)
def test_a_broken_transfer_is_one_error(fresh_hoy, tmp_path, fake):
    script, words = FAKES[fake]
    (tmp_path / "bin").mkdir()
    shutil.copy(fresh_hoy.binary, tmp_path / "bin/hoy")
    (tmp_path / "bin/hoy-transfer").write_text("#!/bin/sh\n" + script + "\n")
    (tmp_path / "bin/hoy-transfer").chmod(0o755)
    fresh_hoy.binary = tmp_path / "bin/hoy"
    r = fresh_hoy("pull", "some/image", code=1)
    assert words in r.err and len(r.err.strip().splitlines()) == 1, r
    assert fresh_hoy("images", "-q").out == ""


def test_commit(hoy):
    hoy("run", "--name", "changed", "-e", "OWN=1", "busybox", "sh", "-c", "echo new > /new; rm /etc/group; mkdir /d")
    image = hoy("commit", "-m", "because", "-c", "CMD cat /new", "-c", "LABEL a='b c'", "changed", "committed:1").out.strip()
    assert identity(hoy, "committed:1") == image
    assert hoy("run", "--rm", "committed:1").out == "new\n"
    out = hoy.any("run", "--rm", "committed:1", "sh", "-c", "echo $OWN; ls -d /d /etc/group /etc/passwd 2>/dev/null").out
    assert out.split() == ["1", "/d", "/etc/passwd"]
    assert "because" in hoy("history", "committed:1").out
    assert hoy("inspect", "-f", "{{.Config.Labels.a}}", "committed:1").out == "b c\n"
    hoy("rm", "changed")
    hoy("rmi", "committed:1")


def test_commit_of_a_running_container(hoy):
    hoy("run", "-d", "--name", "runs", "busybox", "sh", "-c", "echo x > /x; sleep 100")
    until(lambda: hoy.any("exec", "runs", "cat", "/x").out == "x\n")
    image = hoy("commit", "runs").out.strip()
    assert hoy("inspect", "-f", "{{.State.Status}}", "runs").out == "running\n"
    assert hoy("run", "--rm", image, "cat", "/x").out == "x\n"
    assert "is not a valid change command" in hoy("commit", "-c", "NOSUCH x", "runs", code=1).err
    hoy("rm", "-f", "runs")
    hoy("rmi", image)
    assert "No such container" in hoy("commit", "nosuch", code=1).err


def test_many_at_once(fresh_hoy, tmp_path):
    """Imports, names and removals side by side: sweeps take nothing that another one is bringing."""
    script = """for k in $(seq 15); do "$0" import "$1" "w$2" && "$0" tag "w$2" "t$2" && "$0" rmi "w$2" "t$2" || exit 1; done"""
    workers = []
    for i in range(4):
        with tarfile.open(tmp_path / f"{i}.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo(f"file{i % 2}"))
        workers.append(subprocess.Popen(["sh", "-c", script, fresh_hoy.binary, tmp_path / f"{i}.tar", str(i)],
                                        env=fresh_hoy.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    for w in workers:
        err = w.communicate(timeout=600)[1]
        assert w.returncode == 0, err
    fresh_hoy("image", "prune", "-f")
    assert not list((fresh_hoy.root / "blobs/sha256").iterdir()) and not list((fresh_hoy.root / "tmp").iterdir())


def test_removal_tells_what_went(hoy, tmp_path):
    """The base image's layer stays, and is not said to be deleted."""
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /\n")
    hoy("build", "-q", "-t", "child", tmp_path)
    base, child = (json.loads(hoy("inspect", n).out)[0] for n in ("busybox", "child"))
    out = hoy("rmi", "child").out
    assert base["RootFS"]["Layers"][0] not in out
    assert [line for line in out.splitlines() if line.startswith("Deleted")] == [f"Deleted: {child['Id']}"], out
    hoy("builder", "prune", "-f")
    assert hoy("run", "--rm", "busybox", "echo", "whole").out == "whole\n"


def test_nothing_is_made_to_tell_that_nothing_is_there(hoy, tmp_path):
    there = dict(HOY_ROOT=str(tmp_path / "r"), HOY_RUN=str(tmp_path / "n"))
    assert hoy("system", "footprint", env=there).out == ""
    hoy("system", "reset", env=there)
    hoy("images", env=there)
    assert hoy("system", "footprint", env=there).out.startswith("directory ")
    hoy("system", "reset", "--force", env=there)
    assert hoy("system", "footprint", env=there).out == "" and not list(tmp_path.iterdir())


def test_a_reset_leaves_no_process(fresh_hoy, busybox_tar):
    """What waits to take the network down is gone when the reset is."""
    found = None
    for _ in range(10):  # it would wait two seconds: where this takes as long, it proves nothing
        fresh_hoy("import", busybox_tar, "busybox")
        fresh_hoy("run", "--rm", "busybox", "true")
        fresh_hoy("system", "reset", "--force")
        time.sleep(0.1)
        found = subprocess.run(["pgrep", "-f", str(fresh_hoy.run_dir)], capture_output=True, text=True, check=False).stdout
        if not found:
            break
    assert not found, found


@pytest.mark.parametrize("form", ["--format=gnu", "--format=pax --sparse-version=0.0", "--format=pax --sparse-version=0.1",
                                  "--format=pax --sparse-version=1.0"])
@pytest.mark.parametrize("driver", ["erofs", "overlay"])
def test_a_sparse_file_larger_than_the_disk(fresh_hoy, tmp_path, form, driver):
    """Its holes are holes in the layer, and its bytes stand where they stood."""
    fresh_hoy.env["HOY_STORAGE_DRIVER"] = driver
    busybox_tree(tmp_path / "tree")
    room = os.statvfs(tmp_path)
    size = room.f_blocks * room.f_frsize + (10 << 30)
    with open(tmp_path / "tree/huge", "wb") as f:
        f.write(b"first")
        f.seek(size // 2)
        f.write(b"middle")
        f.truncate(size)
    subprocess.run(["tar", "-C", tmp_path / "tree", "--sparse", *form.split(), "-cf", tmp_path / "sparse.tar", "."], check=True)
    r = fresh_hoy("import", tmp_path / "sparse.tar", "sparse", code=None)
    if "too large" in r.err:
        pytest.skip("needs a file system whose files may be larger than it")
    assert r.code == 0, r
    script = f"stat -c %s /huge; head -c 5 /huge; dd if=/huge bs=1 skip={size // 2} count=6 2>/dev/null"
    assert fresh_hoy("run", "--rm", "--network", "none", "sparse", "sh", "-c", script).out == f"{size}\nfirstmiddle"
    used = sum(p.lstat().st_blocks * 512 for p in fresh_hoy.root.rglob("*"))
    assert used < 64 << 20


@pytest.mark.parametrize("driver", ["erofs", "overlay"])
def test_an_archive_that_ends_in_zeros(fresh_hoy, busybox_tar, tmp_path, driver):
    """As each does, and some with many: tar pads to the record, and the last file may be sparse. An archive may hold nothing else."""
    fresh_hoy.env["HOY_STORAGE_DRIVER"] = driver
    whole = busybox_tar.read_bytes().rstrip(b"\0")
    for end in (1 << 20, 3 << 20):
        padded = tmp_path / "padded.tar"
        padded.write_bytes(whole + bytes((len(whole) // end + 1) * end - len(whole)))
        fresh_hoy("import", padded, "padded")
        assert fresh_hoy("run", "--rm", "padded", "echo", "whole").out == "whole\n"
        fresh_hoy("save", "-o", tmp_path / "saved.tar", "padded")
        fresh_hoy("rmi", "padded")
        fresh_hoy("load", "-i", tmp_path / "saved.tar")
        assert "Damaged" not in fresh_hoy("verify").out
    padded.write_bytes(bytes(1 << 20))
    fresh_hoy("import", padded, "nothing")
    assert "Damaged" not in fresh_hoy("verify").out


@pytest.mark.parametrize("driver", ["erofs", "overlay"])
def test_what_tools_make_of_layers(fresh_hoy, busybox_tar, tmp_path, driver):
    """A layer of no byte at all; a link to itself, which tar writes of a file with two names that it is given twice."""
    fresh_hoy.env["HOY_STORAGE_DRIVER"] = driver
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "one").write_text("twice\n")
    (tree / "two").hardlink_to(tree / "one")
    subprocess.run(["tar", "-C", tree, "-cf", tmp_path / "twice.tar", "one", "one", "two", "two"], check=True)
    layers = [busybox_tar.read_bytes(), (tmp_path / "twice.tar").read_bytes(), b""]
    ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    documents = {"config.json": json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}),
                 "manifest.json": json.dumps([{"Config": "config.json", "RepoTags": ["odd:1"], "Layers": ["0.tar", "1.tar", "2.tar"]}])}
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        for name, body in [(n, d.encode()) for n, d in documents.items()] + [(f"{i}.tar", layer) for i, layer in enumerate(layers)]:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    fresh_hoy("load", "-i", tmp_path / "odd.tar")
    assert fresh_hoy("run", "--rm", "odd:1", "sh", "-c", "cat one two; stat -c %h one").out == "twice\ntwice\n2\n"
    assert "Damaged" not in fresh_hoy("verify").out
    (tmp_path / "nothing").touch()
    assert "empty" in fresh_hoy("import", tmp_path / "nothing", code=1).err


@pytest.mark.parametrize("driver", ["erofs", "overlay"])
def test_attributes_that_the_kernel_may_not_know(fresh_hoy, busybox_tar, tmp_path, driver):
    """An ACL where the kernel has none is no hindrance; a capability that is none is told, as by who extracts."""
    fresh_hoy.env["HOY_STORAGE_DRIVER"] = driver
    acl = b"\2\0\0\0" + b"".join(bytes([tag, 0, may, 0]) + b"\xff" * 4 for tag, may in ((1, 6), (4, 4), (0x20, 4)))

    def add(key, value):
        shutil.copy(busybox_tar, tmp_path / "odd.tar")
        info = tarfile.TarInfo("odd")
        info.size, info.mode, info.pax_headers = 1, 0o644, {f"SCHILY.xattr.{key}": os.fsdecode(value)}
        with tarfile.open(tmp_path / "odd.tar", "a", format=tarfile.PAX_FORMAT) as tar:
            tar.addfile(info, io.BytesIO(b"x"))
        return tmp_path / "odd.tar"

    fresh_hoy("import", add("system.posix_acl_access", acl), "odd")
    fresh_hoy("run", "--network", "none", "--name", "odd", "odd", "sh", "-c", "echo more >>/odd && cp -a /odd /copy")
    fresh_hoy("export", "-o", tmp_path / "out.tar", "odd")
    assert tarfile.open(tmp_path / "out.tar").extractfile("odd").read() == b"xmore\n"
    fresh_hoy("commit", "odd", "again")
    assert fresh_hoy("run", "--rm", "--network", "none", "again", "cat", "/copy").out == "xmore\n"
    assert "security.capability of odd: Invalid argument" in fresh_hoy("import", add("security.capability", b"none"), code=1).err


@pytest.mark.parametrize("program", ["xz", "bzip2", "gzip", "zstd"])
def test_what_people_compress_themselves(program, fresh_hoy, busybox_tar, registry, tmp_path):
    """import, load, ADD and docker-archive take what tar -a writes; several streams behind one another, too."""
    packed = tmp_path / "packed.tar"
    half = busybox_tar.stat().st_size // 2
    data = busybox_tar.read_bytes()
    packed.write_bytes(b"".join(subprocess.run([program, "-c"], input=part, capture_output=True, check=True).stdout
                                for part in (data[:half], data[half:])))
    fresh_hoy("import", busybox_tar, "plain")
    fresh_hoy("import", packed, "packed")
    assert identity(fresh_hoy, "packed") == identity(fresh_hoy, "plain")
    fresh_hoy("save", "-o", tmp_path / "saved.tar", "plain")
    archive = tmp_path / "saved.packed"
    with open(archive, "wb") as out:
        subprocess.run([program, "-c", tmp_path / "saved.tar"], stdout=out, check=True)
    fresh_hoy("rmi", "plain", "packed")
    assert fresh_hoy("load", "-i", archive).out == "Loaded image: plain:latest\n"
    fresh_hoy("image", "copy", "-q", f"docker-archive:{archive}", f"{registry.host}/{program}:1")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nADD packed.tar /\n")
    fresh_hoy("build", "-q", "-t", "added", tmp_path)
    for name in ["plain", "added"]:
        assert fresh_hoy("run", "--rm", name, "sh", "-c", "echo ok").out == "ok\n"
    archive.write_bytes(archive.read_bytes()[:-20000])
    packed.write_bytes(packed.read_bytes()[:-20000])
    for error in [fresh_hoy("load", "-i", archive, code=1).err, fresh_hoy("import", packed, code=1).err]:
        assert "truncated" in error


def test_what_is_no_archive_is_told(fresh_hoy, tmp_path):
    (tmp_path / "text").write_text("no archive at all\n" * 99)
    for command in ["load", "-i"], ["import"]:
        assert "not a tar archive" in fresh_hoy(*command, tmp_path / "text", code=1).err
        assert str(tmp_path) in fresh_hoy(*command, tmp_path, code=1).err


def test_a_reset_that_is_stopped_in_the_middle_can_be_repeated(fresh_hoy, busybox_tar):
    """Its database may have gone by then: that is no store that lost it."""
    fresh_hoy("import", busybox_tar, "box")
    place = fresh_hoy.root / "volumes/mine"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        assert "mounted" in fresh_hoy("system", "reset", "--force", code=1).err
        shutil.rmtree(fresh_hoy.root / "meta", ignore_errors=True)
    finally:
        subprocess.run(["umount", place], check=True)
    fresh_hoy("system", "reset", "--force")
    assert not fresh_hoy.root.exists()
