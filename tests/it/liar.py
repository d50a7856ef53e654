"""A registry in Python that is honest but for what a test overrides; and images made of bytes."""
import gzip
import hashlib
import http.server
import json
import ssl
import threading

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Image:
    """Blobs and a manifest; change the documents before asking for them to make a lie."""

    def __init__(self, layers=(b"first layer" * 50, b"second layer" * 70), arch="amd64"):
        self.blobs = {}
        self.config = self.add(json.dumps({
            "architecture": arch, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(x) for x in layers]}}).encode(), CONFIG)
        self.layers = [self.add(gzip.compress(x, 1, mtime=0), LAYER) for x in layers]
        self.doc = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self.config, "layers": self.layers}

    def add(self, data, media_type):
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def manifest(self):
        return json.dumps(self.doc).encode()

    def descriptor(self, arch="amd64", **more):
        body = self.manifest()
        return dict({"mediaType": MANIFEST, "digest": digest(body), "size": len(body),
                     "platform": {"os": "linux", "architecture": arch}}, **more)


class Handler(http.server.BaseHTTPRequestHandler):
    """Looks an answer up; an answer is (status, headers, body) or a function of the handler."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        liar = self.server.liar
        path = self.path.split("?")[0]
        liar.seen.append((self.command, self.path, dict(self.headers.items())))
        liar.here.headers = self.headers
        length = int(self.headers.get("Content-Length", 0))
        limit = liar.limit(self) if length else 0
        self.sent = self.rfile.read(min(length, limit)) if length else b""
        found = liar.routes.get((self.command, path))
        if found is None and self.command in ("GET", "HEAD"):
            found = liar.routes.get(path)
        if found is None:
            found = liar.honest(self.command, path)
        if callable(found):
            found = found(self)
        if found is not None:
            self.reply(*found)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer

    def reply(self, status, headers, body):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self):
        """Ends the connection as a broken network does."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


class Liar:
    """The server; repository "x" holds `image` under every tag and its digest."""

    def __init__(self, address="127.0.0.1", tls=None, client_ca=None):
        self.image = Image()
        self.routes, self.seen, self.more = {}, [], {}
        self.here = threading.local()
        self.wait = threading.Event()
        self.limit = lambda handler: 1 << 40  # how much of a request's body is read
        self.server = Server((address, 0), Handler)
        self.server.liar = self
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            if client_ca:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(client_ca)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.host = f"{address}:{self.server.server_address[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def headers(self):
        """Those of the request that this thread answers; the last one seen may be another's."""
        return self.here.headers

    def honest(self, method, path):
        if path == "/v2/":
            return 200, {}, b"{}"
        kind, name = path.split("/")[-2:]
        if kind == "blobs" and name in self.image.blobs:
            return 200, {"Content-Type": "application/octet-stream"}, self.image.blobs[name]
        body = self.image.manifest()
        if kind == "manifests" and (":" not in name or name == digest(body)):
            return 200, {"Content-Type": MANIFEST, "Docker-Content-Digest": digest(body)}, body
        if kind == "manifests" and name in self.more:
            return 200, {"Content-Type": json.loads(self.more[name]).get("mediaType", MANIFEST)}, self.more[name]
        return 404, {"Content-Type": "application/json"}, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}'

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)
