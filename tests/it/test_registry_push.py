"""Pushing: uploads, mounts, compression, and registries that refuse."""
import gzip
import io
import json
import os
import subprocess
import tarfile

import pytest

from conftest import BUILD, Hoy
from liar import CONFIG, INDEX, Image, digest
from registry_rig import accept_uploads, leaked, liar, other, pulled, transfer  # fixtures among them


@pytest.mark.parametrize("form", ["absolute", "path", "relative"])
def test_forms_of_location(transfer, liar, form):
    got = pulled(transfer)
    accept_uploads(liar, {"absolute": f"{liar.url}/upload/1", "path": "/upload/1?state=a",
                          "relative": "../../../../upload/1?x=%2F"}[form])
    transfer.ok("push", f"{liar.host}/x:1", got)
    assert set(liar.got) == set(liar.image.blobs)


def test_uploads_elsewhere_get_no_credentials(transfer, liar, other):
    got = pulled(transfer)
    accept_uploads(liar, f"{other.url}/upload/1")
    other.routes[("PUT", "/upload/1")] = accept_uploads(other)
    honest = liar.honest
    liar.honest = lambda m, p: honest(m, p) if "Authorization" in liar.headers else \
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    transfer.remember(liar.host)
    transfer.ok("push", f"{liar.host}/x:1", got)
    assert other.got and not leaked(other)


def test_a_cut_upload_begins_again(transfer, liar):
    got = pulled(transfer)
    receive = accept_uploads(liar)
    seen = []

    def flaky(handler):
        seen.append(1)
        if len(seen) == 1:
            return handler.cut()
        if len(seen) == 2:
            return 503, {"Retry-After": "1"}, b""
        return receive(handler)
    liar.routes[("PUT", "/upload/1")] = flaky
    transfer.ok("push", f"{liar.host}/x:1", got)
    assert set(liar.got) == set(liar.image.blobs)


def plain_image(liar):
    """An image as we make them: the layer is a tar without compression."""
    raw = b"the same words again and again " * 3000
    image = Image([b"gzip from elsewhere" * 9])
    plain = image.add(raw, "application/vnd.oci.image.layer.v1.tar")
    tiny = image.add(b"t", "application/vnd.oci.image.layer.v1.tar")
    image.doc["layers"] += [plain, tiny, plain]
    config = json.loads(image.blobs[image.config["digest"]])
    config["rootfs"]["diff_ids"] += [plain["digest"], tiny["digest"], plain["digest"]]
    image.doc["config"] = image.add(json.dumps(config).encode(), CONFIG)
    image.doc["annotations"] = {"kept": "yes"}
    liar.image = image
    return raw


def test_plain_layers_are_compressed(transfer, liar, registry):
    raw = plain_image(liar)
    got = transfer.ok("pull", f"{liar.host}/x")["digest"]
    result = transfer.ok("push", f"{registry.host}/squeezed:1", got)
    assert result["digest"] != got and result["digest"] == result["manifest"]
    body = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/squeezed:1"],
                          check=True, capture_output=True).stdout
    assert digest(body) == result["digest"] and transfer.blobs()[digest(body)[7:]] == body
    doc = json.loads(body)
    assert doc["annotations"] == {"kept": "yes"} and doc["config"] == liar.image.doc["config"]
    first, second, third, fourth = doc["layers"]
    assert [first, third] == [liar.image.doc["layers"][0], liar.image.doc["layers"][2]] and second == fourth
    assert second["mediaType"].endswith("tar+gzip") and second["size"] < len(raw) / 10
    assert gzip.decompress(transfer.blobs()[second["digest"][7:]]) == raw
    assert transfer.ok("push", f"{registry.host}/squeezed:2", got)["digest"] == result["digest"]
    assert transfer.ok("push", f"{registry.host}/squeezed@{got}", got)["digest"] == got
    transfer.check()


