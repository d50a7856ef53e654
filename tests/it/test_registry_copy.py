"""hoy image copy, inspect --remote and tags: what skopeo is used for daily, byte for byte."""
import json
import shutil
import subprocess

import pytest

from conftest import Hoy
from liar import CONFIG, INDEX, MANIFEST, Image, Liar, digest
from registry_rig import big_image, leaked, liar, other, seed, transfer  # fixtures among them


@pytest.fixture
def lone(tmp_path):
    """hoy with an empty root; it runs no containers here."""
    h = Hoy(tmp_path)
    yield h
    h.any("system", "reset", "--force")


def two_platforms(server):
    """An index of two images and what buildkit adds: an attestation without a platform."""
    amd, arm = Image([b"amd"]), Image([b"arm"], arch="arm64")
    note = Image([b"in-toto"])
    note.doc["layers"][0]["mediaType"] = "application/vnd.in-toto+json"
    note.doc["artifactType"] = "application/vnd.docker.attestation.manifest.v1+json"
    note.doc["subject"] = {k: v for k, v in amd.descriptor().items() if k != "platform"}
    entry = note.descriptor()
    entry["platform"] = {"os": "unknown", "architecture": "unknown"}
    entry["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "x-own": {"kept": [1, 2]},
                        "manifests": [arm.descriptor("arm64"), amd.descriptor("amd64"), entry]}, indent=3).encode()
    server.image.blobs = {**amd.blobs, **arm.blobs, **note.blobs}
    for body in (amd.manifest(), arm.manifest(), note.manifest(), index):
        server.more[digest(body)] = body
    server.routes["/v2/x/manifests/latest"] = (200, {"Content-Type": INDEX}, index)
    return index, amd, arm, note


def raw(name):
    return subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"], check=True,
                          capture_output=True).stdout


def test_from_registry_to_registry(transfer, registry, liar):
    result = transfer.ok("copy", f"docker://{liar.host}/x", f"{registry.host}/copied/one:1")
    assert result["digest"] == digest(liar.image.manifest())
    assert raw(f"{registry.host}/copied/one:1") == liar.image.manifest()
    transfer.check()


def test_all_platforms_go_along_unharmed(transfer, registry, liar):
    index, amd, arm, note = two_platforms(liar)
    result = transfer.ok("copy", "--all", f"{liar.host}/x", f"{registry.host}/copied/all:1")
    assert result["digest"] == digest(index) and raw(f"{registry.host}/copied/all:1") == index
    for part in (amd, arm, note):
        assert raw(f"{registry.host}/copied/all@{digest(part.manifest())}") == part.manifest()
    result = transfer.ok("copy", "--platform", "linux/arm64", f"{liar.host}/x", f"{registry.host}/copied/arm:1")
    assert result["digest"] == digest(arm.manifest()) and raw(f"{registry.host}/copied/arm:1") == arm.manifest()
    assert transfer.fails("copy", "--all", "--platform", "linux/arm64", f"{liar.host}/x", f"{registry.host}/y")["kind"] == "invalid"


def test_inside_one_registry_nothing_travels(transfer, registry, liar, tmp_path):
    seed(Image(), tmp_path, f"{registry.host}/inside/from:1")
    code, lines, last = transfer("copy", f"{registry.host}/inside/from:1", f"{registry.host}/inside/to:1")
    assert code == 0, last
    assert {x["status"] for x in lines if "id" in x} == {"Pushing", "Mounted from inside/from"}
    assert not transfer.blobs()


