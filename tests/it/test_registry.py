"""hoy-transfer against docker-registry: what goes and comes is what another tool sees."""
import json
import os
import subprocess

import pytest

from conftest import free_port
from liar import INDEX, Image, digest
from registry_rig import liar, seed, transfer  # fixtures among them


def test_pull_what_another_tool_pushed(transfer, registry, tmp_path):
    image = Image()
    name = f"{registry.host}/team/app:1"
    seed(image, tmp_path, name)
    code, lines, last = transfer("pull", name)
    want = digest(image.manifest())
    assert code == 0 and last["result"]["digest"] == want and last["result"]["manifest"] == want
    assert last["result"]["size"] == len(image.manifest()) + sum(map(len, image.blobs.values()))
    assert set(transfer.blobs()) == {x[7:] for x in [*image.blobs, want]}
    for layer in image.layers:
        mine = [x["status"] for x in lines if x.get("id") == layer["digest"][7:19]]
        assert mine[0] == "Pulling fs layer" and mine[-1] == "Download complete"
    usable = {x["layer"]: x for x in lines if "layer" in x}
    diff_ids = json.loads(image.blobs[image.config["digest"]])["rootfs"]["diff_ids"]
    assert [usable[x["digest"]]["diff_id"] for x in image.layers] == diff_ids
    transfer.check()
    again = [x for x in transfer("pull", name)[1] if "id" in x]
    assert {x["status"] for x in again} == {"Pulling fs layer", "Already exists"}
    assert transfer.ok("pull", f"{registry.host}/team/app@{want}")["digest"] == want


def test_push_is_seen_by_another_tool(transfer, registry, tmp_path):
    image = Image()
    seed(image, tmp_path, f"{registry.host}/from:1")
    got = transfer.ok("pull", f"{registry.host}/from:1")["digest"]
    code, lines, last = transfer("push", f"{registry.host}/to/there:2", got)
    assert code == 0 and last["result"]["digest"] == got and last["result"]["size"] == len(transfer.blobs()[got[7:]])
    assert "Pushed" in {x["status"] for x in lines}
    raw = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/to/there:2"],
                         check=True, capture_output=True).stdout
    assert digest(raw) == got
    assert {x["status"] for x in transfer("push", f"{registry.host}/to/there:3", got)[1]} == {"Layer already exists"}


def test_docker_schema_2(transfer, registry, tmp_path):
    seed(Image(), tmp_path, f"{registry.host}/v2s2:1", "--format=v2s2")
    got = transfer.ok("pull", f"{registry.host}/v2s2:1")["manifest"]
    doc = json.loads(transfer.blobs()[got[7:]])
    assert doc["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert transfer.ok("push", f"{registry.host}/v2s2:2", got)["digest"] == got


def test_many_layers_at_once(transfer, registry, tmp_path):
    image = Image([os.urandom(300000 + i) for i in range(12)] + [b""])
    seed(image, tmp_path, f"{registry.host}/many:1")
    transfer.ok("pull", f"{registry.host}/many:1")
    assert len(transfer.blobs()) == 15
    transfer.check()


def test_index_round_trip(transfer, registry, liar):
    """An index goes up with the manifest we have once the registry has the other one."""
    amd, arm = Image([b"amd"]), Image([b"arm"], arch="arm64")
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX,
                        "manifests": [arm.descriptor("arm64"), amd.descriptor("amd64")]}).encode()
    liar.image.blobs = {**amd.blobs, **arm.blobs}
    for body in (amd.manifest(), arm.manifest(), index):
        liar.more[digest(body)] = body
    liar.routes["/v2/x/manifests/latest"] = (200, {"Content-Type": INDEX}, index)
    result = transfer.ok("pull", f"{liar.host}/x")
    assert result["digest"] == digest(index) and result["manifest"] == digest(amd.manifest())
    assert arm.layers[0]["digest"][7:] not in transfer.blobs()
    error = transfer.fails("push", f"{registry.host}/index:1", result["digest"])
    assert error["kind"] == "not_found" and digest(arm.manifest()) in error["message"]
    result = transfer.ok("pull", "--platform", "linux/arm64", f"{liar.host}/x")
    assert result["manifest"] == digest(arm.manifest())
    transfer.ok("push", f"{registry.host}/index:1", digest(index))
    raw = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/index:1"],
                         check=True, capture_output=True).stdout
    assert raw == index


