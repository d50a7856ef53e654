"""Networks from the command line: create, inspect, isolation, publishing, MTU, what is left. All addresses are private ones."""
import concurrent.futures
import json
import pathlib
import re
import socket
import subprocess
import sys
import time

import pytest

from conftest import free_port, until

SERVER = "exec nc -ll -p 80 -e echo page"  # listens all the time


@pytest.fixture
def net(hoy):
    """Makes networks and removes them after the test, with every container."""
    made = []

    def create(name, *options):
        network_id = hoy("network", "create", *options, name).out.strip()
        made.append(name)
        return network_id

    yield create
    hoy.remove_all()
    for name in made:
        hoy.any("network", "rm", name)


def address(hoy, name):
    return re.search(r"inet ([\d.]+)/", hoy("exec", name, "ip", "addr", "show", "eth0").out).group(1)


def fetch(host, port, seconds=60):
    """What a TCP server says, or None when it cannot be reached in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((host, port), min(seconds, 10)) as s:
                s.shutdown(socket.SHUT_WR)
                text = s.makefile().read()
                if text:
                    return text
        except OSError:
            pass
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)


def host_address():
    """An address of this host that is not the loopback's."""
    out = subprocess.run(["ip", "-4", "-o", "addr", "show", "scope", "global"], capture_output=True, text=True, check=True)
    return next((m.group(1) for m in re.finditer(r"^\d+: (?!hoy)\S+\s+inet ([\d.]+)/", out.stdout, re.M)), None)


def test_create_inspect_list_remove(hoy, net):
    network_id = net("web", "--subnet", "10.213.7.0/24", "--gateway", "10.213.7.9", "--label", "tier=front")
    assert re.fullmatch("[0-9a-f]{64}", network_id)
    (doc,) = json.loads(hoy("network", "inspect", "web").out)
    assert doc["Id"] == network_id and doc["Driver"] == "bridge" and doc["Labels"] == {"tier": "front"}
    assert doc["IPAM"]["Config"] == [{"Subnet": "10.213.7.0/24", "Gateway": "10.213.7.9"}]
    assert json.loads(hoy("network", "inspect", network_id[:12]).out)[0]["Name"] == "web"
    assert {"web", "bridge"} <= set(hoy("network", "ls", "--format", "{{.Name}}").out.split())
    hoy("run", "-d", "--name", "member", "--network", "web", "busybox", "sleep", "100")
    (doc,) = json.loads(hoy("network", "inspect", "web").out)
    (member,) = doc["Containers"].values()
    assert member["IPv4Address"] == address(hoy, "member") + "/24"
    assert "default via 10.213.7.9" in hoy("exec", "member", "ip", "route").out
    assert "active endpoints" in hoy("network", "rm", "web", code=1).err
    hoy("rm", "-f", "member")
    assert hoy("network", "rm", "web").out == "web\n"
    assert "not found" in hoy("network", "inspect", "web", code=1).err


@pytest.mark.parametrize("options,want", [
    (["--subnet", "10.213.8.0/33"], "10.213.8.0/33"),
    (["--subnet", "10.213.8.1/24"], "10.213.8.1/24"),
    (["--subnet", "300.0.0.0/8"], "300.0.0.0"),
    (["--subnet", "10.213.8.0/24", "--gateway", "10.9.9.9"], "10.9.9.9"),
    (["--driver", "overlay"], "overlay"),
])
def test_wishes_that_cannot_be(hoy, options, want):
    assert want in hoy("network", "create", *options, "odd", code=1).err
    assert "odd" not in hoy("network", "ls").out


def test_names_and_subnets_are_had_once(hoy, net):
    net("first", "--subnet", "10.213.9.0/24")
    assert "already exists" in hoy("network", "create", "first", code=1).err
    assert "overlaps" in hoy("network", "create", "--subnet", "10.213.9.128/25", "second", code=1).err
    for name in ("bridge", "host", "none"):
        hoy("network", "create", name, code=1)
    assert "pre-defined" in hoy("network", "rm", "bridge", code=1).err


def test_networks_are_apart_and_internal_ones_have_no_way_out(hoy, net):
    net("left")
    net("right")
    net("inside", "--internal")
    for name in ("left", "right", "inside"):
        hoy("run", "-d", "--name", f"c-{name}", "--network", name, "busybox", "sh", "-c", SERVER)
    ping = ("ping", "-c1", "-W2")
    for other in ("right", "inside"):
        hoy("exec", "c-left", *ping, address(hoy, f"c-{other}"), code=1)
        hoy("exec", f"c-{other}", *ping, address(hoy, "c-left"), code=1)
    assert "default" not in hoy("exec", "c-inside", "ip", "route").out
    hoy("run", "--rm", "--network", "inside", "busybox", "ping", "-c1", "-W30", address(hoy, "c-inside"))
    assert fetch(address(hoy, "c-left"), 80) == "page\n"  # from the host