@pytest.mark.parametrize("form", ["oci", "dir"])
def test_by_way_of_files(transfer, registry, liar, tmp_path, form):
    """Registry -> files -> registry, and skopeo reads and writes the same files."""
    index, *parts = two_platforms(liar)
    there = f"{form}:{tmp_path}/out" + (":v1" if form == "oci" else "")
    assert transfer.ok("copy", "--all", f"{liar.host}/x", there)["digest"] == digest(index)
    assert transfer.ok("copy", "--all", there, f"{registry.host}/files/{form}:1")["digest"] == digest(index)
    assert raw(f"{registry.host}/files/{form}:1") == index
    seed(Image(), tmp_path, f"{registry.host}/files/plain:1")
    subprocess.run(["skopeo", "copy", "--src-tls-verify=false", f"docker://{registry.host}/files/plain:1",
                    there.replace("/out", "/theirs")], check=True, capture_output=True)
    result = transfer.ok("copy", there.replace("/out", "/theirs"), f"{registry.host}/files/back-{form}:1")
    assert result["digest"] == digest(raw(f"{registry.host}/files/plain:1"))
    one = there.replace("/out", "/one")
    transfer.ok("copy", f"{registry.host}/files/plain:1", one)
    subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", one, f"docker://{registry.host}/files/skopeo-{form}:1"],
                   check=True, capture_output=True)
    assert digest(raw(f"{registry.host}/files/skopeo-{form}:1")) == result["digest"]
    assert not list((tmp_path / "one").rglob(".hoy-*"))


def test_a_layout_with_several_images(transfer, liar, other, tmp_path):
    other.image = Image([b"another"])
    transfer.ok("copy", f"{liar.host}/x", f"oci:{tmp_path}/many:a")
    transfer.ok("copy", f"{other.host}/x", f"oci:{tmp_path}/many:b")
    transfer.ok("copy", f"{other.host}/x", f"oci:{tmp_path}/many:a")  # a name moves
    entries = json.loads((tmp_path / "many/index.json").read_text())["manifests"]
    assert sorted(x["annotations"]["org.opencontainers.image.ref.name"] for x in entries) == ["a", "b"]
    assert {x["digest"] for x in entries} == {digest(other.image.manifest())}
    assert "say which" in transfer.fails("copy", f"oci:{tmp_path}/many", f"dir:{tmp_path}/x")["message"]
    assert transfer.fails("copy", f"oci:{tmp_path}/many:c", f"dir:{tmp_path}/x")["kind"] == "not_found"


def test_a_directory_holds_one_image_and_nothing_else_s(transfer, liar, tmp_path):
    """As skopeo: another image takes the place of the first; a directory of something else is left alone."""
    two_platforms(liar)
    transfer.ok("copy", "--all", f"{liar.host}/x", f"dir:{tmp_path}/d")
    assert len(list((tmp_path / "d").glob("*.manifest.json"))) == 3
    liar.routes.clear()
    liar.image = Image([b"another"])
    transfer.ok("copy", f"{liar.host}/x", f"dir:{tmp_path}/d")
    assert sorted(x.name for x in (tmp_path / "d").iterdir()) == sorted(
        ["version", "manifest.json", *(x[7:] for x in liar.image.blobs)])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter").write_text("dear")
    assert "nothing is written" in transfer.fails("copy", f"{liar.host}/x", f"dir:{tmp_path}/mine")["message"]
    assert [x.name for x in (tmp_path / "mine").iterdir()] == ["letter"]


def test_a_layout_s_tag_may_be_a_whole_name(transfer, liar, registry, tmp_path):
    """The path ends at the first colon, as skopeo has it."""
    transfer.ok("copy", f"{liar.host}/x", f"oci:{tmp_path}/named:team/app:1")
    assert json.loads((tmp_path / "named/index.json").read_text())["manifests"][0]["annotations"] == {
        "org.opencontainers.image.ref.name": "team/app:1"}
    subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", f"oci:{tmp_path}/named:team/app:1", f"docker://{registry.host}/named:1"],
                   check=True, capture_output=True)
    transfer.ok("copy", f"oci:{tmp_path}/named:team/app:1", f"{registry.host}/named:2")
    assert raw(f"{registry.host}/named:1") == raw(f"{registry.host}/named:2") == liar.image.manifest()


