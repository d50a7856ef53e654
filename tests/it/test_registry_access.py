"""--creds, --authfile, --cert-dir and --tls-verify at every command that asks a registry; and whom nobody may tell."""
import json
import shutil
import subprocess

import pytest

from conftest import Hoy
from liar import Image, Liar
from registry_rig import accept_uploads, distant, leaked, liar, make_certificate, other, own_address  # fixtures among them

JOE = "Basic am9lOnM6Mw=="  # joe:s:3
CREDS = ("--creds", "joe:s:3")
REALM = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")


@pytest.fixture
def lone(tmp_path):
    """hoy with an empty root and no configuration of the machine's."""
    h = Hoy(tmp_path)
    (tmp_path / "registries.conf").write_text("")
    h.env["CONTAINERS_REGISTRIES_CONF"] = str(tmp_path / "registries.conf")
    yield h
    h.remove_all()
    h.any("system", "reset", "--force")


def want_joe(server):
    honest = server.honest
    server.honest = lambda m, p: honest(m, p) if server.headers.get("Authorization") == JOE else REALM


def authfile(tmp_path, *hosts):
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {x: {"auth": JOE.split()[1]} for x in hosts}}))
    return path


def commands(host, tmp_path):
    """What asks a registry for an image that is not here."""
    (tmp_path / "Dockerfile").write_text(f"FROM {host}/x\nENV A=1\n")
    return [("pull", f"{host}/x"), ("create", f"{host}/x", "true"), ("image", "inspect", "--remote", f"{host}/x"),
            ("image", "tags", f"{host}/x"), ("build", tmp_path)]


def with_options(command, *options):
    at = 2 if command[0] == "image" else 1
    return *command[:at], *options, *command[at:]


def forget(hoy):
    hoy.remove_all()
    hoy.any("rmi", "-f", *hoy("images", "-aq").out.split())


def test_credentials_at_every_command(lone, liar, tmp_path, busybox_tar):
    liar.image = Image([busybox_tar.read_bytes()])
    liar.routes["/v2/x/tags/list"] = lambda h: (200, {}, b'{"tags":["1"]}') if h.headers.get("Authorization") == JOE else REALM
    want_joe(liar)
    auth = authfile(tmp_path, liar.host)
    for command in commands(liar.host, tmp_path):
        assert lone.any(*command).code != 0
        assert lone.any(*with_options(command, "--creds", "joe:wrong")).code != 0
        assert "no-such" in lone.any(*with_options(command, "--authfile", tmp_path / "no-such")).err
        for option in CREDS, ("--authfile", auth):
            lone(*with_options(command, *option))
            forget(lone)
    assert lone("run", "--rm", *CREDS, f"{liar.host}/x", "echo", "here").out == "here\n"


def test_a_push_with_credentials(lone, liar, tmp_path, busybox_tar):
    accept_uploads(liar)
    want_joe(liar)
    lone("import", busybox_tar, f"{liar.host}/y:1")
    assert lone.any("push", f"{liar.host}/y:1").code == 1
    for option in CREDS, ("--authfile", authfile(tmp_path, liar.host)):
        lone("push", *option, f"{liar.host}/y:1")
    assert liar.got


def test_a_password_is_no_argument_of_the_helper(lone, liar, tmp_path):
    """ps of anybody shows arguments: hoy-transfer gets it by a pipe."""
    want_joe(liar)
    liar.routes["/v2/"] = lambda h: (seen.append(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True,
                                                                check=True).stdout), REALM)[1]
    seen = []
    lone("pull", *CREDS, f"{liar.host}/x", code=None)
    lines = [x for x in "".join(seen).splitlines() if x.startswith("hoy-transfer")]
    assert lines and not [x for x in lines if "s:3" in x]


def test_mirrors_are_not_told(lone, liar, other, tmp_path):
    """--creds are the registry's; a file may have an entry for the mirror."""
    (tmp_path / "registries.conf").write_text(f"[[registry]]\nlocation = '{liar.host}'\n[[registry.mirror]]\nlocation = '{other.host}'\n")
    other.routes["/v2/"] = other.routes["/v2/x/manifests/latest"] = REALM
    want_joe(liar)
    lone("image", "inspect", "--remote", *CREDS, f"{liar.host}/x")
    lone("image", "inspect", "--remote", "--authfile", authfile(tmp_path, liar.host), f"{liar.host}/x")
    assert other.seen and not leaked(other) and leaked(liar)
    lone("image", "inspect", "--remote", "--authfile", authfile(tmp_path, other.host, liar.host), f"{liar.host}/x")
    assert {x[2]["Authorization"] for x in leaked(other)} == {JOE}


