"""import and load of what a URL has: all of it or an error, whatever the other side does."""
import gzip
import os

import pytest

from conftest import Hoy, free_port
from registry_rig import distant, liar  # fixtures


@pytest.fixture
def lone(tmp_path):
    """hoy with an empty root."""
    h = Hoy(tmp_path)
    yield h
    h.remove_all()
    h.any("system", "reset", "--force")


def is_empty(hoy):
    return not list((hoy.root / "blobs/sha256").iterdir()) and not list((hoy.root / "tmp").iterdir())


def fails(hoy, url, command=("import",)):
    """The one error; nothing is kept."""
    r = hoy(*command, url, code=1)
    assert r.err.count("\n") == 1 and is_empty(hoy), r
    return r.err


def test_import_and_load(lone, liar, busybox_tar, tmp_path):
    data = busybox_tar.read_bytes()
    liar.routes["/box.tar.gz?v=1".split("?")[0]] = (200, {}, gzip.compress(data, 1))
    image = lone("import", "-c", "CMD /bin/sh", f"{liar.url}/box.tar.gz?v=1", "fetched").out
    assert image == lone("import", "-c", "CMD /bin/sh", busybox_tar, "local").out
    assert liar.seen[0][1] == "/box.tar.gz?v=1"
    assert lone("run", "--rm", "fetched", "echo", "here").out == "here\n"
    lone("save", "-o", tmp_path / "a.tar", "local")
    liar.routes["/a.tar"] = (200, {}, (tmp_path / "a.tar").read_bytes())
    liar.routes["/there"] = (302, {"Location": "/a.tar"}, b"")
    lone("rmi", "fetched", "local")
    assert lone("load", "-i", f"{liar.url}/there").out == "Loaded image: local:latest\n"
    assert lone("images", "-q", "--no-trunc").out == image


def test_what_was_cut_goes_on(lone, liar, busybox_tar):
    data = busybox_tar.read_bytes()
    step = len(data) // 3

    def route(handler):
        seen.append((handler.headers.get("Range"), handler.headers.get("If-Range")))
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", '"one"')
        handler.send_header("Content-Length", str(len(data) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.end_headers()
        handler.wfile.write(data[start:start + step])
        if start + step < len(data):
            handler.cut()
    seen = []
    liar.routes["/x"] = route
    image = lone("import", f"{liar.url}/x").out
    assert seen[0] == (None, None) and len(seen) > 2 and all(x[1] == '"one"' and x[0] for x in seen[1:])
    assert image == lone("import", busybox_tar).out


@pytest.mark.parametrize("kind", ["nothing tells that it is the same", "another file", "weak tag"])
def test_what_cannot_go_on_is_an_error(lone, liar, busybox_tar, kind):
    data = busybox_tar.read_bytes()
    tag = {"another file": '"%d"', "weak tag": 'W/"x"'}.get(kind)

    def route(handler):
        handler.send_response(200)
        if tag:
            handler.send_header("ETag", tag % len(liar.seen) if "%" in tag else tag)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:700000])
        handler.cut()
    liar.routes["/x"] = route
    error = fails(lone, f"{liar.url}/x")
    assert "cut after" in error or "unexpected end of the connection" in error
    assert len(liar.seen) == (2 if kind == "another file" else 1)


@pytest.mark.parametrize("command", [("import",), ("load", "-i")])
def test_errors_say_what_is_wrong(lone, liar, command):
    liar.routes["/none.tar"] = (404, {}, b"<html>no</html>")
    assert "404 Not Found" in fails(lone, f"{liar.url}/none.tar", command)
    liar.routes["/loop"] = (302, {"Location": "/loop"}, b"")
    assert "redirects" in fails(lone, f"{liar.url}/loop", command)
    liar.routes["/secret"] = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    assert "401 Unauthorized" in fails(lone, f"{liar.url}/secret", command)
    liar.routes["/part"] = (206, {"Content-Range": "bytes 5-9/10"}, b"12345")
    assert "206" in fails(lone, f"{liar.url}/part", command)
    liar.routes["/html"] = (200, {}, b"<html>" + os.urandom(4096))
    assert "tar" in fails(lone, f"{liar.url}/html", command)
    assert "connection refused" in fails(lone, f"http://127.0.0.1:{free_port()}/x", command)
    assert "no such host" in fails(lone, "https://no.such.host.invalid/x", command)
    assert "user or password inside" in fails(lone, "https://joe:secret@host.invalid/x", command)


def test_a_reader_that_gives_up_ends_it(lone, liar):
    """What is no archive is not read to the end."""
    def route(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"\xff" * 65536)
        except OSError:
            ended.append(True)
    ended = []
    liar.routes["/x"] = route
    fails(lone, f"{liar.url}/x", ("load", "-i"))
    assert not [x for x in os.listdir("/proc") if x.isdigit() and cmdline(x).startswith(b"hoy-transfer\0fetch")]


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read()
    except OSError:
        return b""


def test_certificates_are_checked(lone, distant, busybox_tar):
    distant.routes["/x"] = (200, {}, busybox_tar.read_bytes())
    assert "failed to verify certificate" in fails(lone, f"{distant.url}/x")
    distant.routes["/down"] = (302, {"Location": f"http://{distant.host}/x"}, b"")
    assert "refused a redirect from https" in lone("import", f"{distant.url}/down", code=1, env={"SSL_CERT_FILE": str(distant.ca)}).err
    lone("import", f"{distant.url}/x", env={"SSL_CERT_FILE": str(distant.ca)})
