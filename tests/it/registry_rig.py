"""hoy-transfer alone, with registries that are honest or lie: what the tests of registries share."""
import base64
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess

import pytest

from conftest import BUILD
from liar import Image, Liar, digest

PASSWORD = "s3cret-passw0rd"


class Transfer:
    """hoy-transfer with a root and a credential file of its own."""

    def __init__(self, base):
        self.root, self.home = base / "root", base / "docker"
        self.binary = str(BUILD / "src/main/hoy-transfer")
        self.env = dict(os.environ, DOCKER_CONFIG=str(self.home), HOME=str(base), HOY_DOCKER_CONF="/nonexistent")

    def __call__(self, *args, stdin="", timeout=120, env=()):
        """(exit code, progress lines, last line)."""
        p = subprocess.run([self.binary, "--root", str(self.root), "--retry-ms", "20", *map(str, args)], input=stdin, text=True, timeout=timeout,
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


def rest_of(master):
    """All that is still to be read of a terminal that nobody has any more."""
    text = b""
    try:
        while more := os.read(master, 65536):
            text += more
    except OSError:  # so ends what nobody has
        pass
    os.close(master)
    return text.decode()


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


def make_certificate(base, address):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hoy test",
                    "-addext", f"subjectAltName=IP:{address}", "-keyout", base / "key.pem", "-out", base / "ca.pem"],
                   check=True, capture_output=True)
    return base / "ca.pem", base / "key.pem"


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


def docker_conf(transfer, tmp_path, **members):
    (tmp_path / "daemon.json").write_text(json.dumps(members))
    transfer.env["HOY_DOCKER_CONF"] = str(tmp_path / "daemon.json")


def bearer(realm, scope="repository:x:pull"):
    return 401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="it",scope="{scope}"'}, b'{"errors":[{"code":"UNAUTHORIZED"}]}'


def want_token(server, token):
    """Everything below /v2/ wants this bearer token."""
    honest = server.honest

    def guarded(method, path):
        if path.startswith("/v2/") and server.headers.get("Authorization") != f"Bearer {token}":
            return bearer(server.realm)
        return honest(method, path)
    server.honest = guarded


MANIFEST_URL = "/v2/x/manifests/latest"


HTML = (200, {"Content-Type": "text/html"}, b"<html>please log in</html>")


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
