"""Whom hoy-transfer tells what: TLS, tokens, credentials, redirects, proxies."""
import base64
import json
import os
import pty
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from conftest import BUILD, Registry, free_port, until
from liar import Handler, Image, Liar, digest
from registry_rig import (  # fixtures among them
    bearer, certs_of, distant, docker_conf, leaked, liar, make_certificate, other, own_address,
    PASSWORD, rest_of, seed, transfer, want_token)

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


def hoy_login(transfer, host):
    return subprocess.run([BUILD / "src/main/hoy", "login", host], env=transfer.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)


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
    again = hoy_login(transfer, host)
    assert again.stdout == "Authenticating with existing credentials...\nLogin Succeeded\n" and again.returncode == 0
    assert transfer.ok("push", f"{host}/private:2", got)["digest"] == got
    assert transfer.ok("logout", host) == {"status": f"Removing login credentials for {host}"}
    assert transfer.ok("logout", host) == {"status": f"Not logged in to {host}"}
    assert transfer.fails("push", f"{host}/private:3", got)["kind"] == "denied"
    assert transfer.fails("login", host)["kind"] == "not_found"
    again = hoy_login(transfer, host)
    assert again.returncode == 1 and again.stderr == "hoy: Cannot perform an interactive login from a non TTY device\n"
    transfer.remember(host, password="old")
    assert "incorrect user name or password" in hoy_login(transfer, host).stderr


def test_login_to_a_file_of_one_s_own(transfer, locked_registry, tmp_path):
    """As podman and skopeo have it; both read and write the same file."""
    host, auth = locked_registry.host, tmp_path / "sub/auth.json"

    def hoy(*args, stdin=""):
        return subprocess.run([BUILD / "src/main/hoy", *args], env=transfer.env, input=stdin, capture_output=True, text=True, check=False)

    assert "not logged in" in hoy("login", "--authfile", auth, "--get-login", host).stderr
    assert hoy("login", "--authfile", auth, "-u", "joe", "--password-stdin", host, stdin=PASSWORD).stdout == "Login Succeeded\n"
    assert auth.stat().st_mode & 0o777 == 0o600 and not transfer.home.exists()
    assert hoy("login", "--authfile", auth, "--get-login", host).stdout == "joe\n"
    assert hoy("login", "--get-login", host).returncode == 1
    assert "existing credentials" in hoy("login", "--authfile", auth, host).stdout
    seed(Image(), tmp_path, f"{host}/own:1", f"--dest-authfile={auth}")
    tags = ["image", "tags", f"{host}/own"]
    assert hoy(*tags).returncode == 1 and hoy(*tags, "--authfile", auth).stdout == "1\n"
    assert hoy("logout", "--authfile", auth, host).stdout == f"Removing login credentials for {host}\n"
    assert hoy("login", "--authfile", auth, "--get-login", host).returncode == 1
    auth.write_text(json.dumps({"auths": {"a.example": {"auth": "eDp5"}, "b.example/team": {"auth": "eDp5"}}, "kept": 1}))
    assert hoy("logout", "--authfile", auth, "--all").stdout == "Removing login credentials for all registries\n"
    assert json.loads(auth.read_text()) == {"auths": {}, "kept": 1}
    assert hoy("logout", "--all", host).returncode == 1


@pytest.mark.parametrize("typed,code", [(f"bad\x15{PASSWORD}x\x7f\r", 0), ("\x04", 1), ("\x03", 1), ("\r", 1)])
def test_a_password_is_typed_unseen(transfer, locked_registry, typed, code):
    """Backspace and ^U edit it; ^D, ^C and nothing give up."""
    master, slave = pty.openpty()
    login = subprocess.Popen([BUILD / "src/main/hoy", "login", "-u", "joe", locked_registry.host], env=transfer.env, stdin=slave, stderr=slave,
                             stdout=subprocess.DEVNULL)
    os.close(slave)
    try:
        seen = b""
        while b"Password: " not in seen:
            seen += os.read(master, 4096)
        os.write(master, typed.encode())
        assert login.wait(60) == code
    finally:
        login.kill()
        rest = rest_of(master)
    assert PASSWORD not in seen.decode() + rest
    assert (transfer.home / "config.json").exists() == (code == 0)


