"""Short names: aliases, search registries, short-name-mode; and that no member of the files is passed over in silence."""
import os
import pty
import subprocess

import pytest

from conftest import Hoy
from liar import Image
from registry_rig import liar, other, rest_of, transfer  # fixtures among them


@pytest.fixture
def lone(tmp_path):
    """hoy with an empty root and configuration files of its own."""
    h = Hoy(tmp_path)
    h.conf = tmp_path / "registries.conf"
    h.env.update(CONTAINERS_REGISTRIES_CONF=str(h.conf), XDG_CACHE_HOME=str(tmp_path / "cache"), DOCKER_CONFIG=str(tmp_path / "docker"),
                 HOY_DOCKER_CONF="/nonexistent")
    yield h
    h.any("system", "reset", "--force")


def runnable(server):
    """An image that can be pulled whole: its layer is a tar."""
    server.image = Image([bytes(10240)])


def test_an_alias_says_which_registry(lone, liar):
    lone.conf.write_text(f"[aliases]\ntool = '{liar.host}/deep/tool'\n")
    runnable(liar)
    assert lone("pull", "tool").out.endswith(f"{liar.host}/deep/tool:latest\n")
    assert lone("pull", "-q", "tool:2").out == f"{liar.host}/deep/tool:2\n"
    assert lone("image", "inspect", "-f", "{{.RepoTags}}", "tool").out.count(f"{liar.host}/deep/tool:latest") == 1
    lone("tag", "tool", "own")
    assert "own" in lone("images", "--format", "{{.Repository}}").out
    assert f"Untagged: {liar.host}/deep/tool:2" in lone("rmi", "tool:2").out
    assert lone("image", "inspect", "--remote", "-f", "{{.Name}}", "tool").out == f"{liar.host}/deep/tool:latest\n"


def test_what_has_docker_s_name_here_goes_before(lone, liar):
    lone.conf.write_text(f"[aliases]\ntool = '{liar.host}/deep/tool'\n")
    runnable(liar)
    lone("pull", "tool:1")
    lone("tag", "tool:1", "tool")
    assert "docker.io" not in lone("image", "inspect", "-f", "{{.RepoTags}}", "tool:1").out
    assert "Untagged: tool:latest" in lone("rmi", "tool").out


