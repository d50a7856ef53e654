"""hoy-transfer alone: against docker-registry over HTTP and TLS, and against a registry that lies."""
import base64
import contextlib
import gzip
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import BUILD, Hoy, Registry, free_port
from liar import CONFIG, INDEX, MANIFEST, Image, Liar, digest

PASSWORD = "s3cret-passw0rd"


class Transfer:
    """hoy-transfer with a root and a credential file of its own."""

    def __init__(self, base):
        self.root, self.home = base / "root", base / "docker"
        self.binary = str(BUILD / "src/main/hoy-transfer")
        self.env = dict(os.environ, DOCKER_CONFIG=str(self.home), HOME=str(base), HOY_DOCKER_CONF="/nonexistent")

    def __call__(self, *args, stdin="", timeout=120, env=()):
        """(exit code, progress lines, last line)."""
        p = subprocess.run([self.binary, "--root", str(self.root), *map(str, args)], input=stdin, text=True, timeout=timeout,
                           capture_output=True, env=dict(self.env, **dict(env)))
        assert p.stderr == "", p.stderr
        lines = [json.loads(line) for line in p.stdout.splitlines()]
        assert lines, p
        return p.returncode, lines[:-1], lines[-1]

    def ok(self, *args, **more):
        code, _, last = self(*args, **more)
        assert code == 0, last
        return last["result"]

    def fails(self, *args, **more):
        """The one error, after proof that nothing wrong was kept."""
        code, lines, last = self(*args, **more)
        assert code == 1 and set(last) == {"error"}, last
        assert all("error" not in x for x in lines)
        message = last["error"]["message"]
        assert message and "\n" not in message and len(message) < 1200 and PASSWORD not in message
        assert all(" " <= c for c in message)
        self.check()
        return last["error"]

    def blobs(self):
        base = self.root / "blobs/sha256"
        return {x.name: x.read_bytes() for x in base.iterdir()} if base.exists() else {}

    def check(self):
        """No temporary file, no blob that is not what its name says."""
        assert not list((self.root / "tmp").iterdir()) if (self.root / "tmp").exists() else True
        for name, data in self.blobs().items():
            assert hashlib.sha256(data).hexdigest() == name

    def remember(self, host, user="joe", password=PASSWORD):
        self.home.mkdir(exist_ok=True)
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        (self.home / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


@pytest.fixture
def transfer(tmp_path):
    return Transfer(tmp_path)


@pytest.fixture
def liar():
    server = Liar()
    yield server
    server.stop()


@pytest.fixture
def other():
    """A second host that should not learn anything."""
    server = Liar()
    yield server
    server.stop()


def leaked(server):
    """Requests that carried credentials."""
    return [x for x in server.seen if "Authorization" in x[2] or PASSWORD in x[1]]


def seed(image, base, name, *options):
    """Puts an image into a real registry with another tool."""
    layout = base / f"oci-{os.urandom(4).hex()}"
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    for key, data in dict(image.blobs, **{digest(image.manifest()): image.manifest()}).items():
        (blobs / key.split(":")[1]).write_bytes(data)
    entry = image.descriptor(annotations={"org.opencontainers.image.ref.name": "it"})
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", *options, f"oci:{layout}:it", f"docker://{name}"], check=True,
                   capture_output=True)


# --- a real registry


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


# --- TLS and credentials


def make_certificate(base, address):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hoy test",
                    "-addext", f"subjectAltName=IP:{address}", "-keyout", base / "key.pem", "-out", base / "ca.pem"],
                   check=True, capture_output=True)
    return base / "ca.pem", base / "key.pem"


@pytest.fixture(scope="session")
def locked_registry(tmp_path_factory):
    """docker-registry with TLS and a password."""
    if not shutil.which("docker-registry") or not shutil.which("htpasswd"):
        pytest.skip("needs docker-registry and htpasswd")
    base = tmp_path_factory.mktemp("locked")
    line = subprocess.run(["htpasswd", "-Bbn", "-C", "5", "joe", PASSWORD], check=True, capture_output=True, text=True).stdout
    (base / "users").write_text(line.strip() + "\n")
    r = Registry(base, tls=make_certificate(base, "127.0.0.1"), htpasswd=base / "users")
    yield r
    r.stop()


