"""Wrong input: one clear error, the exit code docker gives, nothing left behind (the census of the fixture)."""
import http.server
import io
import json
import tarfile
import threading

import pytest

from conftest import free_port

CASES = [
    # arguments, exit code, words of the error
    (["nosuch"], 1, "nosuch"),
    (["run", "--nosuch", "busybox"], 125, "--nosuch"),
    (["run"], 125, "requires"),
    (["run", "nosuch:image", "true"], 125, "nosuch"),
    (["run", "--pull", "never", "nosuch", "true"], 125, "nosuch"),
    (["run", "UPPER", "true"], 125, "lowercase"),
    (["run", "busybox:bad tag", "true"], 125, "invalid reference"),
    (["run", "-m", "1x", "busybox", "true"], 125, "1x"),
    (["run", "-m", "1k", "busybox", "true"], 125, "memory"),
    (["run", "--cpus", "abc", "busybox", "true"], 125, "abc"),
    (["run", "-p", "99999:80", "busybox", "true"], 125, "99999"),
    (["run", "-p", "x:y:z:w", "busybox", "true"], 125, "x:y:z:w"),
    (["run", "-v", "relative/path:/x", "busybox", "true"], 125, "relative/path"),
    (["run", "-v", "/tmp:relative", "busybox", "true"], 125, "relative"),
    (["run", "--mount", "type=nosuch,target=/x", "busybox", "true"], 125, "nosuch"),
    (["run", "--mount", "type=bind,source=/no/such/dir,target=/x", "busybox", "true"], 125, "/no/such/dir"),
    (["run", "--network", "nosuch", "busybox", "true"], 125, "nosuch"),
    (["run", "--cap-add", "NOSUCH", "busybox", "true"], 125, "NOSUCH"),
    (["run", "-u", "nosuchuser", "busybox", "true"], 125, "nosuchuser"),
    (["run", "-e", "", "busybox", "true"], 125, "variable"),
    (["run", "--env-file", "/no/such/file", "busybox", "true"], 125, "/no/such/file"),
    (["run", "-w", "relative", "busybox", "true"], 125, "relative"),
    (["run", "--name", "-bad", "busybox", "true"], 125, "-bad"),
    (["run", "--restart", "sometimes", "busybox", "true"], 125, "sometimes"),
    (["run", "--rm", "--restart", "always", "busybox", "true"], 125, "restart"),
    (["run", "--pids-limit", "many", "busybox", "true"], 125, "many"),
    (["start", "nosuch"], 1, "No such container"),
    (["stop", "nosuch"], 1, "No such container"),
    (["rm", "nosuch"], 1, "No such container"),
    (["logs", "nosuch"], 1, "No such container"),
    (["exec", "nosuch", "true"], 1, "No such container"),
    (["kill", "-s", "NOSUCH", "nosuch"], 1, ""),
    (["inspect", "nosuch"], 1, "nosuch"),
    (["rmi", "nosuch"], 1, "No such image"),
    (["tag", "nosuch", "x"], 1, "No such image"),
    (["tag", "busybox", "UPPER"], 1, "lowercase"),
    (["history", "nosuch"], 1, "No such image"),
    (["save", "-o", "/tmp/never-written", "nosuch"], 1, "No such image"),
    (["load", "-i", "/no/such/file"], 1, "/no/such/file"),
    (["import", "/no/such/file", "x"], 1, "/no/such/file"),
    (["volume", "rm", "nosuch"], 1, "nosuch"),
    (["volume", "create", "bad/name"], 1, "bad/name"),
    (["build", "/no/such/dir"], 1, "/no/such/dir"),
    (["cp", "nosuch:/x", "/tmp"], 1, "No such container"),
    (["cp", "/tmp/a", "/tmp/b"], 1, "container"),
    (["ps", "--format", "{{.Nosuch}}"], 1, "Nosuch"),
    (["ps", "--filter", "nosuch=1"], 1, "nosuch"),
    (["inspect", "--format", "{{.Id", "busybox"], 1, "template"),
]