def test_search_registries_are_asked_in_order(lone, liar, other):
    lone.conf.write_text(f"unqualified-search-registries = ['{other.host}', '{liar.host}']\n")
    runnable(liar)
    other.routes["/v2/tool/manifests/latest"] = (404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
    assert lone("pull", "-q", "tool").out == f"{liar.host}/tool:latest\n"
    assert [x for x in other.seen if "tool" in x[1]]
    liar.routes["/v2/none/manifests/latest"] = other.routes["/v2/none/manifests/latest"] = other.routes["/v2/tool/manifests/latest"]
    err = lone("pull", "none", code=1).err
    assert err.count("\n") == 1 and f"{other.host}/none:latest: " in err and f"{liar.host}/none:latest: " in err


def test_enforcing_is_an_error_without_a_terminal(lone, liar, other):
    lone.conf.write_text(f"short-name-mode = 'enforcing'\nunqualified-search-registries = ['{other.host}', '{liar.host}']\n")
    err = lone("pull", "tool", code=1).err
    assert "several registries" in err and f"write {other.host}/tool:latest" in err and not other.seen and not liar.seen
    lone.conf.write_text(f"short-name-mode = 'enforcing'\nunqualified-search-registries = ['{liar.host}']\n")
    runnable(liar)
    assert lone("pull", "-q", "tool").out == f"{liar.host}/tool:latest\n"


def test_at_a_terminal_the_answer_is_remembered(lone, liar, other, tmp_path):
    lone.conf.write_text(f"unqualified-search-registries = ['{other.host}', '{liar.host}']\n")
    (tmp_path / "cache").mkdir()
    runnable(liar)
    master, slave = pty.openpty()
    p = subprocess.Popen([lone.binary, "pull", "-q", "tool:5"], env=lone.env, stdin=slave, stderr=slave, stdout=subprocess.PIPE, text=True)
    os.close(slave)
    os.write(master, b"9\n2\n")
    assert p.communicate(timeout=60)[0] == f"{liar.host}/tool:5\n" and p.returncode == 0
    shown = rest_of(master)
    assert f"2  {liar.host}/tool:5" in shown and not other.seen
    assert f'"tool" = "{liar.host}/tool"' in (tmp_path / "cache/containers/short-name-aliases.conf").read_text()
    assert lone("pull", "-q", "tool").out == f"{liar.host}/tool:latest\n"


def test_a_container_is_of_what_the_name_stood_for(lone, liar):
    lone.conf.write_text(f"[aliases]\ntool = '{liar.host}/deep/tool'\n")
    runnable(liar)
    lone("create", "--name", "cc", "tool", "/bin/true")
    assert lone("inspect", "-f", "{{.Config.Image}}", "cc").out == f"{liar.host}/deep/tool:latest\n"
    lone("rm", "cc")


def test_builds_and_pushes_follow_the_alias(lone, liar, tmp_path):
    lone.conf.write_text(f"[aliases]\ntool = '{liar.host}/deep/tool'\n")
    runnable(liar)
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM tool:3\nLABEL a=b\n")
    lone("build", "-q", "-t", "made", tmp_path / "context")
    assert [x for x in liar.seen if x[1] == "/v2/deep/tool/manifests/3"]
    assert lone("images", "--format", "{{.Repository}}", "made").out == "made\n"  # names that are given are docker's
    liar.seen.clear()
    lone("push", "tool:3")  # what is pushed is here under the name that the alias stands for
    assert [x for x in liar.seen if x[:2] == ("PUT", "/v2/deep/tool/manifests/3")]


def test_no_file_is_read_for_what_is_here(lone, liar):
    runnable(liar)
    lone.conf.write_text("")
    lone("pull", f"{liar.host}/x")
    lone("tag", f"{liar.host}/x", "here")
    lone.conf.write_text("this is no TOML")
    assert lone("image", "inspect", "-f", "{{.RepoTags}}", "here").out
    assert "registries.conf" in lone("image", "inspect", "not-here", code=1).err


@pytest.mark.parametrize("text,words", [
    ("unqualified-search-registries = 'x'\n", "is not a list of texts"),
    ("short-name-mode = 'sometimes'\n", "is not enforcing, permissive or disabled"),
    ("[aliases]\ntool = 'short'\n", "is not REGISTRY/REPOSITORY"),
    ("[[registry]]\nlocation = 'x.example'\nblocked = 1\n", "registry x.example: blocked is not true or false"),
])
def test_broken_files_are_one_error(lone, liar, text, words):
    lone.conf.write_text(text)
    err = lone("pull", "tool", code=1).err
    assert words in err and "registries.conf" in err and err.count("\n") == 1


def test_unknown_members_are_told_of(lone, liar):
    lone.conf.write_text(f"newest-thing = true\n[[registry]]\nlocation = '{liar.host}'\ncolour = 'red'\n")
    runnable(liar)
    err = lone("pull", "-q", f"{liar.host}/x").err
    assert '"newest-thing" is not known to hoy and has no effect' in err and f'registry {liar.host}: "colour" is not known' in err
    place = lone.conf.parent / ".config/containerd/certs.d" / liar.host
    place.mkdir(parents=True)
    (place / "hosts.toml").write_text(f"[host.'{liar.url}']\nspeed = 9\n")
    lone.conf.write_text("")
    assert f'hosts.toml: {liar.url}: "speed" is not known' in lone("pull", "-q", f"{liar.host}/x").err


def test_a_credential_helper_of_registries_conf(lone, liar, tmp_path):
    (tmp_path / "bin").mkdir()
    helper = tmp_path / "bin/docker-credential-itest"
    helper.write_text('#!/bin/sh\nread host\necho "{\\"ServerURL\\":\\"$host\\",\\"Username\\":\\"joe\\",\\"Secret\\":\\"s\\"}"\n')
    helper.chmod(0o755)
    lone.env["PATH"] = f"{tmp_path}/bin:{lone.env['PATH']}"
    lone.conf.write_text("credential-helpers = ['itest']\n")
    runnable(liar)
    honest = liar.honest
    liar.honest = lambda m, p: honest(m, p) if liar.headers.get("Authorization") == "Basic am9lOnM=" else \
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    lone("pull", "-q", f"{liar.host}/x")