def test_login_pull_push_logout(transfer, locked_registry, tmp_path):
    host = locked_registry.host
    seed(Image(), tmp_path, f"{host}/private:1", f"--dest-creds=joe:{PASSWORD}")
    error = transfer.fails("pull", f"{host}/private:1")
    assert error["kind"] == "denied" and f"pull access denied for {host}/private" in error["message"]
    error = transfer.fails("login", "--username", "joe", host, stdin="wrong\n")
    assert error["kind"] == "denied" and "incorrect user name or password" in error["message"]
    assert not (transfer.home / "config.json").exists()
    assert transfer.ok("login", "--username", "joe", host, stdin=PASSWORD + "\n") == {"status": "Login Succeeded"}
    config = transfer.home / "config.json"
    assert config.stat().st_mode & 0o777 == 0o600
    assert json.loads(config.read_text()) == {"auths": {host: {"auth": base64.b64encode(f"joe:{PASSWORD}".encode()).decode()}}}
    got = transfer.ok("pull", f"{host}/private:1")["digest"]
    assert transfer.ok("push", f"{host}/private:2", got)["digest"] == got
    assert transfer.ok("logout", host) == {"status": f"Removing login credentials for {host}"}
    assert transfer.ok("logout", host) == {"status": f"Not logged in to {host}"}
    assert transfer.fails("push", f"{host}/private:3", got)["kind"] == "denied"


def own_address():
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            address = s.getsockname()[0]
        except OSError:
            pytest.skip("needs an address that is not loopback")
    return address


@pytest.fixture
def distant(tmp_path):
    """A TLS registry whose host is not loopback, so its certificate matters."""
    address = own_address()
    server = Liar(address, tls=make_certificate(tmp_path, address))
    server.ca = tmp_path / "ca.pem"
    yield server
    server.stop()


def test_certificates_are_checked(transfer, distant):
    error = transfer.fails("pull", f"{distant.host}/x")
    assert error["kind"] == "unavailable" and "certificate" in error["message"]
    assert f"certs.d/{distant.host}/ca.crt" in error["message"]
    assert not distant.seen
    transfer.ok("pull", f"{distant.host}/x", env={"SSL_CERT_FILE": str(distant.ca)})


def test_insecure_takes_any_certificate(transfer, distant):
    transfer.ok("pull", "--insecure", f"{distant.host}/x")


@contextlib.contextmanager
def certs_of(host, **files):
    """Files below /etc/docker/certs.d/HOST for the time being."""
    made = not os.path.exists("/etc/docker/certs.d")
    place = pathlib.Path("/etc/docker/certs.d") / host
    place.mkdir(parents=True)
    try:
        for name, source in files.items():
            shutil.copy(source, place / name.replace("_", "."))
        yield
    finally:
        shutil.rmtree(place.parent if made else place)


def test_certificates_of_one_host(transfer, distant):
    with certs_of(distant.host, ca_crt=distant.ca):
        transfer.ok("pull", f"{distant.host}/x")
    assert transfer.fails("pull", f"{distant.host}/x:2")["kind"] == "unavailable"


def test_a_client_certificate_of_one_host(transfer, tmp_path):
    address = own_address()
    tls = make_certificate(tmp_path, address)
    server = Liar(address, tls=tls, client_ca=tls[0])
    try:
        with certs_of(server.host, ca_crt=tls[0]):
            assert transfer.fails("pull", f"{server.host}/x")["kind"] == "unavailable"
        with certs_of(server.host, ca_crt=tls[0], client_cert=tls[0], client_key=tls[1]):
            transfer.ok("pull", f"{server.host}/x")
    finally:
        server.stop()


def test_plain_http_needs_insecure(transfer):
    server = Liar(own_address())
    try:
        error = transfer.fails("pull", f"{server.host}/x")
        assert error["kind"] == "unavailable" and "--insecure" in error["message"]
        assert not [x for x in server.seen if x[1].startswith("/v2")]
        transfer.ok("pull", "--insecure", f"{server.host}/x")
    finally:
        server.stop()


def docker_conf(transfer, tmp_path, **members):
    (tmp_path / "daemon.json").write_text(json.dumps(members))
    transfer.env["HOY_DOCKER_CONF"] = str(tmp_path / "daemon.json")


def test_insecure_registries_of_docker(transfer, tmp_path):
    server = Liar(own_address())
    try:
        docker_conf(transfer, tmp_path, **{"insecure-registries": [server.host.rsplit(".", 1)[0] + ".0/24"]})
        transfer.ok("pull", f"{server.host}/x")
        docker_conf(transfer, tmp_path, **{"insecure-registries": ["192.0.3.0/24", "other:5000"]})
        assert transfer.fails("pull", f"{server.host}/x:2")["kind"] == "unavailable"
    finally:
        server.stop()


