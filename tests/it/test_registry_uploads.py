"""Uploads that are cut go on where they were, in chunks, also in the next process; lists of referrers where there is no API."""
import json
import signal
import socket
import subprocess
import threading

import pytest

from conftest import until
from liar import INDEX, MANIFEST, Image, digest
from registry_rig import big_image, liar, other, seed, transfer  # fixtures among them
from test_registry_copy import raw


class Sessions:
    """The receiving side as distribution-spec has it: sessions that remember what came."""

    def __init__(self, server, cuts=(), least=None, refuse_patch=None):
        self.server, self.cuts, self.least, self.refuse = server, list(cuts), least, refuse_patch
        self.data, self.got, self.log, self.gone, self.lock = {}, {}, [], set(), threading.Lock()
        honest = server.honest
        server.limit = lambda h: self.cuts[0] if self.cuts and h.command in ("PUT", "PATCH") and "/upload/" in h.path else 1 << 40
        server.honest = lambda m, p: self.answer(m, p) if "/upload" in p or "/blobs/sha256" in p or (m == "PUT") else honest(m, p)
        for method in ("PUT", "PATCH"):
            for n in range(1, 200):
                server.routes[(method, f"/upload/{n}")] = self.receive

    def answer(self, method, path):
        if method == "POST":
            with self.lock:
                n = str(len(self.data) + 1)
                self.data[n] = b""
            return 202, dict({"Location": f"/upload/{n}?s=0"}, **({"OCI-Chunk-Min-Length": str(self.least)} if self.least else {})), b""
        if method == "GET" and "/upload/" in path:
            n = path.split("/")[-1]
            self.log.append(("GET", len(self.data.get(n, b""))))
            if n not in self.data or n in self.gone:
                return 404, {}, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}'
            return 204, {"Range": f"0-{max(len(self.data[n]) - 1, 0)}", "Location": f"/upload/{n}?s={len(self.data[n])}"}, b""
        if method == "PUT" and "/manifests/" in path:
            return 201, {"OCI-Subject": "x"}, b""
        return 404, {}, b""

    def receive(self, handler):
        n = handler.path.split("?")[0].split("/")[-1]
        length = int(handler.headers.get("Content-Length", 0))
        self.log.append((handler.command, handler.headers.get("Content-Range"), length))
        if handler.command == "PATCH":
            if self.refuse:
                return self.refuse, {}, b""
            start = int(handler.headers["Content-Range"].split("-")[0])
            if start != len(self.data[n]):
                return 416, {"Range": f"0-{len(self.data[n]) - 1}"}, b""
        self.data[n] += handler.sent
        if len(handler.sent) < length:
            self.cuts.pop(0)
            return handler.cut()
        if handler.command == "PATCH":
            return 202, {"Location": f"/upload/{n}?s={len(self.data[n])}", "Range": f"0-{len(self.data[n]) - 1}"}, b""
        want = handler.path.split("digest=")[1].replace("%3A", ":")
        if digest(self.data[n]) != want:
            return 400, {}, b'{"errors":[{"code":"DIGEST_INVALID"}]}'
        self.got[want] = self.data[n]
        return 201, {}, b""

    def sent(self):
        return sum(len(x) for x in self.data.values())


@pytest.fixture
def pushed(transfer, other):
    """A 20 MiB layer here, and its digest."""
    layer, data = big_image(other, 20 << 20)
    return transfer.ok("pull", f"{other.host}/x")["digest"], layer, data


def test_a_cut_upload_goes_on(transfer, liar, pushed):
    got, layer, data = pushed
    s = Sessions(liar, cuts=[5 << 20, 3 << 20, 7 << 20])
    transfer.ok("push", f"{liar.host}/y:1", got)
    assert s.got[layer] == data
    assert s.sent() - len(data) < 1 << 20, "bytes travelled twice"
    assert ("PATCH", f"{5 << 20}-{(13 << 20) - 1}", 8 << 20) in s.log
    transfer.check()


