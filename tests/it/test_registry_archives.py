"""hoy image copy: oci-archive and docker-archive, --format, credentials of each side; and archives that lie."""
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile

import pytest

from conftest import Hoy
from liar import CONFIG, INDEX, LAYER, MANIFEST, Image, digest
from registry_rig import PASSWORD, leaked, liar, other, seed, transfer  # fixtures among them
from test_registry_copy import raw, two_platforms

DOCKER, DOCKER_LIST = ("application/vnd.docker.distribution.manifest.v2+json",
                       "application/vnd.docker.distribution.manifest.list.v2+json")


def skopeo(*args):
    return subprocess.run(["skopeo", *map(str, args)], capture_output=True, text=True, check=True).stdout


def tar_layer(*names):
    """A layer that is a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 6
            t.addfile(info, io.BytesIO(b"hello\n"))
    return out.getvalue()


class DockerArchive:
    """What docker save wrote of old; every part can be made a lie."""

    def __init__(self, layers=None, tags=("x:1",), names=None):
        self.layers = layers or [tar_layer("etc/a"), tar_layer("bin/b", "bin/c")]
        self.config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                                  "rootfs": {"type": "layers", "diff_ids": [digest(x) for x in self.layers]}}).encode()
        self.names = names or [f"{i}/layer.tar" for i in range(len(self.layers))]
        self.entry = {"Config": digest(self.config)[7:] + ".json", "RepoTags": list(tags), "Layers": list(self.names)}
        self.files = [(self.entry["Config"], self.config), *zip(self.names, self.layers)]
        self.list = None

    def write(self, path, compress=None):
        files = self.files + [("manifest.json", self.list if self.list is not None else json.dumps([self.entry]).encode())]
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as t:
            for name, data in files:
                info = tarfile.TarInfo(name)
                if isinstance(data, str):
                    info.type, info.linkname = tarfile.SYMTYPE, data
                    t.addfile(info)
                else:
                    info.size = len(data)
                    t.addfile(info, io.BytesIO(data))
        path.write_bytes(gzip.compress(out.getvalue()) if compress else out.getvalue())
        return path


def members(path):
    with tarfile.open(path) as t:
        return {m.name: t.extractfile(m).read() for m in t if m.isfile()}


def test_an_oci_archive_there_and_back(transfer, registry, liar, tmp_path):
    index, *_ = two_platforms(liar)
    there = f"oci-archive:{tmp_path}/all.tar:v1"
    assert transfer.ok("copy", "--all", f"{liar.host}/x", there)["digest"] == digest(index)
    assert transfer.ok("copy", "--all", there, f"{registry.host}/archive/all:1")["digest"] == digest(index)
    assert raw(f"{registry.host}/archive/all:1") == index
    found = members(tmp_path / "all.tar")
    assert all(hashlib.sha256(v).hexdigest() == k.split("/")[-1] for k, v in found.items() if k.startswith("blobs/"))
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    transfer.ok("copy", f"{liar.host}/x", there)  # replaced, whole
    assert len(members(tmp_path / "all.tar")) == 5
    assert sorted(x.name for x in tmp_path.iterdir() if "hoy" in x.name) == []


def test_skopeo_reads_ours_and_we_read_skopeo_s(transfer, registry, tmp_path):
    image = Image([tar_layer("etc/a"), tar_layer("bin/b")])
    seed(image, tmp_path, f"{registry.host}/peers:1")
    want = digest(raw(f"{registry.host}/peers:1"))
    transfer.ok("copy", f"{registry.host}/peers:1", f"oci-archive:{tmp_path}/ours.tar:t")
    skopeo("copy", "--dest-tls-verify=false", f"oci-archive:{tmp_path}/ours.tar:t", f"docker://{registry.host}/peers:2")
    assert digest(raw(f"{registry.host}/peers:2")) == want
    skopeo("copy", "--src-tls-verify=false", f"docker://{registry.host}/peers:1", f"oci-archive:{tmp_path}/theirs.tar:t")
    assert transfer.ok("copy", f"oci-archive:{tmp_path}/theirs.tar", f"dir:{tmp_path}/d")["digest"] == want
    for name, tool in (("ours", lambda a, b: transfer.ok("copy", a.replace("docker://", ""), b)),
                       ("theirs", lambda a, b: skopeo("copy", "--src-tls-verify=false", a, b))):
        tool(f"docker://{registry.host}/peers:1", f"docker-archive:{tmp_path}/{name}-d.tar:team/app:3")
    ours, theirs = members(tmp_path / "ours-d.tar"), members(tmp_path / "theirs-d.tar")
    a, b = (json.loads(x["manifest.json"])[0] for x in (ours, theirs))
    assert a == b == {"Config": image.config["digest"][7:] + ".json", "RepoTags": ["docker.io/team/app:3"],
                      "Layers": [hashlib.sha256(x).hexdigest() + ".tar" for x in (tar_layer("etc/a"), tar_layer("bin/b"))]}
    assert all(ours[x] == theirs[x] for x in [a["Config"], *a["Layers"]])
    skopeo("copy", f"docker-archive:{tmp_path}/ours-d.tar:team/app:3", f"dir:{tmp_path}/s1")
    transfer.ok("copy", f"docker-archive:{tmp_path}/theirs-d.tar", f"dir:{tmp_path}/s2")
    one, two = (json.loads((tmp_path / x / "manifest.json").read_text()) for x in ("s1", "s2"))
    assert [x["digest"] for x in one["layers"]] == [x["digest"] for x in two["layers"]] and one["config"] == two["config"]


def test_a_docker_archive_goes_to_a_registry_compressed(transfer, registry, tmp_path):
    """Links between layers (docker's of old), layers that are compressed, an archive that is, and one from a pipe."""
    d = DockerArchive(names=["a/layer.tar", "b/layer.tar"])
    d.files.insert(0, ("c/layer.tar", "../b/layer.tar"))
    d.entry["Layers"][1] = "c/layer.tar"
    path = d.write(tmp_path / "d.tar", compress=True)
    got = transfer.ok("copy", f"docker-archive:{path}", f"{registry.host}/da:1")["digest"]
    doc = json.loads(raw(f"{registry.host}/da:1"))
    assert digest(raw(f"{registry.host}/da:1")) == got and doc["config"]["digest"] == digest(d.config)
    assert {x["mediaType"] for x in doc["layers"]} == {"application/vnd.docker.image.rootfs.diff.tar.gzip"}
    skopeo("copy", "--src-tls-verify=false", f"docker://{registry.host}/da:1", f"docker-archive:{tmp_path}/back.tar:x:1")
    back = members(tmp_path / "back.tar")
    assert [back[x] for x in json.loads(back["manifest.json"])[0]["Layers"]] == d.layers
    d.files = [(n, gzip.compress(x, mtime=0) if n.startswith(("a/", "b/")) else x) for n, x in d.files]
    d.write(tmp_path / "z.tar")
    transfer.ok("copy", f"docker-archive:{tmp_path}/z.tar", f"docker-archive:{tmp_path}/plain.tar")
    assert members(tmp_path / "plain.tar")[digest(d.layers[1])[7:] + ".tar"] == d.layers[1]
    with open(tmp_path / "z.tar", "rb") as f:
        p = subprocess.run([transfer.binary, "--root", transfer.root, "copy", "docker-archive:/dev/stdin", f"dir:{tmp_path}/piped"],
                           stdin=subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE).stdout, capture_output=True, env=transfer.env)
    assert p.returncode == 0, p
    code, _, last = transfer("copy", "--preserve-digests", f"docker-archive:{path}", f"{registry.host}/da:2")
    assert code == 0 and last["result"]["digest"] != got