@pytest.mark.parametrize("wanted, parts, place", [
    ("linux/arm64", [("arm", "v6"), ("arm", "v7")], 1),  # an older machine's programs run, too
    ("linux/arm/v6", [("arm", "v7"), ("arm", "v6")], 1),  # whose configuration says nothing of v6
    ("linux/amd64/v3", [("arm64", None), ("amd64", None)], 1),
    (None, [("arm64", None), (None, None)], 1),  # a part for all
    ("linux/amd64", [(None, None), ("amd64", None)], 1),
])
def test_the_part_that_fits(transfer, liar, wanted, parts, place):
    images = [Image([arch.encode() + b" layer" if arch else b"any"], arch=arch or "amd64") for arch, _ in parts]
    entries = []
    for image, (arch, variant) in zip(images, parts):
        image.doc["annotations"] = {"n": str(len(entries))}
        entry = image.descriptor(arch)
        entry["platform"].update({"variant": variant} if variant else {})
        if not arch:
            del entry["platform"]
        entries.append(entry)
        liar.more[digest(image.manifest())] = image.manifest()
        liar.image.blobs.update(image.blobs)
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    liar.routes["/v2/x/manifests/latest"] = (200, {"Content-Type": INDEX}, index)
    result = transfer.ok("pull", *(["--platform", wanted] if wanted else []), f"{liar.host}/x")
    assert result["manifest"] == entries[place]["digest"]


def test_not_there(transfer, registry, tmp_path):
    seed(Image(), tmp_path, f"{registry.host}/some:1")
    error = transfer.fails("pull", f"{registry.host}/some:2")
    assert error["kind"] == "not_found" and f"manifest for {registry.host}/some:2 not found: manifest unknown" in error["message"]
    assert transfer.fails("pull", f"{registry.host}/none:2")["kind"] == "not_found"
    assert transfer.fails("push", f"{registry.host}/some:3", digest(b"nothing"))["kind"] == "not_found"
    assert transfer.blobs() == {}


def test_dead_registry(transfer):
    error = transfer.fails("pull", f"127.0.0.1:{free_port()}/x")
    assert error["kind"] == "unavailable" and "connection refused" in error["message"]


def test_damaged_blobs_are_mended(transfer, liar):
    transfer.ok("pull", f"{liar.host}/x")
    for key in (digest(liar.image.manifest()), liar.image.layers[0]["digest"]):
        path = transfer.root / "blobs/sha256" / key[7:]
        path.chmod(0o600)
        path.write_bytes(b"bit rot")
    transfer.ok("pull", f"{liar.host}/x")
    transfer.check()


def test_a_lie_about_a_size_does_not_remove_what_we_have(transfer, liar):
    transfer.ok("pull", f"{liar.host}/x")
    before = transfer.blobs()
    liar.image.layers[0]["size"] -= 1
    assert transfer.fails("pull", f"{liar.host}/x:2")["kind"] == "corrupt"
    assert transfer.blobs() == before


# --- the command line


@pytest.mark.parametrize("args", [[], ["pull"], ["pull", "a", "b"], ["push", "x"], ["frobnicate", "x"], ["pull", "--bogus", "x"],
                                  ["pull", "UPPER"], ["push", "x", "notadigest"], ["login"], ["--platform"]])
def test_usage_errors(transfer, args):
    assert transfer.fails(*args)["kind"] == "invalid"