def test_mounts_come_from_neighbours(transfer, liar, tmp_path):
    """With the names of the whole program beside the store."""
    if not (BUILD / "src/main/hoy").exists():
        pytest.skip("needs hoy")
    env = dict(transfer.env, HOY_ROOT=str(transfer.root), HOY_RUN=str(tmp_path / "run"))
    liar.image = Image([b"\0" * 10240])  # an empty tar
    subprocess.run([BUILD / "src/main/hoy", "pull", f"{liar.host}/x"], check=True, env=env, capture_output=True)
    got = digest(liar.image.manifest())
    accept_uploads(liar)
    honest = liar.honest
    layer = liar.image.layers[0]["digest"]

    def mount(handler):
        if "mount=" in handler.path and layer.replace(":", "%3A") in handler.path and "from=x" in handler.path:
            return 201, {}, b""
        return honest("POST", handler.path.split("?")[0])
    liar.routes[("POST", "/v2/y/blobs/uploads/")] = mount
    code, lines, last = transfer("push", f"{liar.host}/y:1", got)
    assert code == 0, last
    assert "Mounted from x" in {x["status"] for x in lines} and layer not in liar.got


PUSH_LIES = {
    "no location": (("POST", "/v2/x/blobs/uploads/"), (202, {}, b""), "invalid", "upload"),
    "location is a file": (("POST", "/v2/x/blobs/uploads/"), (202, {"Location": "file:///etc/shadow"}, b""), "invalid", ""),
    "there without being sent": (("POST", "/v2/x/blobs/uploads/"), (201, {"Location": "/v2/x/blobs/y"}, b""), "invalid", "201"),
    "start denied": (("POST", "/v2/x/blobs/uploads/"), (403, {}, b'{"errors":[{"code":"DENIED","message":"no"}]}'), "denied",
                     "push access denied for"),
    "read only": (("POST", "/v2/x/blobs/uploads/"), (405, {}, b'{"errors":[{"code":"UNSUPPORTED","message":"read-only"}]}'),
                  "invalid", "read-only"),
    "upload too large": (("PUT", "/upload/1"), (413, {}, b""), "limit", "413"),
    "upload refused": (("PUT", "/upload/1"), (400, {}, b'{"errors":[{"code":"DIGEST_INVALID"}]}'), "invalid", "digest invalid"),
    "upload never works": (("PUT", "/upload/1"), (500, {}, b""), "unavailable", "500"),
    "upload redirected": (("PUT", "/upload/1"), (307, {"Location": "/elsewhere"}, b""), "invalid", "307"),
    "manifest refused": (("PUT", "/v2/x/manifests/1"), (400, {}, b'{"errors":[{"code":"MANIFEST_INVALID"}]}'), "invalid",
                         "manifest invalid"),
    "manifest stored as another": (("PUT", "/v2/x/manifests/1"), (201, {"Docker-Content-Digest": digest(b"")}, b""), "corrupt",
                                   "instead of"),
}


@pytest.mark.parametrize("lie", PUSH_LIES)
def test_lies_about_pushes(transfer, liar, lie):
    key, answer, kind, words = PUSH_LIES[lie]
    got = pulled(transfer)
    accept_uploads(liar)
    liar.routes[key] = answer
    error = transfer.fails("push", f"{liar.host}/x:1", got)
    assert error["kind"] == kind and words in error["message"], error


# --- how layers are compressed, and what is remembered of it


def manifest_of(name):
    return json.loads(subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"], check=True,
                                     capture_output=True).stdout)


@pytest.mark.parametrize("form,level", [("gzip", 1), ("gzip", 9), ("zstd", 3), ("zstd", 12)])
def test_the_form_is_chosen(transfer, liar, registry, tmp_path, form, level):
    raw = plain_image(liar)
    got = transfer.ok("pull", f"{liar.host}/x")["digest"]
    name = f"{registry.host}/form/{form}{level}"
    transfer.ok("push", "--compression-format", form, "--compression-level", level, f"{name}:1", got)
    layer = manifest_of(f"{name}:1")["layers"][1]
    assert layer["mediaType"] == f"application/vnd.oci.image.layer.v1.tar+{form}"
    transfer.ok("copy", f"{name}:1", f"dir:{tmp_path}/d")
    data = (tmp_path / "d" / layer["digest"][7:]).read_bytes()
    assert subprocess.run([form, "-dc"], input=data, check=True, capture_output=True).stdout == raw


@pytest.mark.parametrize("args", [["--compression-format", "xz"], ["--compression-level", "0"], ["--compression-level", "10"],
                                  ["--compression-format", "zstd", "--compression-level", "20"]])
