"""Mirrors, rewriting, blocking and trust: registries.conf, hosts.toml and daemon.json as hoy-transfer reads them."""
import json

import pytest

from liar import MANIFEST, Image, Liar, digest
from registry_rig import PASSWORD, leaked, liar, make_certificate, other, own_address, transfer, want_token  # fixtures among them


@pytest.fixture(autouse=True)
def no_system_files(transfer, tmp_path):
    """The machine's own configuration stays out."""
    registries(transfer, "")


def registries(transfer, text):
    path = transfer.home.parent / "registries.conf"
    path.write_text(text)
    transfer.env["CONTAINERS_REGISTRIES_CONF"] = str(path)


def hosts(transfer, host, text, **files):
    place = transfer.home.parent / ".config/containerd/certs.d" / host
    place.mkdir(parents=True, exist_ok=True)
    (place / "hosts.toml").write_text(text)
    for name, source in files.items():
        (place / name.replace("_", ".")).write_bytes(source.read_bytes())


def asked(server):
    return [x[1] for x in server.seen]


def test_a_mirror_is_asked_first_and_the_registry_when_it_lacks_something(transfer, liar, other):
    registries(transfer, f"[[registry]]\nlocation = '{liar.host}'\n[[registry.mirror]]\nlocation = '{other.host}/copy'\n")
    other.image = liar.image
    transfer.ok("pull", f"{liar.host}/x")
    assert "/v2/copy/x/manifests/latest" in asked(other) and not liar.seen
    layer = liar.image.layers[1]["digest"]
    other.routes[f"/v2/copy/x/blobs/{layer}"] = (404, {}, b"")
    liar.image.layers[1], other.seen[:] = liar.image.layers[1], []
    other.routes["/v2/copy/x/manifests/2"] = (404, {}, b"{}")
    transfer.ok("pull", f"{liar.host}/x:2")
    assert "/v2/x/manifests/2" in asked(liar)


def test_names_are_rewritten(transfer, other):
    registries(transfer, f"[[registry]]\nprefix = 'registry.example/team'\nlocation = '{other.host}/deep/er'\n")
    transfer.ok("pull", "registry.example/team/app:3")
    assert "/v2/deep/er/app/manifests/3" in asked(other)
    got = digest(other.image.manifest())
    other.honest = lambda m, p: (200, {}, b"") if m in ("GET", "HEAD") else (201, {}, b"")
    transfer.ok("push", "registry.example/team/app:4", got)
    assert "/v2/deep/er/app/manifests/4" in asked(other)


def test_what_is_blocked_is_not_asked(transfer, liar):
    registries(transfer, f"[[registry]]\nlocation = '{liar.host}'\nblocked = true\n")
    for args in (["pull", f"{liar.host}/x"], ["push", f"{liar.host}/x", digest(b"x")], ["login", "--username", "u", liar.host]):
        error = transfer.fails(*args, stdin="pw")
        assert error["kind"] in ("denied", "not_found") and (error["kind"] == "not_found" or "blocked" in error["message"])
    assert not liar.seen