def test_certificates_are_checked(transfer, distant):
    error = transfer.fails("pull", f"{distant.host}/x")
    assert error["kind"] == "unavailable" and "certificate" in error["message"]
    assert f"certs.d/{distant.host}/ca.crt" in error["message"]
    assert not distant.seen
    transfer.ok("pull", f"{distant.host}/x", env={"SSL_CERT_FILE": str(distant.ca)})


def test_tls_verify_as_podman_has_it(transfer, distant):
    hoy = [BUILD / "src/main/hoy", "image", "tags"]
    distant.routes["/v2/x/tags/list"] = (200, {}, b'{"name":"x","tags":["one"]}')
    for flag, code in (["--tls-verify=false"], 0), (["--tls-verify"], 1), (["--tls-verify=true"], 1), (["--insecure"], 0):
        r = subprocess.run([*hoy, *flag, f"{distant.host}/x"], env=transfer.env, capture_output=True, text=True, check=False)
        assert r.returncode == code and r.stdout == ("one\n" if code == 0 else ""), r


def test_insecure_takes_any_certificate(transfer, distant):
    transfer.ok("pull", "--insecure", f"{distant.host}/x")


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
            error = transfer.fails("pull", f"{server.host}/x")
            assert error["kind"] == "unavailable" and "wants a client certificate: client.cert and client.key in /etc/docker/certs.d/" in error["message"]
        with certs_of(server.host, ca_crt=tls[0], client_cert=tls[0]):
            assert "missing key client.key for client certificate client.cert" in transfer.fails("pull", f"{server.host}/x")["message"]
        with certs_of(server.host, ca_crt=tls[0], client_key=tls[1]):
            assert "missing client certificate for key client.key" in transfer.fails("pull", f"{server.host}/x")["message"]
        with certs_of(server.host, ca_crt=tls[0], client_cert=tls[0], other_key=tls[1]):
            assert "missing key client.key" in transfer.fails("pull", f"{server.host}/x")["message"]
        with certs_of(server.host, ca_crt=tls[0], client_cert=tls[0], client_key=tls[1], zz_cert=tls[0], zz_key=tls[0]):
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


class DeafToTls(Handler):
    """Waits for more of what begins a TLS connection, for ever."""

    def handle(self):
        if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":
            while self.connection.recv(4096):
                pass
        else:
            super().handle()


def test_a_registry_that_is_deaf_to_tls(transfer):
    """An insecure one is asked by HTTP after 5 s, another one never."""
    server = Liar(own_address())
    server.server.RequestHandlerClass = DeafToTls
    try:
        error = transfer.fails("pull", "--connect-ms", "6000", f"{server.host}/x")
        assert error["kind"] == "timeout" and not server.seen
        started = time.monotonic()
        transfer.ok("pull", "--insecure", f"{server.host}/x")
        assert 4 < time.monotonic() - started < 15
    finally:
        server.stop()


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
    docker_conf(transfer, tmp_path, **{"registry-mirrors": ["http://127.0.0.1:1", liar.url + "/", other.url]})
    transfer.remember("docker.io")
    assert transfer.ok("pull", "some/image:1")["digest"] == digest(other.image.manifest())
    assert any(x[1] == "/v2/some/image/manifests/1" for x in liar.seen)
    assert not leaked(liar) and not leaked(other)
    liar.seen.clear()
    transfer.ok("pull", f"{other.host}/some/image:1")  # mirrors are for docker.io only
    assert not liar.seen
    docker_conf(transfer, tmp_path, **{"registry-mirrors": ["not a url"]})  # docker's daemon would not start with it
    assert "registry-mirrors" in transfer.fails("pull", "some/image:2")["message"]