def test_artifacts_pass_unharmed(transfer, registry, liar):
    """artifactType, subject, an empty config, layers of unknown types, fields nobody knows."""
    image = Image([])
    blob = image.add(b"\x00\x01 anything", "application/vnd.acme.rocket+json")
    image.doc = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.acme.thing",
                 "config": image.add(b"{}", "application/vnd.oci.empty.v1+json"), "layers": [blob], "extra": {"deep": [1, "é"]},
                 "subject": {"mediaType": MANIFEST, "digest": digest(b"not here"), "size": 8},
                 "annotations": {"org.opencontainers.image.title": "../../../etc/passwd"}}
    liar.image = image
    assert transfer.ok("copy", f"{liar.host}/x", f"{registry.host}/artifact:1")["digest"] == digest(image.manifest())
    assert raw(f"{registry.host}/artifact:1") == image.manifest()
    seen = transfer.ok("inspect", f"{registry.host}/artifact:1")["image"]
    assert seen["ArtifactType"] == "application/vnd.acme.thing" and seen["Subject"]["size"] == 8


def test_forms_that_are_not_ours_are_named(transfer, liar):
    for form in ("docker-archive:", "oci-archive:", "containers-storage:x", "docker-daemon:x:1", "oci:", "dir:"):
        assert transfer.fails("copy", form, f"{liar.host}/x")["kind"] in ("unsupported", "invalid")
    assert not liar.seen


def test_lies_in_files(transfer, liar, tmp_path):
    transfer.ok("copy", f"{liar.host}/x", f"oci:{tmp_path}/l:1")
    shutil.rmtree(transfer.root)
    layer = tmp_path / "l/blobs/sha256" / liar.image.layers[0]["digest"][7:]
    layer.write_bytes(b"?" * liar.image.layers[0]["size"])
    error = transfer.fails("copy", f"oci:{tmp_path}/l:1", f"dir:{tmp_path}/d")
    assert error["kind"] == "corrupt" and "digest mismatch" in error["message"]
    layer.unlink()
    layer.symlink_to("/etc/passwd")
    transfer.fails("copy", f"oci:{tmp_path}/l:1", f"dir:{tmp_path}/d")
    assert not (tmp_path / "d/manifest.json").exists()
    (tmp_path / "l/blobs/sha256" / digest(liar.image.manifest())[7:]).write_bytes(b"{}")
    assert transfer.fails("copy", f"oci:{tmp_path}/l:1", f"dir:{tmp_path}/d")["kind"] == "corrupt"


def test_a_copy_that_was_cut_goes_on(transfer, liar, tmp_path):
    layer, data = big_image(liar, 6 << 20)

    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:4 << 20])
        handler.cut()
    liar.routes[f"/v2/x/blobs/{layer}"] = lambda h: cut(h) if "Range" not in h.headers else (503, {}, b"")
    transfer("copy", f"{liar.host}/x", f"dir:{tmp_path}/d")
    liar.routes.clear()
    liar.routes[f"/v2/x/blobs/{layer}"] = lambda h: (
        206, {"Content-Range": f"bytes {h.headers['Range'][6:-1]}-{len(data) - 1}/{len(data)}"},
        data[int(h.headers["Range"][6:-1]):])
    transfer.ok("copy", f"{liar.host}/x", f"dir:{tmp_path}/d")
    assert (tmp_path / "d" / layer[7:]).read_bytes() == data


def test_credentials_of_each_side_stay_there(transfer, liar, other, tmp_path):
    honest = liar.honest
    liar.honest = lambda m, p: honest(m, p) if "Authorization" in liar.headers else \
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    transfer.remember(liar.host)
    transfer("copy", f"{liar.host}/x", f"{other.host}/y")
    assert other.seen and leaked(liar) and not leaked(other)


def test_inspect_of_a_registry(transfer, liar):
    index, amd, arm, _ = two_platforms(liar)
    seen = transfer.ok("inspect", f"{liar.host}/x")["image"]
    assert seen["Digest"] == digest(index) and seen["ManifestDigest"] == digest(amd.manifest())
    assert [x["Platform"] for x in seen["Platforms"]] == ["linux/arm64", "linux/amd64", "unknown/unknown"]
    assert seen["Architecture"] == "amd64" and seen["Layers"] == amd.layers and seen["Size"] == amd.layers[0]["size"]
    assert transfer.ok("inspect", "--platform", "linux/arm64", f"{liar.host}/x")["image"]["Id"] == arm.config["digest"]
    assert transfer.ok("inspect", "--raw", f"{liar.host}/x")["image"].encode() == index
    assert transfer.ok("inspect", "--raw", "--platform", "linux/arm64", f"{liar.host}/x")["image"].encode() == arm.manifest()
    assert transfer.ok("inspect", "--config", f"{liar.host}/x")["image"].encode() == amd.blobs[amd.config["digest"]]
    assert not [x for x in liar.seen if any(y["digest"] in x[1] for y in amd.layers + arm.layers)]
    assert not transfer.root.exists()