def test_the_next_process_goes_on(transfer, liar, pushed):
    got, layer, data = pushed
    s = Sessions(liar, cuts=[6 << 20])
    receive, down = s.receive, []

    def once(handler):
        if down:
            return 503, {}, b""
        if int(handler.headers.get("Content-Length", 0)) > 1 << 20:
            down.append(1)
        return receive(handler)
    keep = dict(liar.routes)
    for key in keep:
        if key[0] in ("PUT", "PATCH"):
            liar.routes[key] = once
    code, _, last = transfer("push", f"{liar.host}/y:1", got)
    assert code == 1 and last["error"]["kind"] == "unavailable"
    assert [x for x in (transfer.root / "tmp").iterdir() if x.name.startswith("upload-")]
    liar.routes.update(keep)
    transfer.ok("push", f"{liar.host}/y:1", got)
    assert s.got[layer] == data and s.sent() - len(data) < 1 << 20
    transfer.check()


def test_a_killed_push_goes_on(transfer, liar, pushed):
    got, layer, data = pushed
    s = Sessions(liar)
    came, dead = threading.Event(), threading.Event()
    usual = liar.limit

    def limit(handler):
        if int(handler.headers.get("Content-Length", 0)) > 1 << 20 and not came.is_set():
            s.data[handler.path.split("?")[0].split("/")[-1]] += handler.rfile.read(4 << 20)
            came.set()
            assert dead.wait(60)
        return usual(handler)
    liar.limit = limit
    p = subprocess.Popen([transfer.binary, "--root", transfer.root, "push", f"{liar.host}/y:1", got], env=transfer.env,
                         stdout=subprocess.DEVNULL)
    assert came.wait(60)
    p.send_signal(signal.SIGKILL)
    p.wait()
    s.cuts.append(0)
    dead.set()
    until(lambda: not s.cuts)
    transfer.ok("push", f"{liar.host}/y:1", got)
    assert s.got[layer] == data and ("PATCH", f"{4 << 20}-{(12 << 20) - 1}", 8 << 20) in s.log
    transfer.check()


def test_a_session_that_is_gone_begins_again(transfer, liar, pushed):
    got, layer, data = pushed
    s = Sessions(liar, cuts=[5 << 20])
    receive = s.receive

    def lose(handler):
        result = receive(handler)
        if result is None:
            s.gone.add(handler.path.split("?")[0].split("/")[-1])
        return result
    for key in list(liar.routes):
        liar.routes[key] = lose
    transfer.ok("push", f"{liar.host}/y:1", got)
    assert s.got[layer] == data and ("PATCH", f"0-{(8 << 20) - 1}", 8 << 20) in s.log


def test_a_registry_without_chunks_gets_one_piece(transfer, liar, pushed):
    got, layer, data = pushed
    s = Sessions(liar, cuts=[5 << 20], refuse_patch=405)
    transfer.ok("push", f"{liar.host}/y:1", got)
    assert s.got[layer] == data


def test_the_least_chunk_is_kept_to(transfer, liar, pushed):
    got, layer, data = pushed
    s = Sessions(liar, cuts=[1 << 20], least=12 << 20)
    transfer.ok("push", f"{liar.host}/y:1", got)
    assert s.got[layer] == data and ("PATCH", f"{1 << 20}-{(13 << 20) - 1}", 12 << 20) in s.log


@pytest.mark.parametrize("lie", ["more than there is", "no number", "another session"])
def test_lies_about_sessions(transfer, liar, pushed, lie):
    got, layer, data = pushed
    s = Sessions(liar, cuts=[5 << 20])
    honest = liar.honest

    def lying(method, path):
        status, headers, body = honest(method, path)
        if method == "GET" and "/upload/" in path:
            headers = {"more than there is": {"Range": "0-99999999999"}, "no number": {"Range": "all of it"},
                       "another session": {"Range": "0-1048575"}}[lie]
        return status, headers, body
    liar.honest = lying
    code, _, last = transfer("push", f"{liar.host}/y:1", got)
    assert s.got.get(layer) == data if code == 0 else last["error"]["kind"] in ("invalid", "unavailable"), last
    assert lie == "another session" or code == 0