def test_a_broken_docker_conf_is_named(transfer, liar, tmp_path):
    (tmp_path / "daemon.json").write_text("{")
    transfer.env["HOY_DOCKER_CONF"] = str(tmp_path / "daemon.json")
    assert "daemon.json" in transfer.fails("pull", f"{liar.host}/x")["message"]


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


@pytest.mark.parametrize("bad", [(429, {"Retry-After": "1"}, b""), (503, {}, b""), "cut"])
def test_a_token_server_s_bad_moment_is_waited_for(transfer, liar, bad):
    liar.realm = liar.url + "/token"
    want_token(liar, "T")
    asked = []

    def token(handler):
        asked.append(handler.path)
        if len(asked) > 2:
            return 200, {}, b'{"token":"T"}'
        return handler.cut() if bad == "cut" else bad
    liar.routes["/token"] = token
    transfer.ok("pull", f"{liar.host}/x")
    assert len(asked) == 3


def test_who_hangs_up_at_first_is_asked_again(transfer, liar):
    asked = []

    def ping(handler):
        asked.append(handler.path)
        return (200, {}, b"{}") if len(asked) > 2 else handler.cut()
    liar.routes["/v2/"] = ping
    transfer.ok("pull", f"{liar.host}/x")
    assert len(asked) == 3


def test_an_expired_token_is_renewed_once_for_all(transfer, liar):
    tokens = iter(f"tok{i}" for i in range(100))
    state = {"now": None, "uses": 0}
    honest = liar.honest

    def issue(_):
        state["now"], state["uses"] = next(tokens), 0
        return 200, {}, json.dumps({"token": state["now"]}).encode()

    def guarded(method, path):
        state["uses"] += 1
        if state["uses"] > 5 or liar.headers.get("Authorization") != f"Bearer {state['now']}":
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
    liar.honest = lambda m, p: honest(m, p) if "Authorization" in liar.headers else \
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
    liar.honest = lambda m, p: honest(m, p) if "Authorization" in liar.headers or p == "/back" else \
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
    """Forwards CONNECT and plain requests, and keeps the heads it saw; refusal: what those get who say no name."""

    refusal, tls = b"", None

    def __init__(self):
        self.heads = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                client, _ = self.socket.accept()
                client = self.tls.wrap_socket(client, server_side=True) if self.tls else client
            except ssl.SSLError:
                continue
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
        if self.refusal and b"Proxy-Authorization" not in head:
            client.sendall(self.refusal)
            client.close()
            return
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
    distant.honest = lambda m, p: honest(m, p) if "Authorization" in distant.headers else \
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


def test_no_proxy_with_a_port_or_a_star(transfer, distant, proxy):
    """As Go has it, and so docker and podman; what is for another port goes by the proxy."""
    env = {"SSL_CERT_FILE": str(distant.ca), "HTTPS_PROXY": proxy.url}
    address, port = distant.host.split(":")
    for spared in [distant.host, f"x, {distant.host}", "*"]:
        transfer.ok("pull", f"{distant.host}/x", env=dict(env, NO_PROXY=spared))
    assert not proxy.heads
    for no in [f"{address}:{int(port) - 1}", "*.example", f".example:{port}", ":", f":{port}", "[::1]:5000", "::1"]:
        proxy.heads.clear()
        transfer.ok("pull", f"{distant.host}/x", env=dict(env, NO_PROXY=no))
        assert proxy.heads, no
    for no, is_spared in [("*.reg.invalid", True), (".reg.invalid:80", True), ("reg.invalid:81", False), ("eg.invalid:80", False)]:
        proxy.heads.clear()
        transfer.fails("pull", "--insecure", "a.reg.invalid/x", env={"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url,
                                                                     "NO_PROXY": f"{no},*.reg.invalid:443"})
        assert bool(proxy.heads) != is_spared, no