def test_mirrors_of_docker(transfer, liar, other, tmp_path):
    """The first has nothing, the second has it; the origin is not asked."""
    liar.honest = lambda method, path: (404, {}, b"")
    docker_conf(transfer, tmp_path, **{"registry-mirrors": ["http://127.0.0.1:1", "not a url", liar.url + "/", other.url]})
    transfer.remember("docker.io")
    assert transfer.ok("pull", "some/image:1")["digest"] == digest(other.image.manifest())
    assert any(x[1] == "/v2/some/image/manifests/1" for x in liar.seen)
    assert not leaked(liar) and not leaked(other)
    liar.seen.clear()
    transfer.ok("pull", f"{other.host}/some/image:1")  # mirrors are for docker.io only
    assert not liar.seen


def test_a_broken_docker_conf_is_named(transfer, liar, tmp_path):
    (tmp_path / "daemon.json").write_text("{")
    transfer.env["HOY_DOCKER_CONF"] = str(tmp_path / "daemon.json")
    assert "daemon.json" in transfer.fails("pull", f"{liar.host}/x")["message"]


def bearer(realm, scope="repository:x:pull"):
    return 401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="it",scope="{scope}"'}, b'{"errors":[{"code":"UNAUTHORIZED"}]}'


def want_token(server, token):
    """Everything below /v2/ wants this bearer token."""
    honest = server.honest

    def guarded(method, path):
        if path.startswith("/v2/") and server.seen[-1][2].get("Authorization") != f"Bearer {token}":
            return bearer(server.realm)
        return honest(method, path)
    server.honest = guarded


def test_token_server(transfer, liar):
    liar.realm = f"{liar.url}/token"
    want_token(liar, "abc.def")
    liar.routes["/token"] = (200, {}, b'{"token":"abc.def","expires_in":300}')
    transfer.remember(liar.host)
    transfer.ok("pull", f"{liar.host}/x")
    asked = [x for x in liar.seen if x[1].startswith("/token")]
    assert len(asked) == 1 and "scope=repository%3Ax%3Apull" in asked[0][1] and "account=joe" in asked[0][1]
    assert base64.b64decode(asked[0][2]["Authorization"].split()[1]).decode() == f"joe:{PASSWORD}"


def test_token_login_and_wrong_password(transfer, liar):
    liar.realm = f"{liar.url}/token"
    want_token(liar, "tok")
    liar.routes["/token"] = lambda h: (200, {}, b'{"access_token":"tok"}') if h.headers.get("Authorization") == "Basic " + \
        base64.b64encode(f"joe:{PASSWORD}".encode()).decode() else (401, {}, b'{"details":"no"}')
    assert transfer.fails("login", "--username", "joe", liar.host, stdin="bad")["kind"] == "denied"
    transfer.ok("login", "--username", "joe", liar.host, stdin=PASSWORD)


def test_identity_token_is_posted(transfer, liar):
    liar.realm = f"{liar.url}/token"
    want_token(liar, "tok")
    liar.routes[("POST", "/token")] = lambda h: (200, {}, b'{"access_token":"tok"}') \
        if b"refresh_token=refresh-me" in h.sent and b"grant_type=refresh_token" in h.sent else (400, {}, b"")
    transfer.home.mkdir()
    (transfer.home / "config.json").write_text(json.dumps({"auths": {liar.host: {"identitytoken": "refresh-me"}}}))
    transfer.ok("pull", f"{liar.host}/x")


def test_an_expired_token_is_renewed_once_for_all(transfer, liar):
    tokens = iter(f"tok{i}" for i in range(100))
    state = {"now": None, "uses": 0}
    honest = liar.honest

    def issue(_):
        state["now"], state["uses"] = next(tokens), 0
        return 200, {}, json.dumps({"token": state["now"]}).encode()

    def guarded(method, path):
        state["uses"] += 1
        if state["uses"] > 5 or liar.seen[-1][2].get("Authorization") != f"Bearer {state['now']}":
            state["now"] = None
            return bearer(f"{liar.url}/token")
        return honest(method, path)
    liar.routes["/token"] = issue
    liar.honest = guarded
    transfer.ok("pull", f"{liar.host}/x")


def test_a_realm_elsewhere_gets_no_credentials(transfer, liar, other):
    liar.realm = f"http://localhost:{other.host.split(':')[1]}/token"
    want_token(liar, "tok")
    other.routes["/token"] = (200, {}, b'{"token":"tok"}')
    transfer.remember(liar.host)
    transfer.ok("pull", f"{liar.host}/x")
    assert other.seen and not leaked(other)


