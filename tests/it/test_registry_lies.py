"""hoy-transfer against a registry that lies: one clear error, nothing kept."""
import json

import pytest

from conftest import free_port
from liar import CONFIG, INDEX, MANIFEST, Image, digest
from registry_rig import distant, HTML, liar, MANIFEST_URL, other, Transfer, transfer, want_token  # fixtures among them


# --- lies about manifests: (what the registry says, kind of error, words in its message)


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
