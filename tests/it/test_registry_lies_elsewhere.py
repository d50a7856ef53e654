"""The lies of test_registry_lies where nothing is pulled: inspect --remote, copies into files and into another registry."""
import json
import os

import pytest

from liar import CONFIG, INDEX, Image, digest
from registry_rig import accept_uploads, leaked, liar, other, transfer, want_token  # fixtures among them
from test_registry_lies import BLOB_LIES, MANIFEST_LIES, MANIFEST_URL, TOKENS, WIRE_LIES
from test_registry_push import PUSH_LIES


def left(path):
    """Whatever a destination has that a reader would take for an image, or that should have gone."""
    return [x for x in path.rglob("*") if x.name in ("index.json", "manifest.json", "out.tar") or x.name.startswith(".hoy")]


@pytest.mark.parametrize("lie", MANIFEST_LIES)
def test_inspect(transfer, liar, lie):
    answer, kind, _ = MANIFEST_LIES[lie]
    liar.routes[MANIFEST_URL] = answer
    transfer.remember(liar.host)
    for form in ([], ["--raw", "--platform", "linux/amd64"], ["--config"]):
        error = transfer.fails("inspect", *form, f"{liar.host}/x") if lie != "giant config" or "--raw" not in form else {"kind": kind}
        assert kind in ("", error["kind"]), (form, error)
    assert not transfer.root.exists()


@pytest.mark.parametrize("form", ["oci:{}/out", "docker-archive:{}/out.tar"])
@pytest.mark.parametrize("lie", MANIFEST_LIES)
def test_copy_of_manifests(transfer, liar, tmp_path, lie, form):
    answer, kind, _ = MANIFEST_LIES[lie]
    liar.routes[MANIFEST_URL] = answer
    transfer.remember(liar.host)
    error = transfer.fails("copy", f"{liar.host}/x", form.format(tmp_path))
    assert kind in ("", error["kind"]) or lie == "giant config", error
    assert left(tmp_path) == []


@pytest.mark.parametrize("lie", BLOB_LIES)
def test_copy_of_blobs(transfer, liar, other, tmp_path, lie):
    make, kind, words = BLOB_LIES[lie]
    layer = liar.image.layers[1]["digest"]
    liar.routes[f"/v2/x/blobs/{layer}"] = make(liar.image.blobs[layer])
    accept_uploads(other)
    for to in (f"dir:{tmp_path}/out", f"oci-archive:{tmp_path}/out.tar", f"docker-archive:{tmp_path}/out.tar", f"{other.host}/y:1"):
        error = transfer.fails("copy", f"{liar.host}/x", to)
        assert kind in ("", error["kind"]) and words in error["message"] and layer in error["message"], error
        assert left(tmp_path) == []
    assert layer not in other.got and not [x for x in other.seen if x[0] == "PUT" and "manifests" in x[1]]


@pytest.mark.parametrize("lie", WIRE_LIES)
def test_wire(transfer, liar, tmp_path, lie):
    liar.routes[MANIFEST_URL] = WIRE_LIES[lie][0]
    transfer.remember(liar.host)
    transfer.fails("inspect", f"{liar.host}/x")
    transfer.fails("copy", f"{liar.host}/x", f"oci-archive:{tmp_path}/out.tar")
    assert left(tmp_path) == []


@pytest.mark.parametrize("lie", TOKENS)
def test_tokens(transfer, liar, other, tmp_path, lie):
    """Of either side; and the other side learns nothing."""
    liar.realm = f"{liar.url}/token"
    want_token(liar, "right")
    liar.routes["/token"], kind = TOKENS[lie]
    transfer.remember(liar.host)
    accept_uploads(other)
    assert transfer.fails("inspect", f"{liar.host}/x")["kind"] == kind
    assert transfer.fails("copy", f"{liar.host}/x", f"{other.host}/y")["kind"] == kind
    assert transfer.fails("copy", f"{other.host}/x", f"{liar.host}/y")["kind"] == kind
    assert not leaked(other) and left(tmp_path) == []


@pytest.mark.parametrize("lie", PUSH_LIES)
def test_copy_to_one_that_refuses(transfer, liar, other, tmp_path, lie):
    key, answer, kind, words = PUSH_LIES[lie]
    accept_uploads(liar)
    liar.routes[key] = answer
    error = transfer.fails("copy", f"{other.host}/x", f"{liar.host}/x:1")
    assert error["kind"] == kind and words in error["message"], error
    transfer.ok("copy", f"{other.host}/x", f"oci-archive:{tmp_path}/in.tar:t")
    assert transfer.fails("copy", f"oci-archive:{tmp_path}/in.tar", f"{liar.host}/x:1")["kind"] == kind


def test_a_config_that_is_no_configuration(transfer, liar, tmp_path):
    liar.image.doc["config"] = liar.image.add(b"[]", CONFIG)
    assert transfer.fails("copy", f"{liar.host}/x", f"docker-archive:{tmp_path}/out.tar")["kind"] in ("invalid", "corrupt")
    assert left(tmp_path) == []
    assert transfer.ok("inspect", "--config", f"{liar.host}/x")["image"] == "[]"  # as it is


def test_bytes_that_are_no_text(transfer, liar):
    liar.image.doc["config"] = liar.image.add(b'{"a":"\xff\xfe"}', CONFIG)
    assert transfer.fails("inspect", "--config", f"{liar.host}/x")["kind"] == "invalid"


def test_an_index_that_names_itself_by_every_part(transfer, liar, tmp_path):
    """--all of an index with a thousand times the same part brings it once."""
    part = liar.image.descriptor()
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [part] * 1000}).encode()
    liar.routes[MANIFEST_URL] = (200, {"Content-Type": INDEX}, body)
    transfer.ok("copy", "--all", f"{liar.host}/x", f"oci:{tmp_path}/o")
    assert len(os.listdir(tmp_path / "o/blobs/sha256")) == 5
    assert len([x for x in liar.seen if "/blobs/" in x[1] and x[0] == "GET"]) == 3
    assert len([x for x in liar.seen if digest(liar.image.manifest()) in x[1]]) == 1


def test_parts_beyond_the_limit(transfer, liar, tmp_path):
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [Image().descriptor()] * 1025}).encode()
    liar.routes[MANIFEST_URL] = (200, {"Content-Type": INDEX}, body)
    assert transfer.fails("copy", "--all", f"{liar.host}/x", f"oci:{tmp_path}/o")["kind"] == "limit"
    assert left(tmp_path) == []
