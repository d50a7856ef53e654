"""Images as lists: docker's filters, columns and templates; the history's columns."""
import json
import re

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


def test_a_name_that_is_only_a_digest(lists, registry):
    lists("tag", "app", f"{registry.host}/app:1")
    lists("push", f"{registry.host}/app:1")
    digest = lists("images", "--digests", "--format", "{{.Digest}}", f"{registry.host}/app").out.strip()
    lists("rmi", f"{registry.host}/app:1", "app")
    lists("pull", f"{registry.host}/app@{digest}")
    assert names(lists, f"{registry.host}/app") == [f"{registry.host}/app:<none>"]
    assert f"{registry.host}/app:<none>" in names(lists, "-f", "dangling=true")
    lists("pull", f"{registry.host}/app:1")
    found = json.loads(lists("image", "inspect", f"{registry.host}/app:1").out)[0]
    assert found["RepoDigests"] == [f"{registry.host}/app@{digest}"] and found["Metadata"]["LastTagTime"].startswith("20")


def test_history_for_scripts(lists):
    rows = [json.loads(x) for x in lists("history", "--format", "json", "app").out.splitlines()]
    assert sorted(rows[0]) == ["Comment", "CreatedAt", "CreatedBy", "CreatedSince", "ID", "Size"]
    table = lists("history", "--human=false", "app").out.splitlines()
    assert table[0].split() == ["IMAGE", "CREATED", "AT", "CREATED", "BY", "SIZE", "COMMENT"]
    assert re.search(r"\d{4}-\d\d-\d\dT\S+Z .* \d{5,} ", table[-1] + " ")
    assert "ago" in lists("history", "-H", "app").out