def test_forms_that_are_none(transfer, args):
    assert transfer.fails("push", *args, "127.0.0.1:1/x:1", digest(b"x"))["kind"] == "invalid"


def test_what_was_compressed_is_not_compressed_again(transfer, liar, registry):
    plain_image(liar)
    got = transfer.ok("pull", f"{liar.host}/x")["digest"]
    first = transfer.ok("push", f"{registry.host}/known:1", got)
    squeezed = manifest_of(f"{registry.host}/known:1")["layers"][1]["digest"]
    (transfer.root / "blobs/sha256" / squeezed[7:]).unlink()  # as the sweep after a push does
    code, lines, last = transfer("push", f"{registry.host}/known:2", got)
    assert code == 0 and last["result"]["digest"] == first["digest"]
    assert {x["status"] for x in lines} == {"Layer already exists"} and squeezed[7:] not in transfer.blobs()
    assert transfer.ok("push", f"{registry.host}/elsewhere:1", got)["digest"] == first["digest"]  # made again where it is needed
    assert manifest_of(f"{registry.host}/elsewhere:1")["layers"][1]["digest"] == squeezed


def test_another_version_of_the_compressor(transfer, liar, registry):
    """What is noted is what an older one gave: the registry has not got it, so the layer goes as it comes out now."""
    plain_image(liar)
    got = transfer.ok("pull", f"{liar.host}/x")["digest"]
    want = transfer.ok("push", f"{registry.host}/version:1", got)["digest"]
    plain = transfer.root / "blobs/sha256" / liar.image.doc["layers"][1]["digest"][7:]
    try:
        os.setxattr(plain, "user.hoy.gzip-4", f"{digest(b'older')} 55".encode())
    except OSError:
        pytest.skip("needs user attributes on the file system")
    assert transfer.ok("push", f"{registry.host}/version2:1", got)["digest"] == want
    assert manifest_of(f"{registry.host}/version2:1")["layers"] == manifest_of(f"{registry.host}/version:1")["layers"]
    transfer.check()


# --- by the command line of the whole program


@pytest.fixture
def lone(tmp_path):
    h = Hoy(tmp_path)
    yield h
    h.any("system", "reset", "--force")


def tar_of(path, text):
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("file")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    return path


def test_every_tag_goes_and_comes(lone, registry, tmp_path):
    name = f"{registry.host}/tags/all"
    for tag in ("a", "b", "c"):
        lone("import", tar_of(tmp_path / "x.tar", tag.encode() * 2000), f"{name}:{tag}")
    lone("push", "--all-tags", "--compression-format", "zstd", name)
    assert sorted(lone("image", "tags", name).out.split()) == ["a", "b", "c"]
    assert manifest_of(f"{name}:b")["layers"][0]["mediaType"].endswith("+zstd")
    lone("rmi", f"{name}:a", f"{name}:b", f"{name}:c")
    lone("pull", "-q", "--all-tags", name)
    assert sorted(x.split()[1] for x in lone("images").out.splitlines()[1:]) == ["a", "b", "c"]
    assert "tag can't be used" in lone("pull", "-a", f"{name}:a", code=1).err
    assert "tag can't be used" in lone("push", "-a", f"{name}:a", code=1).err
    assert "wanted gzip or zstd" in lone("push", "--compression-format", "xz", f"{name}:a", code=1).err


def test_an_index_goes_with_all_that_is_here(lone, liar, registry):
    amd, arm = Image([b"\0" * 10240]), Image([b"\0" * 20480], arch="arm64")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX,
                        "manifests": [arm.descriptor("arm64"), amd.descriptor("amd64")]}).encode()
    liar.image.blobs = {**amd.blobs, **arm.blobs}
    for body in (amd.manifest(), arm.manifest(), index):
        liar.more[digest(body)] = body
    liar.routes["/v2/x/manifests/latest"] = (200, {"Content-Type": INDEX}, index)
    name = f"{registry.host}/platforms/x:1"
    lone("pull", f"{liar.host}/x")
    lone("tag", f"{liar.host}/x", name)
    assert "neither here nor in" in lone("push", "--all-platforms", name, code=1).err
    lone("pull", "--platform", "linux/arm64", f"{liar.host}/x")
    lone("push", "--all-platforms", name)
    raw = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"], check=True,
                         capture_output=True).stdout
    assert raw == index