def test_when_all_fail_all_are_named(transfer, liar, other):
    registries(transfer, f"[[registry]]\nlocation = '{liar.host}'\n[[registry.mirror]]\nlocation = '{other.host}'\n")
    for server in (liar, other):
        server.routes["/v2/x/manifests/latest"] = (404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
    error = transfer.fails("pull", f"{liar.host}/x")
    assert error["kind"] == "not_found" and f"mirror {other.host}" in error["message"]


def test_mirrors_get_no_credentials_of_the_registry(transfer, liar, other):
    registries(transfer, f"[[registry]]\nlocation = '{liar.host}'\n[[registry.mirror]]\nlocation = '{other.host}'\n")
    other.routes["/v2/"] = other.routes["/v2/x/manifests/latest"] = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    transfer.remember(liar.host)
    transfer.ok("pull", f"{liar.host}/x")
    assert other.seen and not leaked(other)


def test_insecure_of_the_command_line_is_not_for_mirrors(transfer, liar):
    server = Liar(own_address())
    try:
        registries(transfer, f"[[registry]]\nlocation = '{liar.host}'\n[[registry.mirror]]\nlocation = '{server.host}'\n")
        transfer.ok("pull", "--insecure", f"{liar.host}/x")
        assert not [x for x in server.seen if x[1].startswith("/v2")]
        registries(transfer, f"[[registry]]\nlocation = '{liar.host}'\n"
                             f"[[registry.mirror]]\nlocation = '{server.host}'\ninsecure = true\n")
        transfer.ok("pull", f"{liar.host}/x:2")
        assert "/v2/x/manifests/2" in asked(server)
    finally:
        server.stop()


def test_a_mirror_for_pulling_is_not_asked_what_a_tag_is(transfer, liar, other):
    """containerd's rule: who may pull only gets digests that somebody else has resolved."""
    other.image = Image([b"not what the tag is"])
    hosts(transfer, liar.host, f'[host."{other.url}"]\ncapabilities = ["pull"]\n')
    result = transfer.ok("pull", f"{liar.host}/x")
    assert result["digest"] == digest(liar.image.manifest())
    assert all(f"manifests/{result['digest']}" in x or "manifests" not in x for x in asked(other))
    other.image = liar.image
    other.seen.clear()
    liar.image = Image([b"new"])
    other.image.blobs.update(liar.image.blobs)
    other.more[digest(liar.image.manifest())] = liar.image.manifest()
    liar.seen.clear()
    assert transfer.ok("pull", f"{liar.host}/x:2")["digest"] == digest(liar.image.manifest())
    assert not [x for x in asked(liar) if "blobs" in x]


def test_headers_and_ns_go_to_the_mirror_alone(transfer, liar, other):
    third = Liar()
    try:
        layer = liar.image.layers[0]["digest"]
        other.image = liar.image
        other.routes[f"/v2/x/blobs/{layer}"] = (307, {"Location": f"{third.url}/storage"}, b"")
        third.routes["/storage"] = (200, {}, liar.image.blobs[layer])
        third.routes["/token"] = (200, {}, b'{"token":"t"}')
        other.realm = f"{third.url}/token"
        want_token(other, "t")
        hosts(transfer, liar.host, f'[host."{other.url}"]\n[host."{other.url}".header]\nX-Key = ["k1"]\n')
        transfer.ok("pull", f"{liar.host}/x")
        assert not liar.seen
        api = [x for x in other.seen if x[1] != "/v2/"]
        assert api and all(f"ns={liar.host.replace(':', '%3A')}" in x[1] for x in api)
        assert all(x[2].get("X-Key") == "k1" for x in other.seen)
        assert {x[1].split("?")[0] for x in third.seen} == {"/storage", "/token"}
        assert not any("X-Key" in x[2] for x in third.seen)
    finally:
        third.stop()


def test_authorities_of_hosts_toml(transfer, tmp_path):
    address = own_address()
    tls = make_certificate(tmp_path, address)
    server = Liar(address, tls=tls, client_ca=tls[0])
    try:
        hosts(transfer, server.host, "ca = 'ca.pem'\n", ca_pem=tls[0])
        assert transfer.fails("pull", f"{server.host}/x")["kind"] == "unavailable"  # it wants to know us, too
        hosts(transfer, server.host, "ca = 'ca.pem'\nclient = [['ca.pem', 'key.pem']]\n", ca_pem=tls[0], key_pem=tls[1])
        transfer.ok("pull", f"{server.host}/x")
        hosts(transfer, server.host, "ca = 'gone.pem'\n")
        assert "gone.pem" in transfer.fails("pull", f"{server.host}/x:2")["message"]
    finally:
        server.stop()


def test_certificates_beside_containers_files(transfer, tmp_path):
    address = own_address()
    tls = make_certificate(tmp_path, address)
    server = Liar(address, tls=tls)
    try:
        place = tmp_path / ".config/containers/certs.d" / server.host
        place.mkdir(parents=True)
        (place / "any.crt").write_bytes(tls[0].read_bytes())
        transfer.ok("pull", f"{server.host}/x")
    finally:
        server.stop()


def test_a_broken_file_is_named(transfer, liar):
    registries(transfer, "[[registry\n")
    assert "registries.conf:1" in transfer.fails("pull", f"{liar.host}/x")["message"]
    registries(transfer, "")
    hosts(transfer, liar.host, "server = 7 8\n")
    assert "hosts.toml:1" in transfer.fails("pull", f"{liar.host}/x")["message"]
    assert not liar.seen


def test_proxies_of_daemon_json(transfer, tmp_path):
    """Used when the environment has none."""
    server, proxy = Liar(own_address()), Liar()
    try:
        (tmp_path / "daemon.json").write_text(json.dumps({"insecure-registries": [server.host],
                                                          "proxies": {"http-proxy": proxy.url, "https-proxy": proxy.url}}))
        transfer.env["HOY_DOCKER_CONF"] = str(tmp_path / "daemon.json")
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
            transfer.env.pop(name, None)
        transfer("pull", f"{server.host}/x")
        assert any(x[1].startswith("http://") for x in proxy.seen) and not server.seen
        transfer.ok("pull", f"{server.host}/x", env={"NO_PROXY": server.host.split(":")[0]})
        proxy.seen.clear()
        transfer("pull", f"{server.host}/x:2", env={"HTTP_PROXY": proxy.url})
        assert any(x[1].startswith("http://") for x in proxy.seen)
    finally:
        server.stop()
        proxy.stop()


def test_identity_of_the_content_is_kept(transfer, liar, other):
    """A mirror with other bytes under a digest is passed over."""
    registries(transfer, f"[[registry]]\nlocation = '{liar.host}'\n[[registry.mirror]]\nlocation = '{other.host}'\n")
    want = digest(liar.image.manifest())
    other.more[want] = Image([b"evil"]).manifest()
    assert transfer.ok("pull", f"{liar.host}/x@{want}")["digest"] == want
    layer = liar.image.layers[0]["digest"]
    other.routes["/v2/x/manifests/5"] = (200, {"Content-Type": MANIFEST}, liar.image.manifest())
    other.routes[f"/v2/x/blobs/{layer}"] = (200, {}, bytes(len(liar.image.blobs[layer])))
    transfer.ok("pull", f"{liar.host}/x:5")
    transfer.check()
    assert PASSWORD not in str(other.seen)
