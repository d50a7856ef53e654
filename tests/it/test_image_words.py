"""What scripts read of pull, push, rmi, inspect, and the flags that they give them."""
import json
import os
import re
import select

import pytest

from liar import Image
from registry_rig import liar  # noqa: F401 (a fixture)


@pytest.fixture
def pushed(fresh_hoy, busybox_tar, registry):
    """The name of an image that is here and in the registry, tagged "words"."""
    name = f"{registry.host}/words:1"
    fresh_hoy("import", busybox_tar, name)
    out = fresh_hoy("push", "--disable-content-trust", name).out
    assert re.search(r"^1: digest: sha256:[0-9a-f]{64} size: \d+$", out, re.M)
    return name


def test_pull_tells_whether_something_came(fresh_hoy, pushed):
    repository = pushed.rsplit(":", 1)[0]
    assert f"Status: Image is up to date for {pushed}\n{pushed}\n" in fresh_hoy("pull", pushed).out
    fresh_hoy("rmi", pushed)
    out = fresh_hoy("pull", "--disable-content-trust", pushed).out
    assert out.startswith("1: Pulling from words\n") and out.endswith(f"Status: Downloaded newer image for {pushed}\n{pushed}\n")
    digest = re.search("sha256:[0-9a-f]{64}", out)[0]
    by_digest = fresh_hoy("pull", f"{repository}@{digest}").out
    assert by_digest.startswith(f"{digest}: Pulling from words\n") and "Image is up to date" in by_digest
    assert fresh_hoy("pull", "-q", pushed).out == f"{pushed}\n"
    assert fresh_hoy("pull", repository, code=1).out.startswith("Using default tag: latest\n")
    for command in "pull", "push":
        assert "not verified" in fresh_hoy(command, "--disable-content-trust=false", pushed, code=1).err
        assert fresh_hoy(command, "-a", pushed, code=1).out == ""


def test_progress_is_told_while_it_happens(fresh_hoy, busybox_tar, liar):  # noqa: F811
    """Also into a pipe: the log of a job."""
    liar.image = Image(layers=[busybox_tar.read_bytes()])

    def late(handler):
        assert liar.wait.wait(60)
        return liar.honest("GET", handler.path)

    liar.routes[f"/v2/x/blobs/{liar.image.layers[0]['digest']}"] = late
    pull = fresh_hoy.popen("pull", f"{liar.host}/x:1", stdout=-1)
    try:
        seen = b""
        while b"Pulling fs layer" not in seen:
            assert select.select([pull.stdout], [], [], 60)[0], seen
            seen += (more := os.read(pull.stdout.fileno(), 4096))
            assert more, seen
    finally:
        liar.wait.set()
    assert pull.wait(60) == 0


def test_push_under_another_name(fresh_hoy, pushed, tmp_path):
    """podman push IMAGE DESTINATION: no name of it stays here."""
    there = pushed.replace("/words:1", "/words/elsewhere:2")
    out = fresh_hoy("push", "--digestfile", tmp_path / "digest", pushed, "docker://" + there).out
    assert f"2: digest: {(tmp_path / 'digest').read_text()} size: " in out
    assert out.startswith(f"The push refers to repository [{there[:-2]}]\n") and "\n2: digest: sha256:" in out
    assert fresh_hoy("image", "tags", there[:-2]).out == "2\n"
    assert fresh_hoy("images", "-q", there).out == ""
    fresh_hoy("tag", pushed, "local")
    fresh_hoy("push", "local", there[:-1] + "3")
    assert sorted(fresh_hoy("image", "tags", there[:-2]).out.split()) == ["2", "3"]
    assert fresh_hoy("image", "inspect", "-f", "{{len .RepoDigests}}", "local").out == "2\n"
    assert "exclude" in fresh_hoy("push", "-a", pushed[:-2], there, code=1).err
    assert "exclude" in fresh_hoy("push", "-a", "--digestfile", "x", pushed[:-2], code=1).err
    assert "no registry's" in fresh_hoy("push", pushed, "dir:/tmp/x", code=1).err


def test_rmi(fresh_hoy, pushed):
    assert "No such image: nosuch" in fresh_hoy("rmi", "-f", "nosuch").err  # docker's: gone is gone
    assert "No such image: nosuch" in fresh_hoy("rmi", "nosuch", pushed, code=1).err
    assert fresh_hoy("images", "-q").out == ""
    fresh_hoy("pull", pushed)
    assert "Deleted" in fresh_hoy("image", "remove", "--no-prune", pushed).out


def test_rmi_of_a_digest_leaves_the_tag(fresh_hoy, pushed):
    digest = fresh_hoy("image", "inspect", "-f", "{{index .RepoDigests 0}}", pushed).out.strip()
    assert fresh_hoy("rmi", digest).out == f"Untagged: {digest}\n"
    assert fresh_hoy("image", "inspect", "-f", "{{.RepoTags}} {{.RepoDigests}}", pushed).out == f"[{pushed}] []\n"
    assert "No such image" in fresh_hoy("rmi", digest, code=1).err
    fresh_hoy("pull", "-q", pushed)
    assert fresh_hoy("image", "inspect", "-f", "{{index .RepoDigests 0}}", pushed).out.strip() == digest


def test_inspect_of_nothing_is_an_empty_list(fresh_hoy, registry):
    for command in ["inspect"], ["image", "inspect"], ["image", "inspect", "--remote"]:
        r = fresh_hoy(*command, f"{registry.host}/nosuch", code=1)
        assert json.loads(r.out) == [] and r.err.count("\n") == 1


def test_names_as_skopeo_has_them(fresh_hoy, pushed):
    assert fresh_hoy("image", "tags", "docker://" + pushed.rsplit(":", 1)[0]).out == "1\n"
    assert fresh_hoy("image", "inspect", "--remote", "-f", "{{.Name}}", "docker://" + pushed).out == pushed + "\n"
    assert "without tag" in fresh_hoy("image", "tags", pushed, code=1).err
    assert fresh_hoy("pull", "-q", "docker://" + pushed).out == pushed + "\n"
    for form in "oci:/tmp/x:1", "docker-archive:/tmp/x":
        assert "is no registry's" in fresh_hoy("image", "inspect", "--remote", form, code=1).err


def test_words_of_groups(fresh_hoy, pushed):
    assert fresh_hoy("image", "list", "-q").out == fresh_hoy("images", "-q").out != ""
    assert '"hoy image rm" requires at least 1 argument' in fresh_hoy("image", "rm", code=1).err
    assert "'list' is not a hoy command" in fresh_hoy("list", code=1).err


def test_import_for_another_platform(fresh_hoy, busybox_tar, tmp_path):
    fresh_hoy("import", "--platform", "linux/arm/v6", busybox_tar, "arm")
    assert fresh_hoy("inspect", "-f", "{{.Os}}/{{.Architecture}}/{{.Variant}}", "arm").out == "linux/arm/v6\n"
    assert "platform" in fresh_hoy("import", "--platform", "a/b/c/d", busybox_tar, code=1).err
    assert "no directory that exists" in fresh_hoy("save", "-o", tmp_path / "no/where", "arm", code=1).err