class Cutter:
    """A relay that breaks the first connection that carries more than `after` bytes to the registry."""

    def __init__(self, target, after):
        self.target, self.after, self.cuts = target, after, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.socket.accept()[0]
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self.relay, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.relay, args=(server, client, False), daemon=True).start()

    def relay(self, a, b, counts):
        n = 0
        try:
            while data := a.recv(65536):
                n += len(data)
                if counts and n > self.after and not self.cuts:
                    self.cuts += 1
                    break
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_a_cut_at_docker_s_registry(transfer, registry, pushed):
    got, layer, data = pushed
    relay = Cutter(registry.port, 10 << 20)
    transfer.ok("push", f"{relay.host}/cut/push:1", got)
    relay.socket.close()
    assert relay.cuts == 1
    transfer.ok("inspect", f"{registry.host}/cut/push:1")
    subprocess.run(["skopeo", "copy", "--src-tls-verify=false", f"docker://{registry.host}/cut/push:1", f"dir:{transfer.home.parent}/d"],
                   check=True, capture_output=True)
    assert (transfer.home.parent / "d" / layer[7:]).read_bytes() == data


def signature(subject, text):
    image = Image([])
    image.doc = {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.acme.signature",
                 "config": image.add(b"{}", "application/vnd.oci.empty.v1+json"), "layers": [image.add(text, "application/octet-stream")],
                 "subject": subject, "annotations": {"acme.by": "joe"}}
    return image


def test_referrers_are_listed_where_there_is_no_api(transfer, registry, liar, tmp_path):
    """docker-registry 2 has none: the list stands under the tag of the subject, each once."""
    seed(Image(), tmp_path, f"{registry.host}/refer/app:1")
    body = raw(f"{registry.host}/refer/app:1")
    subject = {"mediaType": MANIFEST, "digest": digest(body), "size": len(body)}
    made = []
    for text in (b"one", b"two", b"one"):
        liar.image = signature(subject, text)
        made.append(digest(liar.image.manifest()))
        transfer.ok("copy", f"{liar.host}/x", f"{registry.host}/refer/app:sig-{text.decode()}")
        assert raw(f"{registry.host}/refer/app@{made[-1]}") == liar.image.manifest()
    tag = f"{registry.host}/refer/app:sha256-{digest(body)[7:]}"
    found = json.loads(raw(tag))
    assert found["mediaType"] == INDEX and [x["digest"] for x in found["manifests"]] == made[:2]
    assert found["manifests"][0] == {"mediaType": MANIFEST, "digest": made[0], "size": found["manifests"][0]["size"],
                                     "artifactType": "application/vnd.acme.signature", "annotations": {"acme.by": "joe"}}
    transfer.ok("copy", "--all", tag, f"oci-archive:{tmp_path}/signatures.tar:s")  # the list is an index: it goes along whole
    transfer.ok("copy", "--all", f"oci-archive:{tmp_path}/signatures.tar:s", f"{registry.host}/refer/other:s")
    assert raw(f"{registry.host}/refer/other:s") == raw(tag)


def test_a_registry_with_the_api_gets_no_list(transfer, liar, other):
    s = Sessions(liar)
    other.image = signature({"mediaType": MANIFEST, "digest": digest(b"x"), "size": 1}, b"one")
    transfer.ok("copy", f"{other.host}/x", f"{liar.host}/y:1")
    assert s.got and not [x for x in liar.seen if "sha256-" in x[1]]


def test_a_list_that_is_no_index_is_an_error(transfer, liar, other):
    Sessions(liar)
    honest = liar.honest
    liar.honest = lambda m, p: (201, {}, b"") if m == "PUT" and "manifests" in p else \
        (200, {"Content-Type": INDEX}, b'{"manifests":7}') if "sha256-" in p else honest(m, p)
    other.image = signature({"mediaType": MANIFEST, "digest": digest(b"x"), "size": 1}, b"one")
    error = transfer.fails("copy", f"{other.host}/x", f"{liar.host}/y:1")
    assert error["kind"] == "invalid" and "refers to" in error["message"]