def test_which_image_of_a_docker_archive(transfer, tmp_path):
    one, two = DockerArchive(tags=["x:1", "team/y:2"]), DockerArchive([tar_layer("z")], tags=[], names=["z.tar"])
    one.files += two.files
    one.list = json.dumps([one.entry, two.entry]).encode()
    path = one.write(tmp_path / "two.tar")
    assert "say which" in transfer.fails("copy", f"docker-archive:{path}", f"dir:{tmp_path}/d")["message"]
    for number, (ref, want) in enumerate([("team/y:2", one), ("docker.io/library/x:1", one), ("@1", two), ("@0", one)]):
        transfer.ok("copy", f"docker-archive:{path}:{ref}", f"dir:{tmp_path}/{number}")
        assert json.loads((tmp_path / str(number) / "manifest.json").read_text())["config"]["digest"] == digest(want.config)
    assert transfer.fails("copy", f"docker-archive:{path}:none", f"dir:{tmp_path}/d")["kind"] == "not_found"
    assert transfer.fails("copy", f"docker-archive:{path}:@7", f"dir:{tmp_path}/d")["kind"] == "invalid"


def test_what_stands_there_is_not_lost(transfer, liar, tmp_path):
    (tmp_path / "kept.tar").write_bytes(b"mine")
    error = transfer.fails("copy", f"{liar.host}/x", f"docker-archive:{tmp_path}/kept.tar")
    assert error["kind"] == "exists" and (tmp_path / "kept.tar").read_bytes() == b"mine"
    liar.routes[f"/v2/x/blobs/{liar.image.layers[1]['digest']}"] = (404, {}, b"")
    transfer.fails("copy", f"{liar.host}/x", f"oci-archive:{tmp_path}/kept.tar")
    assert (tmp_path / "kept.tar").read_bytes() == b"mine" and not [x for x in tmp_path.iterdir() if x.name.startswith(".hoy")]
    (tmp_path / "dir.tar").mkdir()
    assert "no regular file" in transfer.fails("copy", f"{liar.host}/x", f"oci-archive:{tmp_path}/dir.tar")["message"]
    for form in ("docker-archive", "oci-archive"):
        assert "wanted" in transfer.fails("copy", f"{liar.host}/x", f"{form}:")["message"]


