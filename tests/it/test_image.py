"""Images: import, list, tag, remove, save and load, transport through a registry, exchange with other tools."""
import json
import subprocess
import tarfile


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
