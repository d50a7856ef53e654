"""Pushing: uploads, mounts, compression, and registries that refuse."""
import gzip
import json
import subprocess

import pytest

from conftest import BUILD
from liar import CONFIG, Image, digest
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
    liar.honest = lambda m, p: honest(m, p) if "Authorization" in liar.seen[-1][2] else \
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