def test_formats(transfer, registry, liar, tmp_path):
    """OCI and docker's schema 2 into each other, as skopeo has it; blobs stay."""
    seed(Image([tar_layer("a")]), tmp_path, f"{registry.host}/form:1")
    oci = json.loads(raw(f"{registry.host}/form:1"))
    result = transfer.ok("copy", "--format", "v2s2", f"{registry.host}/form:1", f"{registry.host}/form:docker")
    body = raw(f"{registry.host}/form:docker")
    doc = json.loads(body)
    assert result["digest"] == digest(body) and doc["mediaType"] == DOCKER
    assert [x["digest"] for x in doc["layers"]] == [x["digest"] for x in oci["layers"]]
    skopeo("copy", "--src-tls-verify=false", "--format", "v2s2", f"docker://{registry.host}/form:1", f"dir:{tmp_path}/s")
    assert json.loads((tmp_path / "s/manifest.json").read_text()) == doc
    back = transfer.ok("copy", "--format", "oci", f"{registry.host}/form:docker", f"oci-archive:{tmp_path}/o.tar")["digest"]
    again = json.loads(members(tmp_path / "o.tar")[f"blobs/sha256/{back[7:]}"])
    assert again["mediaType"] == MANIFEST and again["config"] == oci["config"] and again["layers"] == oci["layers"]
    assert "cannot have its digest" in transfer.fails("copy", "--preserve-digests", "--format", "v2s2", f"{registry.host}/form:1",
                                                      f"{registry.host}/form:no")["message"]
    transfer.ok("copy", "--preserve-digests", "--format", "oci", f"{registry.host}/form:1", f"{registry.host}/form:same")
    assert transfer.fails("copy", "--format", "v2s1", f"{registry.host}/form:1", f"dir:{tmp_path}/n")["kind"] == "unsupported"
    index, amd, arm, note = two_platforms(liar)
    assert transfer.fails("copy", "--all", "--format", "v2s2", f"{liar.host}/x", f"dir:{tmp_path}/n")["kind"] == "unsupported"
    doc = json.loads(index)
    doc["manifests"].pop()  # without the attestation
    liar.routes["/v2/x/manifests/latest"] = (200, {"Content-Type": INDEX}, json.dumps(doc).encode())
    transfer.ok("copy", "--all", "--format", "v2s2", f"{liar.host}/x", f"{registry.host}/form:list")
    made = json.loads(raw(f"{registry.host}/form:list"))
    assert made["mediaType"] == DOCKER_LIST and {x["mediaType"] for x in made["manifests"]} == {DOCKER}
    for part in made["manifests"]:
        body = raw(f"{registry.host}/form@{part['digest']}")
        assert len(body) == part["size"] and json.loads(body)["mediaType"] == DOCKER
    liar.image.doc = Image([b"x"]).doc
    zstd = Image([b"x"])
    zstd.layers[0]["mediaType"] = LAYER.replace("gzip", "zstd")
    liar.image, liar.routes = zstd, {}
    assert "zstd" in transfer.fails("copy", "--format", "v2s2", f"{liar.host}/x", f"dir:{tmp_path}/n")["message"]


def test_an_artifact_is_no_docker_archive(transfer, liar, tmp_path):
    image = Image([])
    image.doc["config"] = image.add(b"{}", "application/vnd.oci.empty.v1+json")
    image.doc["layers"] = [image.add(b"rocket", "application/vnd.acme.rocket")]
    liar.image = image
    error = transfer.fails("copy", f"{liar.host}/x", f"docker-archive:{tmp_path}/a.tar")
    assert error["kind"] == "unsupported" and not (tmp_path / "a.tar").exists()
    assert transfer.ok("copy", f"{liar.host}/x", f"oci-archive:{tmp_path}/a.tar")["digest"] == digest(image.manifest())


