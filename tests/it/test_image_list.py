"""Images as lists: docker's filters, columns and templates; the history's columns."""
import json
import re
import subprocess
import tarfile
import time

import pytest

MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \w+")


@pytest.fixture
def lists(fresh_hoy, busybox_tar, tmp_path):
    """team/base:1, app:latest made of it with labels, and one without a name."""
    fresh_hoy("import", busybox_tar, "team/base:1")
    fresh_hoy("import", "-c", "ENV X=1", busybox_tar, "gone")
    fresh_hoy("import", "-c", "ENV X=2", busybox_tar, "gone")
    fresh_hoy("rmi", "gone")
    (tmp_path / "Dockerfile").write_text("FROM team/base:1\nLABEL tier=web owner=me\n")
    fresh_hoy("build", "-q", "-t", "app", tmp_path)
    return fresh_hoy


def names(hoy, *args):
    return hoy("images", "--format", "{{.Repository}}:{{.Tag}}", *args).out.split()


@pytest.mark.parametrize("args,want", [
    (["-f", "label=tier"], ["app:latest"]),
    (["-f", "label=tier=web"], ["app:latest"]),
    (["-f", "label=tier=db"], []),
    (["-f", "label=tier=web", "-f", "label=owner=me"], ["app:latest"]),
    (["-f", "label=tier=web", "-f", "label=owner=you"], []),
    (["-f", "label!=tier"], ["<none>:<none>", "team/base:1"]),
    (["-f", "reference=ap*"], ["app:latest"]),
    (["-f", "reference=*/base"], ["team/base:1"]),
    (["-f", "reference=*"], ["app:latest"]),
    (["-f", "reference=docker.io/team/base:1"], ["team/base:1"]),
    (["-f", "reference=app", "-f", "reference=team/base:*"], ["app:latest", "team/base:1"]),
    (["app:l*"], ["app:latest"]),
    (["nosuch"], []),
    (["-f", "dangling=true"], ["<none>:<none>"]),
    (["-f", "dangling=false"], ["app:latest", "team/base:1"]),
    (["-f", "since=team/base:1", "-f", "dangling=false"], ["app:latest"]),
    (["-f", "before=app", "-f", "dangling=0"], ["team/base:1"]),
    (["-f", "before=team/base:1"], []),
    (["-f", "until=1971-01-01T00:00:00Z"], []),
])
def test_filters(lists, args, want):
    assert sorted(names(lists, *args)) == want


def test_filters_that_mean_nothing_are_errors(lists):
    for bad, why in [("dangling=maybe", "expected true or false"), ("size=1", "invalid filter 'size'"), ("label", "bad format of filter"),
                     ("before=nosuch", "No such image: nosuch"), ("until=tomorrow", "tomorrow")]:
        assert why in lists("images", "-f", bad, code=1).err


def test_columns(lists):
    row = json.loads(lists("images", "--format", "json", "app").out)
    assert sorted(row) == ["Containers", "CreatedAt", "CreatedSince", "Digest", "ID", "Repository", "SharedSize", "Size", "Tag", "UniqueSize",
                           "VirtualSize"]
    assert MOMENT.fullmatch(row["CreatedAt"]) and row["Digest"].startswith("sha256:") and row["VirtualSize"].startswith(row["Size"][:3])
    assert MOMENT.search(lists("images", "--format", "table {{.Tag}}\t{{.CreatedAt}}").out)


def test_a_name_that_is_only_a_digest(lists, registry, tmp_path):
    lists("tag", "app", f"{registry.host}/app:1")
    lists("push", f"{registry.host}/app:1")
    digest = lists("images", "--digests", "--format", "{{.Digest}}", f"{registry.host}/app").out.strip()
    lists("rmi", f"{registry.host}/app:1", "app")
    lists("pull", f"{registry.host}/app@{digest}")
    assert names(lists, f"{registry.host}/app") == [f"{registry.host}/app:<none>"]
    assert f"{registry.host}/app:<none>" in names(lists, "-f", "dangling=true")
    lists("pull", f"{registry.host}/app:1@{digest}")  # as those write who pin
    assert names(lists, f"{registry.host}/app") == [f"{registry.host}/app:<none>"]
    found = json.loads(lists("image", "inspect", f"{registry.host}/app:1@{digest}").out)[0]
    assert found["RepoTags"] == [] and found["RepoDigests"] == [f"{registry.host}/app@{digest}"]
    lists("save", "-o", tmp_path / "pinned.tar", f"{registry.host}/app:1@{digest}")
    assert json.load(tarfile.open(tmp_path / "pinned.tar").extractfile("manifest.json"))[0]["RepoTags"] == []
    lists("pull", f"{registry.host}/app:1")
    found = json.loads(lists("image", "inspect", f"{registry.host}/app:1").out)[0]
    assert found["RepoDigests"] == [f"{registry.host}/app@{digest}"] and found["Metadata"]["LastTagTime"].startswith("20")
    assert found["DockerVersion"] == "" and found["Container"] == ""  # templates of docker's time name them