def test_the_rate_limit_is_shown(transfer, liar):
    liar.routes["/v2/x/manifests/latest"] = (200, {"Content-Type": MANIFEST, "RateLimit-Limit": "100;w=21600",
                                                   "RateLimit-Remaining": "76;w=21600"}, liar.image.manifest())
    assert transfer.ok("inspect", f"{liar.host}/x")["image"]["RateLimit"] == "100 in 21600 s, 76 left"


def test_debug_tells_every_request_and_the_limit(lone, liar):
    liar.image = Image([b"\0" * 10240])
    honest = liar.honest
    liar.honest = lambda m, p: (lambda a: (a[0], dict(a[1], **{"RateLimit-Remaining": "9;w=60"}), a[2]))(honest(m, p))
    err = lone("--debug", "pull", f"{liar.host}/x?".rstrip("?")).err
    assert f"GET http://{liar.host}/v2/x/blobs/" in err and "(limit: 9 left)" in err


def test_tags_page_by_page(transfer, liar):
    liar.routes["/v2/x/tags/list"] = lambda h: (200, {}, b'{"name":"x","tags":["c","d"]}') if "last=b" in h.path else \
        (200, {"Link": '</v2/x/tags/list?n=2&last=b>; rel="next"'}, b'{"name":"x","tags":["a","b"]}')
    assert transfer.ok("tags", f"{liar.host}/x")["tags"] == ["a", "b", "c", "d"]


TAG_LIES = {
    "no list": b'{"tags":"a"}', "numbers": b'{"tags":[1]}', "no tag": b'{"tags":["../x"]}', "html": b"<html>",
    "control": b'{"tags":["a\\u001b[2J"]}',
}


@pytest.mark.parametrize("lie", TAG_LIES)
def test_lies_about_tags(transfer, liar, lie):
    liar.routes["/v2/x/tags/list"] = (200, {}, TAG_LIES[lie])
    assert transfer.fails("tags", f"{liar.host}/x")["kind"] == "invalid"


def test_pages_of_tags_end(transfer, liar, other):
    liar.routes["/v2/x/tags/list"] = (200, {"Link": '</v2/x/tags/list?again>; rel="next"'}, b'{"tags":["a"]}')
    assert "again and again" in transfer.fails("tags", f"{liar.host}/x")["message"]
    liar.routes["/v2/x/tags/list"] = (200, {"Link": '<file:///etc/passwd>; rel="next"'}, b'{"tags":["a"]}')
    assert transfer.fails("tags", f"{liar.host}/x")["kind"] == "invalid"
    assert "not found" in transfer.fails("tags", f"{liar.host}/none-{1}")["message"]


def test_the_command_line(lone, liar, registry, tmp_path):
    """The whole program: nothing of a copy stays in its store."""
    out = lone("image", "copy", f"{liar.host}/x", f"{registry.host}/cli/x:1").out
    assert out.strip().endswith(f"Digest: {digest(liar.image.manifest())}")
    assert not list((lone.root / "blobs/sha256").iterdir()) and not list((lone.root / "tmp").iterdir())
    assert lone("image", "tags", f"{registry.host}/cli/x").out == "1\n"
    assert lone("image", "inspect", "--remote", "--raw", f"{registry.host}/cli/x:1").out.encode() == liar.image.manifest()
    shown = json.loads(lone("image", "inspect", "--remote", f"{registry.host}/cli/x:1").out)
    assert shown[0]["Digest"] == digest(liar.image.manifest())
    assert lone("image", "inspect", "--remote", "-f", "{{.Os}}", f"{registry.host}/cli/x:1").out == "linux\n"
    assert "--remote" in lone("image", "inspect", "--raw", "x", code=1).err
    assert lone.any("image", "inspect", "--remote", f"{registry.host}/cli/none:1").code == 1