def test_a_name_of_several_registries_gets_no_credentials(lone, liar, other, tmp_path):
    (tmp_path / "registries.conf").write_text(f"unqualified-search-registries = ['{other.host}', '{liar.host}']\n")
    other.routes["/v2/"] = REALM
    want_joe(liar)
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    for command in ("pull", "x"), ("image", "inspect", "--remote", "x"), ("image", "tags", "x"), ("run", "x"), ("build", tmp_path):
        assert f"credentials go to one, write {other.host}/x" in lone(*with_options(command, *CREDS), code=None).err
    assert not liar.seen and not other.seen


def test_a_build_tells_one_registry(lone, liar, other, tmp_path):
    want_joe(liar)
    want_joe(other)
    (tmp_path / "Dockerfile").write_text(f"FROM {liar.host}/x AS a\nFROM {other.host}/x\nCOPY --from=a / /\n")
    liar.image = other.image = Image([b"\0" * 10240])
    assert "use --authfile" in lone("build", *CREDS, tmp_path, code=1).err
    assert not leaked(liar) or not leaked(other)
    lone("build", "--authfile", authfile(tmp_path, liar.host, other.host), tmp_path)
    assert leaked(liar) and leaked(other)
    forget(lone)
    lone("pull", *CREDS, f"{liar.host}/x")  # what is here is not asked for
    lone("build", *CREDS, tmp_path)


def test_certificates_of_a_directory(lone, tmp_path):
    address = own_address()
    ca, key = make_certificate(tmp_path, address)
    server, bare = Liar(address, tls=(ca, key), client_ca=ca), Liar(address, tls=(ca, key))
    certs = tmp_path / "certs"
    certs.mkdir()
    try:
        inspect = ("image", "inspect", "--remote", f"{server.host}/x")
        assert "certificate" in lone(*inspect, code=1).err
        assert "no-such: No such file" in lone(*with_options(inspect, "--cert-dir", tmp_path / "no-such"), code=1).err
        shutil.copy(ca, certs / "ca.crt")
        assert "client certificate" in lone(*with_options(inspect, "--cert-dir", certs), code=1).err
        shutil.copy(ca, certs / "client.cert")
        shutil.copy(key, certs / "client.key")
        lone(*with_options(inspect, "--cert-dir", certs))
        lone("image", "copy", "--src-cert-dir", certs, f"{server.host}/x", f"oci:{tmp_path}/o")
        assert lone.any("image", "copy", "--dest-cert-dir", certs, f"{server.host}/x", f"oci:{tmp_path}/o").code == 1
        # whom the registry leads to is checked by the same authorities
        layer = server.image.layers[0]["digest"]
        server.routes[f"/v2/x/blobs/{layer}"] = (302, {"Location": f"{bare.url}/v2/x/blobs/{layer}"}, b"")
        shutil.rmtree(tmp_path / "o")
        lone("image", "copy", "--src-cert-dir", certs, f"{server.host}/x", f"oci:{tmp_path}/o")
        assert bare.seen
    finally:
        server.stop()
        bare.stop()


def test_any_certificate_where_it_is_said(lone, distant, tmp_path, busybox_tar):
    distant.image = Image([busybox_tar.read_bytes()])
    distant.routes["/v2/x/tags/list"] = (200, {}, b'{"tags":["1"]}')
    for command in commands(distant.host, tmp_path):
        for option, code in ("--tls-verify", False), ("--insecure", True), ("--tls-verify=false", True):
            assert (lone.any(*with_options(command, option)).code == 0) == code
            forget(lone)


def test_whoever_asks_for_tls_gets_it(lone, liar, tmp_path):
    """Also of a loopback address, where plain HTTP will do otherwise; as podman and skopeo have it."""
    liar.routes["/v2/x/tags/list"] = (200, {}, b'{"tags":["1"]}')
    for command in commands(liar.host, tmp_path):
        assert "does not speak TLS" in lone(*with_options(command, "--tls-verify"), code=None).err
    assert "does not speak TLS" in lone("image", "copy", "--insecure", "--src-tls-verify", f"{liar.host}/x", f"dir:{tmp_path}/d", code=1).err
    assert "does not speak TLS" in lone("login", "--tls-verify=true", "-u", "a", "-p", "b", liar.host, code=1).err
    assert not [x for x in liar.seen if x[1].startswith("/v2")]
    lone("image", "tags", "--tls-verify", "--tls-verify=false", f"{liar.host}/x")
    assert "exclude" in lone("image", "tags", "--tls-verify", "--insecure", f"{liar.host}/x", code=1).err


def test_what_cannot_be_meant(lone, tmp_path):
    assert "empty credentials" in lone("pull", "--creds", "", "x.invalid/x", code=1).err
    assert "empty credentials" in lone("pull", "--creds", ":pw", "x.invalid/x", code=1).err
    assert "exclude" in lone("image", "tags", "--no-creds", "--creds", "a:b", "x.invalid/x", code=1).err
    assert "--remote" in lone("image", "inspect", "--creds", "a:b", "x.invalid/x", code=1).err