def test_history_for_scripts(lists):
    rows = [json.loads(x) for x in lists("history", "--format", "json", "app").out.splitlines()]
    assert sorted(rows[0]) == ["Comment", "CreatedAt", "CreatedBy", "CreatedSince", "ID", "Size"]
    table = lists("history", "--human=false", "app").out.splitlines()
    assert table[0].split() == ["IMAGE", "CREATED", "AT", "CREATED", "BY", "SIZE", "COMMENT"]
    assert re.search(r"\d{4}-\d\d-\d\dT\S+Z .* \d{5,} ", table[-1] + " ")
    assert "ago" in lists("history", "-H", "app").out


@pytest.fixture
def two_forms(lists, registry):
    """One image in gzip as NAME:g and in zstd as NAME:z of the registry; neither is here."""
    name = f"{registry.host}/forms"
    lists("tag", "app", f"{name}:g")
    lists("tag", "app", f"{name}:z")
    lists("push", f"{name}:g")
    lists("push", "--compression-format", "zstd", f"{name}:z")
    lists("rmi", f"{name}:g", f"{name}:z", "app")
    lists("system", "prune", "-af")
    return name


def test_an_image_that_comes_in_another_compression_leaves_none_behind(lists, two_forms, registry):
    lists("pull", f"{two_forms}:g")
    identity = lists("images", "-q", "--no-trunc").out
    subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{two_forms}:z",
                    f"docker://{two_forms}:g"], check=True, capture_output=True)
    lists("pull", f"{two_forms}:g")
    assert names(lists) == [f"{two_forms}:g"] and lists("images", "-q", "--no-trunc").out == identity
    assert lists("images", "-qf", "dangling=true").out == ""
    assert lists("run", "--rm", f"{two_forms}:g", "echo", "ok").out == "ok\n"


def test_one_id_in_two_compressions(lists, two_forms):
    for form in "gz":
        lists("pull", f"{two_forms}:{form}")
    identity = lists("images", "-q", "--no-trunc").out.split()
    assert len(identity) == 1
    assert "referenced in multiple repositories" in lists("rmi", identity[0], code=1).err
    out = lists("rmi", f"{two_forms}:g").out
    assert out == f"Untagged: {two_forms}:g\n" and names(lists) == [f"{two_forms}:z"]
    assert lists("run", "--rm", identity[0], "echo", "ok").out == "ok\n"
    lists("pull", f"{two_forms}:g")
    out = lists("rmi", "-f", identity[0]).out
    assert out.count("Untagged") == 2 and out.count(f"Deleted: {identity[0]}") == 1
    assert names(lists) == [] and not list((lists.root / "blobs/sha256").iterdir())


def test_a_load_without_a_name_of_what_has_one(lists, two_forms, tmp_path):
    lists("pull", f"{two_forms}:g")
    identity = lists("images", "-q", "--no-trunc").out.strip()
    lists("save", "-o", tmp_path / "gzip.tar", identity)
    lists("rmi", f"{two_forms}:g")
    lists("load", "-i", tmp_path / "gzip.tar")
    assert names(lists) == ["<none>:<none>"]
    lists("pull", f"{two_forms}:z")
    assert names(lists) == [f"{two_forms}:z"]
    assert lists("load", "-i", tmp_path / "gzip.tar").out == f"Loaded image ID: {identity}\n"
    assert names(lists) == [f"{two_forms}:z"]
    assert "Deleted" in lists("rmi", identity).out


def test_prune_until_keeps_what_was_made_or_came_just_now(lists):
    """An import's time is that of its newest file, a build's that of its base."""
    before = sorted(names(lists))
    for age in "10m", "1h":
        for command in (["image", "prune", "-af"], ["system", "prune", "-af"]):
            lists(*command, "--filter", f"until={age}")
            assert sorted(names(lists)) == before
    assert names(lists, "-f", "until=10m") == []
    time.sleep(1.1)
    assert sorted(names(lists, "-f", "until=1s")) == before
    lists("image", "prune", "-af", "--filter", "until=1s")
    assert names(lists) == []