def test_a_redirect_elsewhere_gets_no_credentials(transfer, liar, other):
    layer = liar.image.layers[0]["digest"]
    honest = liar.honest
    liar.honest = lambda m, p: honest(m, p) if "Authorization" in liar.seen[-1][2] else \
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    liar.routes[f"/v2/x/blobs/{layer}"] = (307, {"Location": f"{other.url}/storage?signature=1"}, b"")
    other.routes["/storage"] = (200, {}, liar.image.blobs[layer])
    transfer.remember(liar.host)
    transfer.ok("pull", f"{liar.host}/x")
    assert other.seen and not leaked(other)
    assert leaked(liar)


def test_a_redirect_there_and_back_gets_no_credentials(transfer, liar, other):
    layer = liar.image.layers[0]["digest"]
    honest = liar.honest
    liar.honest = lambda m, p: honest(m, p) if "Authorization" in liar.seen[-1][2] or p == "/back" else \
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    liar.routes[f"/v2/x/blobs/{layer}"] = (302, {"Location": f"{other.url}/away"}, b"")
    other.routes["/away"] = (302, {"Location": f"{liar.url}/back"}, b"")
    liar.routes["/back"] = (200, {}, liar.image.blobs[layer])
    transfer.remember(liar.host)
    transfer.ok("pull", f"{liar.host}/x")
    assert not leaked(other) and not [x for x in leaked(liar) if x[1] == "/back"]


def test_credentials_of_one_registry_are_not_for_another(transfer, liar, other):
    liar.routes["/v2/"] = liar.routes["/v2/x/manifests/latest"] = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    transfer.remember(other.host)
    assert transfer.fails("pull", f"{liar.host}/x")["kind"] == "denied"
    assert not leaked(liar)


# --- proxies