# --- archives that lie: (how, kind of error, words)

def lie_double(d):
    d.files.append((d.names[0], tar_layer("evil")))


def lie_double_manifest(d):
    d.files.append(("manifest.json", b"[]"))


def lie_giant_manifest(d):
    d.list = b"[" + b" " * (5 << 20) + b"]"


def lie_deep_manifest(d):
    d.list = b"[" * 100000


def lie_outside(d):
    d.entry["Layers"][0] = "../../../../etc/passwd"


def lie_absolute(d):
    d.entry["Config"] = "/etc/passwd"


def lie_link_outside(d):
    d.files = [(n, "../../../../etc/shadow" if n == d.names[0] else x) for n, x in d.files]


def lie_link_circle(d):
    d.files = [(n, {d.names[0]: "../1/layer.tar", d.names[1]: "../0/layer.tar"}.get(n, x)) for n, x in d.files]


def lie_wrong_layer(d):
    d.files = [(n, tar_layer("evil") if n == d.names[0] else x) for n, x in d.files]


def lie_fewer_layers(d):
    d.entry["Layers"].pop()


def lie_many_layers(d):
    d.entry["Layers"] = d.entry["Layers"] * 2000


def lie_numbers(d):
    d.entry["Layers"] = [1, 2]


def lie_no_config(d):
    del d.entry["Config"]


def lie_no_list(d):
    d.list = b'{"Config":"x"}'


def lie_empty_list(d):
    d.list = b"[]"


def lie_bomb(d):
    d.files = [(n, gzip.compress(bytes(64)) * 40000 if n == d.names[0] else x) for n, x in d.files]


ARCHIVE_LIES = {
    lie_double: ("invalid", "stands there twice"), lie_double_manifest: ("invalid", "stands there twice"),
    lie_giant_manifest: ("limit", "at most"), lie_deep_manifest: ("limit", "levels"), lie_outside: ("not_found", "is missing"),
    lie_absolute: ("not_found", "is missing"), lie_link_outside: ("not_found", "is missing"), lie_link_circle: ("invalid", "circle"),
    lie_wrong_layer: ("corrupt", "digest mismatch"), lie_fewer_layers: ("invalid", "names 1 layers"),
    lie_many_layers: ("invalid", "layers"), lie_numbers: ("invalid", "has no name"), lie_no_config: ("not_found", "missing"),
    lie_no_list: ("invalid", "lists no image"), lie_empty_list: ("invalid", "lists no image"), lie_bomb: ("corrupt", "digest mismatch"),
}


@pytest.mark.parametrize("lie", ARCHIVE_LIES, ids=lambda f: f.__name__)
def test_docker_archives_that_lie(transfer, registry, tmp_path, lie):
    kind, words = ARCHIVE_LIES[lie]
    d = DockerArchive()
    lie(d)
    path = d.write(tmp_path / "lie.tar")
    for to in (f"dir:{tmp_path}/out", f"{registry.host}/lie:1"):
        error = transfer.fails("copy", f"docker-archive:{path}", to)
        assert error["kind"] == kind and words in error["message"] and "lie.tar" in error["message"], error
    assert not transfer.blobs() and not (tmp_path / "out/manifest.json").exists()


@pytest.mark.parametrize("data,words", [
    (b"", ""), (b"PK\x03\x04" + bytes(2000), ""), (gzip.compress(b"x" * 3000)[:-9], ""), (bytes(10240), "missing"),
    (tar_layer("a")[:700], ""), (gzip.compress(bytes(1 << 21)), "missing"),
])
def test_what_is_no_archive(transfer, tmp_path, data, words):
    (tmp_path / "bad.tar").write_bytes(data)
    for form in ("docker-archive", "oci-archive"):
        error = transfer.fails("copy", f"{form}:{tmp_path}/bad.tar", f"dir:{tmp_path}/out")
        assert words in error["message"] and "bad.tar" in error["message"]
    assert transfer.fails("copy", f"oci-archive:{tmp_path}", f"dir:{tmp_path}/out")["kind"] == "invalid"
    assert transfer.fails("copy", f"oci-archive:{tmp_path}/none", f"dir:{tmp_path}/out")["kind"] == "not_found"