@pytest.mark.parametrize("args,code,words", CASES, ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_one_clear_error(hoy, args, code, words):
    r = hoy.any(*args)
    assert r.code == code, r
    assert words.lower() in r.err.lower(), r
    assert r.out == ("[]\n" if args[0] == "inspect" and "--format" not in args else "") and 1 <= len(r.err.strip().splitlines()) <= 4, r
    assert hoy("ps", "-aq").out == ""


def archive(*entries):
    """A tar of (name, type, link, content)."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, kind, link, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


F, L, H, D = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
ESCAPES = {
    "dotdot": archive(("../escaped", F, "", b"x")),
    "dotdot-inside": archive(("a/../../escaped", F, "", b"x")),
    "hardlink-out": archive(("x", H, "../../../../etc/passwd", b"")),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_escaping_archives_are_refused(fresh_hoy, tmp_path, name):
    (tmp_path / "evil.tar").write_bytes(ESCAPES[name])
    r = fresh_hoy("import", tmp_path / "evil.tar", "evil", code=1)
    assert len(r.err.strip().splitlines()) == 1
    assert not (tmp_path.parent / "escaped").exists() and fresh_hoy("images", "-q").out == ""


def test_a_symlink_does_not_lead_out(fresh_hoy, tmp_path):
    target = tmp_path / "outside"
    target.mkdir()
    (tmp_path / "evil.tar").write_bytes(archive(("link", L, str(target), b""), ("link/file", F, "", b"x")))
    fresh_hoy.any("import", tmp_path / "evil.tar", "evil")
    assert not list(target.iterdir())


@pytest.mark.parametrize("cut", [0, 1, 511, 700, 1500])
def test_truncated_archives_are_refused(fresh_hoy, tmp_path, cut):
    whole = archive(("file", F, "", b"y" * 2000))
    (tmp_path / "cut.tar").write_bytes(whole[:cut])
    fresh_hoy("import", tmp_path / "cut.tar", "cut", code=1)
    assert fresh_hoy("images", "-q").out == ""


def test_garbage_is_refused(fresh_hoy, tmp_path):
    (tmp_path / "junk").write_bytes(bytes(range(256)) * 20)
    fresh_hoy("import", tmp_path / "junk", "junk", code=1)
    fresh_hoy("load", "-i", tmp_path / "junk", code=1)


class Lies(http.server.BaseHTTPRequestHandler):
    """A registry that answers whatever `answers` says for a path."""

    answers = {}

    def do_GET(self):  # noqa: N802
        status, headers, body = self.answers.get(self.path, (404, {}, b'{"errors":[{"code":"NAME_UNKNOWN"}]}'))
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k, v)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def liar():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lies)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


MANIFEST = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
DIGEST = "sha256:" + "0" * 64
LIES = {
    "not found": (404, {}, b"{}"),
    "html": (200, {"Content-Type": "text/html"}, b"<html>login</html>"),
    "not json": (200, MANIFEST, b"{"),
    "empty": (200, MANIFEST, b""),
    "unauthorized": (401, {"WWW-Authenticate": 'Basic realm="x"'}, b""),
    "forbidden": (403, {}, b""),
    "server error": (500, {}, b"oops"),
    "wrong schema": (200, MANIFEST, b'{"schemaVersion":1}'),
    "both": (200, MANIFEST, json.dumps({"schemaVersion": 2, "layers": [], "manifests": []}).encode()),
    "wrong digest": (200, MANIFEST, json.dumps({
        "schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST,
                                       "size": 2}, "layers": []}).encode()),
    "truncated": (200, dict(MANIFEST, **{"Content-Length": "5000"}), b"{}"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lying_registries(fresh_hoy, liar, lie):
    Lies.answers = {"/v2/": (200, {}, b"{}"), "/v2/x/manifests/latest": LIES[lie],
                    f"/v2/x/blobs/{DIGEST}": (200, {}, b"no")}
    r = fresh_hoy("pull", f"{liar}/x", code=1)
    assert 1 <= len(r.err.strip().splitlines()) <= 3, r
    assert fresh_hoy("images", "-q").out == ""


def test_dead_registry(fresh_hoy):
    r = fresh_hoy("pull", f"127.0.0.1:{free_port()}/x", code=1)
    assert "refused" in r.err


def test_login_to_a_dead_registry(fresh_hoy):
    fresh_hoy("login", "-u", "a", "--password-stdin", f"127.0.0.1:{free_port()}", stdin="secret", code=1)


def test_name_in_use(hoy):
    hoy("create", "--name", "taken", "busybox", "true")
    assert "already in use" in hoy("create", "--name", "taken", "busybox", "true", code=125).err
    hoy("rm", "taken")