def test_wanted_address_and_aliases(hoy, net):
    net("mine", "--subnet", "10.213.5.0/24")
    hoy("run", "-d", "--name", "srv", "--network", "mine", "--ip", "10.213.5.77", "--network-alias", "db",
        "--network-alias", "s", "busybox", "sleep", "100")
    assert address(hoy, "srv") == "10.213.5.77"
    for name in ("srv", "db", "s"):
        hoy("run", "--rm", "--network", "mine", "busybox", "ping", "-c1", "-W30", name)
    hoy("stop", "-t", "0", "srv")
    hoy("start", "srv")
    assert address(hoy, "srv") == "10.213.5.77"
    assert json.loads(hoy("inspect", "srv").out)[0]["NetworkSettings"]["Networks"]["mine"]["Aliases"] == ["db", "s"]
    for wish, want in (("10.213.5.77", "in use"), ("10.213.5.255", "10.213.5.0/24"), ("10.213", "10.213")):
        assert want in hoy("run", "--rm", "--network", "mine", "--ip", wish, "busybox", "true", code=125).err
    for wish in (("--ip", "172.29.0.9"), ("--network-alias", "db")):
        assert "networks of your own" in hoy("run", "--rm", *wish, "busybox", "true", code=125).err
    hoy("run", "--rm", "--network", "mine", "--network-alias", "two words", "busybox", "true", code=125)


def test_every_way_to_a_published_port(hoy):
    port = free_port()
    hoy("run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sh", "-c", SERVER)
    assert fetch("127.0.0.1", port) == "page\n"
    gateway = re.search(r"default via (\S+)", hoy("exec", "web", "ip", "route").out).group(1)
    assert fetch(gateway, port) == "page\n"
    if host_address():
        assert fetch(host_address(), port) == "page\n"
    # a neighbour, and the container itself, by the host's address
    for how in (("run", "--rm", "busybox"), ("exec", "web")):
        assert hoy(*how, "sh", "-c", f"nc -w 30 {gateway} {port} </dev/null").out == "page\n"
    hoy("rm", "-f", "web")
    assert fetch("127.0.0.1", port, 0.5) is None


def test_published_on_the_loopback_only(hoy):
    port = free_port()
    hoy("run", "-d", "--name", "web", "-p", f"127.0.0.1:{port}:80", "busybox", "sh", "-c", SERVER)
    assert fetch("127.0.0.1", port) == "page\n"
    gateway = re.search(r"default via (\S+)", hoy("exec", "web", "ip", "route").out).group(1)
    assert fetch(gateway, port, 0.5) is None
    hoy("run", "--rm", "busybox", "sh", "-c", f"nc -w 2 {gateway} {port} </dev/null", code=1)


def test_chosen_ports_differ(hoy):
    for name in ("one", "two"):
        hoy("run", "-d", "--name", name, "-p", "80", "busybox", "sh", "-c", SERVER)
    ports = [int(hoy("port", name, "80").out.splitlines()[0].rsplit(":", 1)[1]) for name in ("one", "two")]
    assert ports[0] != ports[1]
    for port in ports:
        assert fetch("127.0.0.1", port) == "page\n"


def test_a_port_of_the_host_is_not_taken_over(hoy):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        r = hoy("run", "-d", "--name", "late", "-p", f"{port}:80", "busybox", "true", code=125)
        assert "port is already allocated" in r.err and "in use" in r.err
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", 0))
    with udp:
        hoy("run", "-d", "-p", f"{udp.getsockname()[1]}:53/udp", "busybox", "true", code=125)


ECHO = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 53)); print(flush=True);"
        "data, peer = s.recvfrom(100); s.sendto(data, peer)")


def test_datagrams(hoy):
    port = free_port()
    hoy("run", "-d", "--name", "echo", "-p", f"{port}:53/udp", "busybox", "sleep", "100")
    pid = json.loads(hoy("inspect", "echo").out)[0]["State"]["Pid"]
    with subprocess.Popen(["nsenter", "-t", str(pid), "-n", sys.executable, "-c", ECHO], stdout=subprocess.PIPE) as server, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        server.stdout.readline()
        client.settimeout(60)
        client.sendto(b"hello", ("127.0.0.1", port))
        try:
            assert client.recv(100) == b"hello"
        finally:
            server.kill()


def test_the_host_s_loopback_is_out_of_reach(hoy):
    """route_localnet is on for our bridge: the table has to keep containers off services that trust the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        gateway = re.search(r"default via (\S+)", hoy("run", "--rm", "busybox", "ip", "route").out).group(1)
        script = (f"nc -w 2 {gateway} {port} </dev/null && exit 1; "
                  f"ip route del local 127.0.0.0/8 table local; ip link set lo down; ip route add 127.0.0.1 via {gateway}; "
                  f"nc -w 2 127.0.0.1 {port} </dev/null && exit 1; exit 0")
        hoy("run", "--rm", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", script)
        s.settimeout(0.2)
        with pytest.raises(OSError):
            s.accept()


def test_mtu_is_that_of_the_way_out(hoy):
    route = subprocess.run(["ip", "route", "show", "default"], capture_output=True, text=True, check=True).stdout
    if not route:
        pytest.skip("needs a default route")
    uplink = re.search(r"dev (\S+)", route).group(1)
    mtu = pathlib.Path(f"/sys/class/net/{uplink}/mtu").read_text().strip()
    assert f"mtu {mtu} " in hoy("run", "--rm", "busybox", "ip", "link", "show", "eth0").out


def test_many_at_once(hoy):
    def one(_):
        return hoy("run", "--rm", "-p", "80", "busybox", "ip", "addr", "show", "eth0").out

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert all("inet " in out for out in pool.map(one, range(24)))


def test_an_unused_network_goes_by_itself(fresh_hoy, busybox_tar):
    fresh_hoy("import", busybox_tar, "busybox")
    fresh_hoy("run", "--rm", "-p", "80", "busybox", "true")

    def footprint():
        return fresh_hoy("system", "footprint").out

    until(lambda: "link" not in (now := footprint()) and "table" not in now, tell=footprint, pause=0.2)