def rewrite(path, change):
    """The archive again, each file through change(name, bytes) -> bytes or None."""
    found = members(path)
    with tarfile.open(path, "w") as t:
        for name, data in found.items():
            data = change(name, data)
            if data is not None:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("lie,kind", [
    (lambda n, x, layer: b"?" * len(x) if layer in n else x, "corrupt"), (lambda n, x, layer: x + b"?" if layer in n else x, "corrupt"),
    (lambda n, x, layer: None if layer in n else x, "not_found"), (lambda n, x, layer: b"{}" if n == "index.json" else x, "invalid"),
    (lambda n, x, layer: x.replace(b"sha256:", b"sha256:../../x") if n == "index.json" else x, "invalid"),
    (lambda n, x, layer: None if n == "index.json" else x, "not_found"),
])
def test_oci_archives_that_lie(transfer, liar, tmp_path, lie, kind):
    transfer.ok("copy", f"{liar.host}/x", f"oci-archive:{tmp_path}/l.tar")
    subprocess.run(["rm", "-r", transfer.root], check=True)
    rewrite(tmp_path / "l.tar", lambda n, x: lie(n, x, liar.image.layers[0]["digest"][7:]))
    assert transfer.fails("copy", f"oci-archive:{tmp_path}/l.tar", f"dir:{tmp_path}/out")["kind"] == kind
    assert not (tmp_path / "out/manifest.json").exists()


def test_a_registry_s_lie_makes_no_archive(transfer, liar, tmp_path):
    """The configuration says other diff ids than the layers have: a docker-archive would carry them under wrong names."""
    liar.image.config = liar.image.doc["config"] = liar.image.add(json.dumps({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(b"1"), digest(b"2")]}}).encode(), CONFIG)
    error = transfer.fails("copy", f"{liar.host}/x", f"docker-archive:{tmp_path}/a.tar")
    assert error["kind"] == "corrupt" and "the configuration says" in error["message"] and not (tmp_path / "a.tar").exists()


# --- the command line

@pytest.fixture
def lone(tmp_path):
    h = Hoy(tmp_path)
    h.env.update(DOCKER_CONFIG=str(tmp_path / "docker"), HOY_DOCKER_CONF="/nonexistent")
    yield h
    h.any("system", "reset", "--force")


def want_basic(server, value):
    honest = server.honest
    server.honest = lambda m, p: honest(m, p) if server.headers.get("Authorization") == value else \
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")


def test_credentials_on_the_command_line_go_to_their_side(lone, liar, other, tmp_path):
    want_basic(liar, "Basic am9lOnM6Mw==")  # joe:s:3
    lone("image", "copy", "--src-creds", "joe:s:3", f"{liar.host}/x", f"oci:{tmp_path}/o", "--digestfile", tmp_path / "digest")
    assert (tmp_path / "digest").read_text() == digest(liar.image.manifest())
    lone.any("image", "copy", "--src-creds", "joe:s:3", f"{liar.host}/x", f"{other.host}/y")
    assert other.seen and not leaked(other)
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {liar.host: {"auth": "am9lOnM6Mw=="}}}))
    for option in ("--authfile", "--src-authfile"):
        lone("image", "copy", option, tmp_path / "auth.json", f"{liar.host}/x", f"oci:{tmp_path}/o")
    assert lone.any("image", "copy", "--dest-authfile", tmp_path / "auth.json", f"{liar.host}/x", f"oci:{tmp_path}/o").code == 1
    assert "no-such" in lone("image", "copy", "--authfile", tmp_path / "no-such", f"{liar.host}/x", f"oci:{tmp_path}/o", code=1).err
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text((tmp_path / "auth.json").read_text())
    lone("image", "copy", f"{liar.host}/x", f"oci:{tmp_path}/o")
    assert lone.any("image", "copy", "--src-no-creds", f"{liar.host}/x", f"oci:{tmp_path}/o").code == 1
    assert "exclude" in lone("image", "copy", "--src-no-creds", "--src-creds", "a:b", "x", f"oci:{tmp_path}/o", code=1).err


def test_an_archive_through_the_command_line(lone, liar, tmp_path):
    liar.image = Image([tar_layer("etc/a")])
    lone("image", "copy", "--src-tls-verify=false", f"{liar.host}/x", f"docker-archive:{tmp_path}/a.tar:{liar.host}/x:1")
    assert "Loaded image" in lone("load", "-i", tmp_path / "a.tar").out
    assert lone("image", "inspect", "-f", "{{.Id}}", f"{liar.host}/x:1").out.strip() == liar.image.config["digest"]
    with open(tmp_path / "a.tar") as f:
        p = subprocess.run([lone.binary, "image", "copy", "-q", "docker-archive:/dev/stdin", f"dir:{tmp_path}/d"], stdin=f, text=True,
                           env=lone.env, capture_output=True)
    assert p.returncode == 0 and p.stdout.startswith("sha256:"), p
    assert os.listdir(lone.root / "tmp") == []
