"""hoy-transfer against a registry that lies: one clear error, nothing kept."""
import gzip
import hashlib
import io
import itertools
import json
import subprocess
import tarfile
import threading
import time

import pytest

from conftest import BUILD, Hoy, free_port
from liar import CONFIG, INDEX, MANIFEST, Image, digest
from registry_rig import HTML, MANIFEST_URL, distant, leaked, liar, other, transfer, want_token  # fixtures among them


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


# --- lies below HTTP, and about time


def raw_answer(text, then=b""):
    """Bytes as they are on the wire; the connection ends."""
    def answer(handler):
        handler.wfile.write(text + then)
        handler.cut()
    return answer


def stalling(handler):
    """A head, one byte, and then nothing."""
    if handler.command == "HEAD":
        return 200, {}, b""
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.wfile.flush()
    handler.server.liar.wait.wait(300)
    handler.close_connection = True
    return None


def ping_pong(other):
    """Two hosts that send each other the client."""
    def answer(handler):
        return 302, {"Location": other.url + handler.path}, b""
    return answer


OK = b"HTTP/1.1 200 OK\r\n"
WIRE_LIES = {
    "two lengths": (raw_answer(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}    "), ""),
    "negative length": (raw_answer(OK + b"Content-Length: -5\r\n\r\n{}"), ""),
    "length beyond all": (raw_answer(OK + b"Content-Length: 99999999999999999999999\r\n\r\n{}"), ""),
    "length and chunks": (raw_answer(OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), "invalid"),
    "endless chunk size": (raw_answer(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\n{}"), "unavailable"),
    "trailers without end": (raw_answer(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20000), "limit unavailable"),
    "no status line": (raw_answer(b"{}\r\n\r\n"), "unavailable"),
    "status 999": (raw_answer(b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"), "unavailable"),
    "status 000": (raw_answer(b"HTTP/1.1 000 What\r\nContent-Length: 0\r\n\r\n"), ""),
    "informational for ever": (raw_answer(b"HTTP/1.1 100 Continue\r\n\r\n" * 3000), ""),
    "header without end": (raw_answer(OK + b"X-Long: " + b"y" * 200000 + b"\r\n\r\n"), "limit unavailable"),
    "control characters": (raw_answer(OK + b"X: \x00\x01\r\nContent-Length: 2\r\n\r\n{}"), ""),
    "compressed header": (raw_answer(OK + b"Content-Encoding: br, gzip, zstd\r\nContent-Length: 2\r\n\r\n{}"), "invalid"),
}


@pytest.mark.parametrize("lie", WIRE_LIES)
def test_lies_on_the_wire(transfer, liar, lie):
    answer, kinds = WIRE_LIES[lie]
    liar.routes[MANIFEST_URL] = answer
    transfer.remember(liar.host)
    error = transfer.fails("pull", f"{liar.host}/x")
    assert not kinds or error["kind"] in kinds.split(), error
    assert transfer.blobs() == {} and not leaked(liar)


@pytest.mark.parametrize("what", ["manifest", "blob", "token", "ping"])
def test_who_stalls_is_left(transfer, liar, what):
    layer = liar.image.layers[0]["digest"]
    liar.realm = f"{liar.url}/token"
    if what == "token":
        want_token(liar, "t")
    liar.routes[{"manifest": MANIFEST_URL, "blob": f"/v2/x/blobs/{layer}", "token": "/token", "ping": "/v2/"}[what]] = stalling
    started = time.monotonic()
    error = transfer.fails("pull", "--stall-s", "1", f"{liar.host}/x")
    liar.wait.set()
    assert error["kind"] == "timeout" and time.monotonic() - started < 100, error


def test_hours_of_retry_after_are_not_waited_for(transfer, liar):
    liar.routes[MANIFEST_URL] = (429, {"Retry-After": "7200", "RateLimit-Limit": "100;w=21600",
                                       "RateLimit-Remaining": "0;w=21600"}, b"")
    started = time.monotonic()
    error = transfer.fails("pull", f"{liar.host}/x")
    assert error["kind"] == "limit" and time.monotonic() - started < 100
    assert "100 in 21600 s, 0 left" in error["message"] and "7200 s" in error["message"]


def test_redirects_between_hosts_end(transfer, liar, other):
    liar.routes[MANIFEST_URL] = ping_pong(other)
    other.routes[MANIFEST_URL] = ping_pong(liar)
    transfer.remember(liar.host)
    assert "redirects" in transfer.fails("pull", f"{liar.host}/x")["message"]
    assert len(liar.seen) + len(other.seen) < 40 and not leaked(other)


LOCATIONS = ["file:///etc/passwd", "gopher://127.0.0.1/", "http://user:pw@127.0.0.1/", "//", "http://[::1", "\x01", "http://\xff/",
             "javascript:x", "http://127.0.0.1:99999/", "data:,x", "dict://127.0.0.1:11211/stat", "ldap://127.0.0.1", "/%00/..\\..",
             "unix:///run/docker.sock", "http+unix://%2Frun%2Fdocker.sock/x"]


@pytest.mark.parametrize("location", LOCATIONS)
def test_locations_that_lead_nowhere(transfer, liar, location):
    layer = liar.image.layers[0]["digest"]
    liar.routes[f"/v2/x/blobs/{layer}"] = (307, {"Location": location}, b"")
    transfer.remember(liar.host)
    error = transfer.fails("pull", f"{liar.host}/x")
    assert error["kind"] in ("invalid", "unavailable", "not_found") and "root:" not in error["message"]
    assert layer[7:] not in transfer.blobs()


CHALLENGES = {
    "realm with a line end": 'Bearer realm="http://127.0.0.1:1/\\r\\nX: y"',
    "realm of a file": 'Bearer realm="file:///etc/shadow"',
    "no realm": "Bearer service=x",
    "unknown scheme": "Negotiate abc",
    "quotes without end": 'Bearer realm="http://127.0.0.1',
    "nothing": "",
    "commas": ",,,,=,=,,",
    "long": "Bearer " + "x" * 30000,
    "basic and bearer elsewhere": 'Basic realm="x", Bearer realm="http://192.0.2.1:1/t"',
    "unicode": 'Bearer realm="http://ex\u00e4mple.invalid/t"',
}


@pytest.mark.parametrize("lie", CHALLENGES)
def test_lies_in_challenges(transfer, liar, lie):
    """A 401 for ever, with a challenge that leads nowhere."""
    header = CHALLENGES[lie].encode("utf-8").decode("latin-1")
    liar.honest = lambda method, path: (401, {"WWW-Authenticate": header}, b"")
    transfer.remember(liar.host)
    error = transfer.fails("pull", "--connect-ms", "500", f"{liar.host}/x")
    assert error["kind"] in ("denied", "invalid", "unavailable", "timeout"), error
    assert len(liar.seen) < 20


MORE_MANIFEST_LIES = {
    "sha512": with_layer(digest="sha512:" + "0" * 128),
    "digest in unicode": with_layer(digest="sha256:" + "\u0660" * 64),
    "digest is a list": with_layer(digest=["sha256:" + "0" * 64]),
    "index as manifest type": (200, {"Content-Type": MANIFEST}, index_of()[2]),
    "manifest as index type": (200, {"Content-Type": INDEX}, Image().manifest().replace(MANIFEST.encode(), INDEX.encode())),
    "not UTF-8": (200, {"Content-Type": MANIFEST}, b'{"schemaVersion":2,"x":"\xff\xfe"}'),
    "UTF-16": (200, {"Content-Type": MANIFEST}, Image().manifest().decode().encode("utf-16")),
    "two documents": (200, {"Content-Type": MANIFEST}, Image().manifest() * 2),
    "NUL inside": (200, {"Content-Type": MANIFEST}, b'{"schemaVersion":2,"x":"\\u0000"}'),
    "thousands of layers": with_doc(layers=Image().layers * 3000),
    "layers in layers": with_doc(layers=[Image().layers]),
    "size as fraction": with_layer(size=1.5),
    "size as truth": with_layer(size=True),
    "sum of sizes beyond all": with_doc(layers=[dict(Image().layers[0], digest=digest(bytes([i])), size=(1 << 63) - 1)
                                                for i in range(5)]),
    "schema version as text": with_doc(schemaVersion="2"),
    "config without size": with_doc(config={"mediaType": CONFIG, "digest": digest(b"x")}),
    "deep inside": with_doc(annotations=json.loads("[" * 200 + "]" * 200)),
}


@pytest.mark.parametrize("lie", MORE_MANIFEST_LIES)
def test_more_lies_about_manifests(transfer, liar, lie):
    liar.routes[MANIFEST_URL] = MORE_MANIFEST_LIES[lie]
    transfer.remember(liar.host)
    error = transfer.fails("pull", f"{liar.host}/x")
    assert error["kind"] in ("invalid", "limit", "unsupported", "corrupt", "not_found"), error
    assert not [x for x in transfer.blobs() if digest(liar.image.manifest())[7:] == x] and not leaked(liar)


MORE_BLOB_LIES = {
    "gzip on top": lambda data: (200, {"Content-Encoding": "gzip"}, gzip.compress(data)),
    "partial without being asked": lambda data: (206, {"Content-Range": f"bytes 0-{len(data) - 2}/{len(data)}"}, data[:-1]),
    "no content": lambda data: (204, {}, b""),
    "multipart": lambda data: (206, {"Content-Type": "multipart/byteranges; boundary=x"}, b"--x\r\n\r\n" + data + b"\r\n--x--"),
    "not satisfiable": lambda data: (416, {}, b""),
    "moved without target": lambda data: (301, {}, b""),
    "the manifest": lambda data: (200, {}, Image().manifest()),
    "twice": lambda data: (200, {}, data + data),
    "chunks without end": lambda data: raw_answer(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + bytes(4096) + b"\r\n"),
}


@pytest.mark.parametrize("lie", MORE_BLOB_LIES)
def test_more_lies_about_blobs(transfer, liar, lie):
    layer = liar.image.layers[0]["digest"]
    liar.routes[f"/v2/x/blobs/{layer}"] = MORE_BLOB_LIES[lie](liar.image.blobs[layer])
    error = transfer.fails("pull", f"{liar.host}/x")
    assert layer in error["message"] and layer[7:] not in transfer.blobs()


def test_names_and_titles_are_only_text(transfer, liar, tmp_path):
    """Annotations that look like paths, control characters and right-to-left marks: kept as they are, never followed."""
    evil = {"org.opencontainers.image.title": "../../../../tmp/hoy-was-here", "org.opencontainers.image.ref.name": "/etc/passwd",
            "\u202eevil": "\u0007\u001b[31m", "": "empty"}
    liar.image.doc["annotations"] = evil
    for layer in liar.image.layers:
        layer["annotations"] = evil
    got = transfer.ok("pull", f"{liar.host}/x")["digest"]
    assert json.loads(transfer.blobs()[got[7:]])["annotations"] == evil
    transfer.ok("copy", f"{liar.host}/x", f"dir:{tmp_path}/d")
    assert sorted(x.name for x in (tmp_path / "d").iterdir()) == sorted(
        ["version", "manifest.json", *(x[7:] for x in liar.image.blobs)])
    transfer.check()


# --- a bomb: a layer that is small on the way and huge unpacked (the other kind: src/codec/codec_test.c)


def same_bytes(size, packer=("gzip", "-6"), byte=b"x"):
    """A layer of one file of the same byte, which is hardly anything when it is compressed."""
    head = io.BytesIO()
    with tarfile.open(fileobj=head, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.size = size
        tar.fileobj.write(info.tobuf())
    block = byte * (1 << 20)
    p = subprocess.Popen(packer, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out = []
    reader = threading.Thread(target=lambda: out.append(p.stdout.read()))
    reader.start()
    sha = hashlib.sha256()
    for part in itertools.chain([head.getvalue()[:512]], itertools.repeat(block, size >> 20), [bytes(1024)]):
        sha.update(part)
        p.stdin.write(part)
    p.stdin.close()
    reader.join()
    p.wait()
    return out[0], "sha256:" + sha.hexdigest()


def bomb_image(data, diff_id, kind="gzip"):
    image = Image([])
    image.layers = [image.add(data, f"application/vnd.oci.image.layer.v1.tar+{kind}")]
    image.doc["layers"] = image.layers
    image.doc["config"] = image.add(json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                                                "rootfs": {"type": "layers", "diff_ids": [diff_id]}}).encode(), CONFIG)
    return image


@pytest.mark.parametrize("kind,mib,disk,error", [("gzip", 256, 64, "No space left"), ("zstd", 1200, 64, "No space left"),
                                                 ("zstd", 640, 530, "less than a twentieth of the disk is free")])
def test_a_bomb_ends_with_the_disk(tmp_path, liar, kind, mib, disk, error):
    """On a small file system the error says so, and the room is free again. On a larger one others keep some of it."""
    data, diff_id = same_bytes(mib << 20, [kind, "-3"])
    liar.image = bomb_image(data, diff_id, kind)
    script = (f'mount -t tmpfs -o size={disk}m none "$1" && HOY_ROOT=$1/root HOY_RUN=$1/run "$2" pull "$3"; code=$?; '
              'df --output=used -B1 "$1" | tail -1 >&2; exit $code')
    (tmp_path / "disk").mkdir()
    p = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", tmp_path / "disk", BUILD / "src/main/hoy", f"{liar.host}/x"],
                       capture_output=True, text=True, timeout=600)
    assert p.returncode == 1 and error in p.stderr, p
    assert int(p.stderr.split()[-1]) < 8 << 20, p.stderr


def test_honest_zeros_are_no_bomb(tmp_path, liar):
    """1.1 GiB of them are 40 KB of zstd."""
    data, diff_id = same_bytes(1100 << 20, ["zstd", "-3"], b"\0")
    assert len(data) < 1 << 17
    liar.image = bomb_image(data, diff_id, "zstd")
    hoy = Hoy(tmp_path)
    hoy.env["HOY_STORAGE_DRIVER"] = "overlay"  # which makes holes of them
    hoy("pull", f"{liar.host}/x")
    layer, = (tmp_path / "root/layers").glob("?" * 64)
    assert (layer / "tree/file").stat().st_size == 1100 << 20
    hoy("save", "-o", tmp_path / "saved.tar", f"{liar.host}/x")
    hoy("rmi", f"{liar.host}/x")
    hoy("load", "-i", tmp_path / "saved.tar")
    hoy("system", "reset", "--force")