class Proxy:
    """Forwards CONNECT and plain requests, and keeps the heads it saw."""

    def __init__(self):
        self.heads = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(65536)
            if not more:
                return
            head += more
        self.heads.append(head.decode())
        verb, target = head.decode().split(" ")[:2]
        if verb != "CONNECT":
            client.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            client.close()
            return
        host, port = target.rsplit(":", 1)
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        back = threading.Thread(target=self.copy, args=(server, client), daemon=True)
        back.start()
        self.copy(client, server)
        back.join()

    @staticmethod
    def copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def stop(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.fixture
def proxy():
    p = Proxy()
    yield p
    p.stop()


def test_a_proxy_is_used_and_sees_no_credentials(transfer, distant, proxy):
    honest = distant.honest
    distant.honest = lambda m, p: honest(m, p) if "Authorization" in distant.seen[-1][2] else \
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    transfer.remember(distant.host)
    transfer.ok("pull", f"{distant.host}/x", env={"SSL_CERT_FILE": str(distant.ca), "HTTPS_PROXY": proxy.url, "NO_PROXY": ""})
    assert proxy.heads and all(x.startswith(f"CONNECT {distant.host} ") for x in proxy.heads)
    assert not any("Authorization" in x for x in proxy.heads) and leaked(distant)


def test_no_proxy_and_loopback_go_straight(transfer, distant, liar, proxy):
    env = {"SSL_CERT_FILE": str(distant.ca), "https_proxy": proxy.url, "http_proxy": proxy.url, "HTTPS_PROXY": proxy.url}
    transfer.ok("pull", f"{liar.host}/x", env=env)
    transfer.ok("pull", f"{distant.host}/x", env=dict(env, NO_PROXY=distant.host.split(":")[0], no_proxy=distant.host.split(":")[0]))
    assert not proxy.heads


def test_a_dead_proxy_is_named(transfer, distant):
    port = free_port()
    error = transfer.fails("pull", f"{distant.host}/x", env={"HTTPS_PROXY": f"http://127.0.0.1:{port}", "NO_PROXY": ""})
    assert error["kind"] == "unavailable" and str(port) in error["message"] and "proxy" in error["message"]


# --- lies about manifests: (what the registry says, kind of error, words in its message)

MANIFEST_URL = "/v2/x/manifests/latest"
HTML = (200, {"Content-Type": "text/html"}, b"<html>please log in</html>")


def endless(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", MANIFEST)
    handler.send_header("Connection", "close")
    handler.end_headers()
    if handler.command == "GET":
        for _ in range(200):
            handler.wfile.write(b" " * 100000)
    handler.close_connection = True


def truncated(handler):
    handler.reply(200, {"Content-Length": "5000"}, b"{}")
    handler.cut()


def many_headers(handler):
    handler.send_response(200)
    for i in range(3000):
        handler.send_header(f"X-{i}", "y" * 100)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def no_http(handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    handler.cut()


def bad_chunks(handler):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(b"zzz\r\n{}\r\n")
        handler.cut()


def with_doc(**changes):
    doc = dict(Image().doc, **changes)
    return 200, {"Content-Type": MANIFEST}, json.dumps({k: v for k, v in doc.items() if v is not None}).encode()


def with_layer(**changes):
    image = Image()
    image.layers[0].update(changes)
    return 200, {"Content-Type": MANIFEST}, image.manifest()


def index_of(*entries):
    return 200, {"Content-Type": INDEX}, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()


MANIFEST_LIES = {
    "html": (HTML, "invalid", "manifest"),
    "not json": ((200, {"Content-Type": MANIFEST}, b"{"), "invalid", ""),
    "empty": ((200, {"Content-Type": MANIFEST}, b""), "invalid", ""),
    "a number": ((200, {"Content-Type": MANIFEST}, b"7"), "invalid", ""),
    "no content": ((204, {}, b""), "", ""),
    "partial content": ((206, {"Content-Range": "bytes 0-1/9"}, b"{}"), "", ""),
    "not modified": ((304, {}, b""), "invalid", "304"),
    "teapot": ((418, {}, b"x"), "invalid", "418"),
    "gzip nobody asked for": ((200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08junk"), "invalid", ""),
    "deep": ((200, {"Content-Type": MANIFEST}, b"[" * 100000), "", ""),
    "key twice": ((200, {"Content-Type": MANIFEST}, b'{"schemaVersion":2,"schemaVersion":2,"layers":[]}'), "invalid", ""),
    "schema 1": ((200, {}, b'{"schemaVersion":1,"name":"x","fsLayers":[],"history":[]}'), "unsupported", ""),
    "layers and manifests": (with_doc(manifests=[]), "invalid", ""),
    "no config": (with_doc(config=None), "invalid", ""),
    "layers are text": (with_doc(layers="x"), "invalid", ""),
    "digest is a path": (with_layer(digest="sha256:../../../../etc/passwd"), "invalid", ""),
    "digest too short": (with_layer(digest="sha256:abcd"), "invalid", ""),
    "digest in capitals": (with_layer(digest="sha256:" + "A" * 64), "invalid", ""),
    "digest of md5": (with_layer(digest="md5:" + "0" * 32), "", ""),
    "negative size": (with_layer(size=-1), "invalid", ""),
    "size beyond all": (with_layer(size=10**30), "invalid", ""),
    "size as text": (with_layer(size="10"), "invalid", ""),
    "giant config": (with_doc(config={"mediaType": CONFIG, "digest": digest(b"x"), "size": 1 << 40}), "limit", "config"),
    "giant": ((200, {"Content-Type": MANIFEST}, b" " * (6 << 20)), "limit", "larger"),
    "endless": (endless, "limit", "larger"),
    "truncated": (truncated, "unavailable", "unexpected end"),
    "many headers": (many_headers, "limit", "headers"),
    "no http": (no_http, "unavailable", ""),
    "bad chunks": (bad_chunks, "unavailable", ""),
    "unauthorized": ((401, {"WWW-Authenticate": 'Basic realm="x"'}, b""), "denied", "pull access denied for"),
    "forbidden": ((403, {}, b""), "denied", "pull access denied for"),
    "server error": ((500, {}, b"oops"), "unavailable", "500"),
    "redirect loop": ((302, {"Location": MANIFEST_URL}, b""), "invalid", "redirects"),
    "redirect to a file": ((302, {"Location": "file:///etc/passwd"}, b""), "invalid", "URL"),
    "redirect to nothing": ((302, {"Location": "http://"}, b""), "invalid", ""),
    "redirect without target": ((302, {}, b""), "invalid", "302"),
    "index without us": (index_of(Image(arch="s390x").descriptor("s390x")), "not_found", "s390x"),
    "empty index": (index_of(), "not_found", ""),
    "index part of another size": (index_of(Image().descriptor(size=5)), "corrupt", "size"),
    "index part of another digest": (index_of(dict(Image().descriptor(), digest=digest(b"?"))), "not_found", ""),
}


@pytest.mark.parametrize("lie", MANIFEST_LIES)
def test_lies_about_manifests(transfer, liar, lie):
    answer, kind, words = MANIFEST_LIES[lie]
    liar.routes[MANIFEST_URL] = answer
    transfer.remember(liar.host)
    error = transfer.fails("pull", f"{liar.host}/x")
    assert kind in ("", error["kind"]), error
    assert words in error["message"], error
    assert transfer.blobs() == {}


def test_another_body_than_the_digest_asked_for(transfer, liar):
    wanted = digest(b"something else")
    liar.more[wanted] = liar.image.manifest()
    error = transfer.fails("pull", f"{liar.host}/x@{wanted}")
    assert error["kind"] == "corrupt" and "digest mismatch" in error["message"]
    assert transfer.blobs() == {}


def test_indexes_in_indexes_end(transfer, liar):
    body, kind = liar.image.manifest(), MANIFEST
    for _ in range(6):
        liar.more[digest(body)] = body
        entry = {"mediaType": kind, "digest": digest(body), "size": len(body), "platform": {"os": "linux", "architecture": "amd64"}}
        body, kind = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode(), INDEX
    liar.routes[MANIFEST_URL] = (200, {"Content-Type": INDEX}, body)
    assert transfer.fails("pull", f"{liar.host}/x")["kind"] == "invalid"


def test_the_digest_header_is_only_a_hint(transfer, liar):
    liar.routes[MANIFEST_URL] = (200, {"Content-Type": MANIFEST, "Docker-Content-Digest": digest(b"lie")}, liar.image.manifest())
    assert transfer.ok("pull", f"{liar.host}/x")["digest"] == digest(liar.image.manifest())


def test_foreign_text_is_cleaned(transfer, liar):
    body = json.dumps({"errors": [{"code": "DENIED\x1b[2J", "message": "\x1b]0;owned\x07\r\n" + "é" * 3 + "x" * 5000}]}).encode()
    liar.routes[MANIFEST_URL] = (400, {}, body)
    message = transfer.fails("pull", f"{liar.host}/x")["message"]
    assert "\x1b" not in message and "owned" in message


def test_another_platform_than_asked_for(transfer, liar):
    error = transfer.fails("pull", "--platform", "linux/arm64", f"{liar.host}/x")
    assert error["kind"] == "not_found" and "does not provide the specified platform" in error["message"]
    assert not [x for x in liar.seen if liar.image.layers[0]["digest"] in x[1]]  # before anything big travels
    assert transfer.fails("pull", "--platform", "no/such/plat/form", f"{liar.host}/x")["kind"] == "invalid"


# --- lies about blobs


def shorter(data):
    return 200, {}, data[:-3]


def cut_always(data):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:10])
        handler.cut()
    return answer


def other_range(data):
    def answer(handler):
        return (206, {"Content-Range": f"bytes 5-{len(data) - 1}/{len(data)}"}, data[5:])
    return answer


BLOB_LIES = {
    "other bytes": (lambda data: (200, {}, bytes(len(data))), "corrupt", "digest mismatch"),
    "fewer bytes": (shorter, "corrupt", "size mismatch"),
    "more bytes": (lambda data: (200, {}, data + b"!"), "corrupt", "size mismatch"),
    "nothing": (lambda data: (200, {}, b""), "corrupt", "size mismatch"),
    "html": (lambda data: HTML, "corrupt", ""),
    "not found": (lambda data: (404, {}, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}'), "not_found", "blob unknown"),
    "forbidden": (lambda data: (403, {}, b""), "denied", ""),
    "redirect loop": (lambda data: lambda h: (307, {"Location": h.path}, b""), "invalid", "redirects"),
    "redirect to ftp": (lambda data: (307, {"Location": "ftp://127.0.0.1/x"}, b""), "invalid", ""),
    "redirect to a dead host": (lambda data: (307, {"Location": f"http://127.0.0.1:{free_port()}/x"}, b""), "unavailable",
                                "refused"),
    "cut again and again": (cut_always, "", ""),
    "a part nobody asked for": (other_range, "corrupt", "another part"),
    "too many requests": (lambda data: (429, {"Retry-After": "0"}, b"<html>slow down</html>"), "limit", "429"),
}


@pytest.mark.parametrize("lie", BLOB_LIES)
def test_lies_about_blobs(transfer, liar, lie):
    make, kind, words = BLOB_LIES[lie]
    layer = liar.image.layers[1]["digest"]
    liar.routes[f"/v2/x/blobs/{layer}"] = make(liar.image.blobs[layer])
    error = transfer.fails("pull", f"{liar.host}/x")
    assert kind in ("", error["kind"]), error
    assert words in error["message"] and layer in error["message"], error
    assert layer[7:] not in transfer.blobs() and digest(liar.image.manifest())[7:] not in transfer.blobs()


def test_a_config_that_is_none(transfer, liar):
    liar.image.doc["config"] = liar.image.add(b"[]", CONFIG)
    assert transfer.fails("pull", f"{liar.host}/x")["kind"] == "invalid"
    assert digest(liar.image.manifest())[7:] not in transfer.blobs()


def big_image(liar, size=3 << 20):
    liar.image = Image([os.urandom(size)])
    return liar.image.layers[0]["digest"], liar.image.blobs[liar.image.layers[0]["digest"]]


def cutting(data, every, honour_range=True, spoil=False):
    """Sends `every` bytes, then breaks the connection; the next request may go on from there."""
    def answer(handler):
        start = 0
        asked = handler.headers.get("Range")
        if asked and honour_range:
            start = int(asked.split("=")[1].rstrip("-"))
        body = data[start:]
        if spoil and asked:
            body = bytes(len(body))
        handler.send_response(206 if asked and honour_range else 200)
        handler.send_header("Content-Length", str(len(body)))
        if asked and honour_range:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.end_headers()
        handler.server.liar.count = getattr(handler.server.liar, "count", 0) + 1
        limit = every(handler.server.liar.count)
        handler.wfile.write(body[:limit])
        if len(body) > limit:
            handler.cut()
    return answer


def test_a_cut_download_goes_on_where_it_was(transfer, liar):
    layer, data = big_image(liar)
    liar.routes[f"/v2/x/blobs/{layer}"] = cutting(data, lambda n: 1200000)
    code, lines, last = transfer("pull", f"{liar.host}/x")
    assert code == 0, last
    ranges = [x[2].get("Range") for x in liar.seen if layer in x[1]]
    assert ranges[0] is None and len(ranges) == 3 and all(x.startswith("bytes=") for x in ranges[1:])
    assert "Retrying" in {x.get("status") for x in lines}
    transfer.check()


def test_the_next_pull_goes_on_after_a_failed_one(tmp_path, liar):
    hoy = Hoy(tmp_path)
    if not hoy.binary.exists():
        pytest.skip("needs hoy")
    liar.image = Image([b"\0" * 10240, b"\0" * 20480])  # empty tars
    first, second = (x["digest"] for x in liar.image.layers)
    liar.routes[f"/v2/x/blobs/{second}"] = (503, {}, b"")
    assert "503" in hoy("pull", f"{liar.host}/x", code=1).err
    liar.routes.clear()
    hoy("pull", f"{liar.host}/x")
    assert len([x for x in liar.seen if first in x[1]]) == 1
    assert set(x.name for x in (hoy.root / "blobs/sha256").iterdir()) >= {first[7:], second[7:]}


def test_a_server_without_ranges_begins_again(transfer, liar):
    layer, data = big_image(liar)
    liar.routes[f"/v2/x/blobs/{layer}"] = cutting(data, lambda n: 1200000 if n < 3 else 1 << 30, honour_range=False)
    transfer.ok("pull", f"{liar.host}/x")
    transfer.check()


def test_a_wrong_continuation_is_fetched_whole(transfer, liar):
    layer, data = big_image(liar)
    liar.routes[f"/v2/x/blobs/{layer}"] = cutting(data, lambda n: 1200000 if n == 1 else 1 << 30, spoil=True)
    transfer.ok("pull", f"{liar.host}/x")
    transfer.check()


def test_too_many_requests_are_waited_for(transfer, liar):
    times = []

    def busy(handler):
        times.append(time.monotonic())
        if len(times) < 3:  # HEAD, then GET
            return 429, {"Retry-After": "2"}, b""
        return liar.honest(handler.command, handler.path)
    liar.routes[MANIFEST_URL] = busy
    transfer.ok("pull", f"{liar.host}/x")
    assert times[2] - times[1] >= 1.9


# --- lies about tokens


TOKENS = {
    "html": (HTML, "invalid"),
    "no token": ((200, {}, b"{}"), "invalid"),
    "token with a line end": ((200, {}, b'{"token":"a\\r\\nX-Evil: 1"}'), "invalid"),
    "token is a list": ((200, {}, b'{"token":[]}'), "invalid"),
    "giant": ((200, {}, b" " * (3 << 20)), "limit"),
    "refused": ((401, {}, b"{}"), "denied"),
    "broken": ((500, {}, b""), "unavailable"),
    "never enough": ((200, {}, b'{"token":"wrong"}'), "denied"),
    "redirect loop": ((302, {"Location": "/token"}, b""), "invalid"),
}


@pytest.mark.parametrize("lie", TOKENS)
def test_lies_of_token_servers(transfer, liar, lie):
    liar.realm = f"{liar.url}/token"
    want_token(liar, "right")
    liar.routes["/token"], kind = TOKENS[lie]
    transfer.remember(liar.host)
    assert transfer.fails("pull", f"{liar.host}/x")["kind"] == kind
    assert transfer.blobs() == {}


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "ftp://x/", "http://user:pw@127.0.0.1/", "javascript:alert(1)"])
def test_realms_that_are_none(transfer, liar, realm):
    liar.realm = realm
    want_token(liar, "right")
    transfer.remember(liar.host)
    assert transfer.fails("pull", f"{liar.host}/x")["kind"] == "invalid"


def test_https_registries_get_no_http_realm(transfer, distant, other):
    distant.realm = f"{other.url}/token"
    want_token(distant, "tok")
    transfer.remember(distant.host)
    error = transfer.fails("pull", f"{distant.host}/x", env={"SSL_CERT_FILE": str(distant.ca)})
    assert error["kind"] == "invalid" and "https" in error["message"] and not other.seen


def test_no_redirect_from_https_to_http(transfer, distant, other):
    layer = distant.image.layers[0]["digest"]
    distant.routes[f"/v2/x/blobs/{layer}"] = (307, {"Location": f"{other.url}/storage"}, b"")
    error = transfer.fails("pull", f"{distant.host}/x", env={"SSL_CERT_FILE": str(distant.ca)})
    assert error["kind"] == "invalid" and not other.seen


# --- push


def accept_uploads(server, location="/upload/1?state=a"):
    """An honest receiving side; what arrived is in server.got."""
    server.got = {}
    honest = server.honest

    def receive(handler):
        want = handler.path.split("digest=")[1].replace("%3A", ":")
        server.got[want] = handler.sent
        return (201, {}, b"") if digest(handler.sent) == want else (400, {}, b'{"errors":[{"code":"DIGEST_INVALID"}]}')

    def respond(method, path):
        if "/blobs/sha256" in path:
            return 404, {}, b""
        if method == "POST" and path.endswith("/blobs/uploads/"):
            return 202, {"Location": location}, b""
        if method == "PUT" and "/manifests/" in path:
            return 201, {}, b""
        return honest(method, path)
    server.honest = respond
    server.routes[("PUT", "/upload/1")] = receive
    return receive


def pulled(transfer):
    """Something to push."""
    source = Liar()
    got = transfer.ok("pull", f"{source.host}/x")["digest"]
    source.stop()
    return got


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


# --- ending early


def slow_blob(liar):
    layer, data = big_image(liar, 8 << 20)

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for i in range(0, len(data), 50000):
            handler.wfile.write(data[i:i + 50000])
            time.sleep(0.05)
    liar.routes[f"/v2/x/blobs/{layer}"] = answer


def start(transfer, liar):
    p = subprocess.Popen([transfer.binary, "--root", str(transfer.root), "pull", f"{liar.host}/x"], env=transfer.env,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while '"Downloading"' not in p.stdout.readline():
        pass
    return p


def test_it_ends_with_its_reader(transfer, liar):
    slow_blob(liar)
    p = start(transfer, liar)
    p.stdout.close()
    assert p.wait(10) == 1 and p.stderr.read() == ""
    p.stderr.close()
    transfer.check()


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_cleanly(transfer, liar, signo):
    slow_blob(liar)
    p = start(transfer, liar)
    p.send_signal(signo)
    out, err = p.communicate(timeout=10)
    assert p.returncode == 1 and err == "" and "error" not in out
    transfer.check()


def test_after_a_kill_the_next_pull_cleans_up(transfer, liar):
    slow_blob(liar)
    p = start(transfer, liar)
    p.kill()
    p.communicate(timeout=10)
    liar.routes.clear()
    transfer.ok("pull", f"{liar.host}/x")
    transfer.check()


def test_a_full_disk(transfer, liar, tmp_path):
    big_image(liar, 8 << 20)
    (tmp_path / "root").mkdir()
    script = 'mount -t tmpfs -o size=3m none "$1" && "$2" --root "$1" pull "$3"; code=$?; find "$1" -type f >&2; exit $code'
    p = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", tmp_path / "root", transfer.binary, f"{liar.host}/x"],
                       capture_output=True, text=True, timeout=60, env=transfer.env)
    error = json.loads(p.stdout.splitlines()[-1])["error"]
    assert p.returncode == 1 and error["kind"] == "limit" and "No space left" in error["message"]
    assert "/tmp/" not in p.stderr.replace(str(tmp_path), ""), p.stderr


# --- the command line


@pytest.mark.parametrize("args", [[], ["pull"], ["pull", "a", "b"], ["push", "x"], ["frobnicate", "x"], ["pull", "--bogus", "x"],
                                  ["pull", "UPPER"], ["push", "x", "notadigest"], ["login", "x"], ["--platform"]])
def test_usage_errors(transfer, args):
    assert transfer.fails(*args)["kind"] == "invalid"