def test_a_proxy_that_speaks_tls(transfer, distant, proxy):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(distant.ca, distant.ca.parent / "key.pem")
    address = distant.host.split(":")[0]
    proxy.tls, proxy.socket = context, socket.create_server((address, 0))
    threading.Thread(target=proxy.run, daemon=True).start()
    env = {"HTTPS_PROXY": f"https://{address}:{proxy.socket.getsockname()[1]}", "NO_PROXY": ""}
    transfer.ok("pull", f"{distant.host}/x", env=dict(env, SSL_CERT_FILE=str(distant.ca)))
    assert proxy.heads[0].startswith(f"CONNECT {distant.host} ")
    message = transfer.fails("pull", f"{distant.host}/x", env=env)["message"]
    assert "proxy: tls: " in message and "certs.d" not in message


def test_a_proxy_that_wants_credentials(transfer, distant, proxy):
    proxy.refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 0\r\n\r\n"
    env = {"SSL_CERT_FILE": str(distant.ca), "HTTPS_PROXY": proxy.url, "NO_PROXY": ""}
    error = transfer.fails("pull", f"{distant.host}/x", env=env)
    assert error["kind"] == "denied" and "HTTPS_PROXY=http://USER:PASSWORD@" in error["message"] and len(proxy.heads) == 1
    transfer.ok("pull", f"{distant.host}/x", env=dict(env, HTTPS_PROXY=proxy.url.replace("//", "//joe:pw@")))
    error = transfer.fails("pull", "--insecure", "reg.invalid/x", env={"HTTP_PROXY": proxy.url, "HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": ""})
    assert error["kind"] == "denied" and "USER:PASSWORD@" in error["message"]
    proxy.refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    assert "proxy: " in transfer.fails("pull", f"{distant.host}/x", env=env)["message"]
    assert "proxy" in transfer.fails("pull", f"{distant.host}/x", env=dict(env, HTTPS_PROXY="http://no.such.host.invalid:1"))["message"]


def test_a_dead_proxy_is_named(transfer, distant):
    port = free_port()
    error = transfer.fails("pull", f"{distant.host}/x", env={"HTTPS_PROXY": f"http://127.0.0.1:{port}", "NO_PROXY": ""})
    assert error["kind"] == "unavailable" and str(port) in error["message"] and "proxy" in error["message"]


def test_a_helper_that_hangs_ends_with_the_pull(transfer, liar, tmp_path):
    liar.realm = liar.url + "/token"
    want_token(liar, "T")
    transfer.home.mkdir()
    (transfer.home / "config.json").write_text(json.dumps({"credsStore": "slow"}))
    helper = tmp_path / "docker-credential-slow"
    helper.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/asked\nexec sleep 1000\n")
    helper.chmod(0o755)
    env = dict(transfer.env, PATH=f"{tmp_path}:{os.environ['PATH']}")
    p = subprocess.Popen([transfer.binary, "--root", transfer.root, "pull", f"{liar.host}/x"], env=env, stdout=subprocess.PIPE)
    until(lambda: (tmp_path / "asked").exists() and (tmp_path / "asked").read_text())
    p.terminate()
    p.communicate(timeout=20)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "asked").read_text()), 0)


def test_helpers_of_podman_s_file(transfer, liar, tmp_path):
    """credHelpers stand in auth.json, too."""
    helper = tmp_path / "bin/docker-credential-it"
    helper.parent.mkdir()
    helper.write_text(f'#!/bin/sh\necho \'{{"ServerURL":"x","Username":"joe","Secret":"{PASSWORD}"}}\'\n')
    helper.chmod(0o755)
    (tmp_path / "auth.json").write_text(json.dumps({"credHelpers": {liar.host: "it"}}))
    honest = liar.honest
    liar.honest = lambda m, p: honest(m, p) if "Authorization" in liar.headers else \
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    transfer.ok("pull", f"{liar.host}/x", env={"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
                                                "PATH": f"{helper.parent}:{os.environ['PATH']}"})
    assert base64.b64decode(leaked(liar)[0][2]["Authorization"].split()[1]).decode() == f"joe:{PASSWORD}"
