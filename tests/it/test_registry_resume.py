"""Cut, slow, full and cancelled: what has come is not fetched again, nothing is left."""
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time

import pytest

from conftest import Hoy, transfers, until
from liar import MANIFEST, Image
from registry_rig import MANIFEST_URL, big_image, cutting, docker_conf, liar, other, transfer  # fixtures among them


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


def slow_blob(liar, gate=None):
    """It takes seconds to come; the second half not before the gate opens."""
    layer, data = big_image(liar, 8 << 20)

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for i in range(0, len(data), 50000):
            if gate and i > len(data) // 2:
                gate.wait(120)
            handler.wfile.write(data[i:i + 50000])
            time.sleep(0.05)
    liar.routes[f"/v2/x/blobs/{layer}"] = answer


def start(transfer, liar):
    p = subprocess.Popen([transfer.binary, "--root", str(transfer.root), "pull", f"{liar.host}/x"], env=transfer.env,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert any('"Downloading"' in line for line in p.stdout)
    return p


def test_it_ends_with_its_reader(transfer, liar):
    slow_blob(liar)
    p = start(transfer, liar)
    p.stdout.close()
    assert p.wait(60) == 1 and p.stderr.read() == ""
    p.stderr.close()
    transfer.check()


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_cleanly(transfer, liar, signo):
    slow_blob(liar)
    p = start(transfer, liar)
    p.send_signal(signo)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 1 and err == "" and "error" not in out
    transfer.check()


def test_after_a_kill_the_next_pull_cleans_up(transfer, liar):
    slow_blob(liar)
    p = start(transfer, liar)
    p.kill()
    p.communicate(timeout=60)
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


# --- layers that are made while they come


def some_tar(size=6 << 20):
    """One file that does not pack."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("file")
        info.size = size
        tar.addfile(info, io.BytesIO(os.urandom(size)))
    return out.getvalue()


def tar_image(liar):
    """One layer; its blob's digest and bytes."""
    liar.image = Image([some_tar()])
    layer = liar.image.layers[0]["digest"]
    return layer, liar.image.blobs[layer]


def drafts(hoy):
    return sorted((hoy.root / "tmp").glob("layer-*"))


def drafted(hoy):
    """Bytes of the largest file in a layer that has no name yet."""
    sizes = [0]
    for path in (hoy.root / "tmp").glob("layer-*/**/*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            pass
    return max(sizes)


def held_back(data, gate):
    """The last bytes come when the gate opens."""
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:-1000])
        gate.wait(60)
        handler.wfile.write(data[-1000:])
    return answer


def wait_drafted(hoy, size):
    until(lambda: drafted(hoy) >= size)


@pytest.mark.parametrize("driver", ["erofs", "overlay"])
def test_a_layer_is_made_while_it_comes(tmp_path, liar, driver):
    hoy, gate = Hoy(tmp_path), threading.Event()
    layer, data = tar_image(liar)
    liar.routes[f"/v2/x/blobs/{layer}"] = held_back(data, gate)
    p = hoy.popen("--storage-driver", driver, "pull", f"{liar.host}/x", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_drafted(hoy, 4 << 20)
    assert not (hoy.root / "blobs/sha256" / layer[7:]).exists()
    gate.set()
    _, err = p.communicate(timeout=60)
    assert p.returncode == 0, err
    hoy("verify")
    assert not drafts(hoy) and not list((hoy.root / "tmp").glob("part-*"))


def test_what_was_made_of_a_wrong_beginning_goes(tmp_path, liar):
    """The bytes before the cut are of another blob: all is fetched once more, and the layer made anew."""
    hoy = Hoy(tmp_path)
    layer, data = tar_image(liar)
    other_data = gzip.compress(some_tar(), 1)
    calls = []

    def answer(handler):
        calls.append(handler.headers.get("Range"))
        if len(calls) == 1:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(other_data[:3 << 20])
            wait_drafted(hoy, 1 << 20)
            handler.cut()
            return None
        return serving(data, [])(handler)
    liar.routes[f"/v2/x/blobs/{layer}"] = answer
    hoy("pull", f"{liar.host}/x")
    assert len(calls) == 3 and calls[2] is None
    hoy("verify")
    assert not drafts(hoy)


def test_a_layer_half_made_goes_with_who_made_it(tmp_path, liar):
    hoy, gate = Hoy(tmp_path), threading.Event()
    layer, data = tar_image(liar)
    liar.routes[f"/v2/x/blobs/{layer}"] = held_back(data, gate)
    p = hoy.popen("pull", f"{liar.host}/x", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_drafted(hoy, 4 << 20)
    p.kill()
    p.communicate(timeout=60)
    gate.set()
    hoy("pull", f"{liar.host}/x")
    hoy("verify")
    assert not drafts(hoy)


@pytest.mark.parametrize("end", ["whole", "kill"])
def test_two_pulls_at_once_unpack_it_once(tmp_path, liar, end):
    """The second makes no layer of its own while the first is at it; when that is killed, it does."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    hoy, gate, log = Hoy(tmp_path), threading.Event(), tmp_path / "strace"
    layer, data = tar_image(liar)
    diff_id = json.loads(liar.image.blobs[liar.image.config["digest"]])["rootfs"]["diff_ids"][0]
    liar.routes[f"/v2/x/blobs/{layer}"] = held_back(data, gate)
    command = ["--storage-driver", "erofs", "pull", f"{liar.host}/x"]
    first = hoy.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    wait_drafted(hoy, 4 << 20)
    draft = hoy.root / "tmp" / f"layer-{diff_id[7:]}"
    inode, asked = draft.stat().st_ino, len(liar.seen)
    second = subprocess.Popen(["strace", "-f", "-o", log, "-e", "trace=openat", hoy.binary, *command], env=hoy.env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: len(liar.seen) > asked or second.poll() is not None)
    time.sleep(1)  # it has come so far that it would begin a layer of its own
    if end == "kill":
        liar.routes[f"/v2/x/blobs/{layer}"] = serving(data, [])
        os.killpg(first.pid, signal.SIGKILL)
    gate.set()
    _, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    first.communicate(timeout=60)
    assert first.returncode == (0 if end == "whole" else -signal.SIGKILL)
    if end == "whole":  # else the number may have come again
        assert (hoy.root / "layers" / diff_id[7:]).stat().st_ino == inode
    made = [x for x in log.read_text().splitlines() if '"layer.tar"' in x and "O_CREAT" in x]
    assert len(made) == (1 if end == "whole" else 2), made  # one is the sample by which the driver is chosen
    hoy("verify")
    assert not drafts(hoy) and not list((hoy.root / "tmp").glob("part-*"))


# --- across processes, mirrors and connections


def serving(data, log, ranges=True, cut_after=None):
    """Answers ranges "a-b"; cut_after(start): how many bytes go before the connection breaks (None: all)."""
    def answer(handler):
        asked = handler.headers.get("Range")
        start, end = 0, len(data) - 1
        if asked and ranges:
            first, last = asked.split("=")[1].split("-")
            start, end = int(first), int(last or end)
        log.append((start, end))
        handler.send_response(206 if asked and ranges else 200)
        handler.send_header("Content-Length", str(end - start + 1))
        if asked and ranges:
            handler.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        handler.end_headers()
        limit = cut_after(start) if cut_after else None
        handler.wfile.write(data[start:end + 1][:limit])
        if limit is not None and limit < end - start + 1:
            handler.cut()
    return answer


def parts(transfer):
    return sorted((transfer.root / "tmp").glob("part-*"))


def came(transfer):
    """Bytes of a blob that is on its way."""
    return max([p.stat().st_size for p in parts(transfer)], default=0)


@pytest.mark.parametrize("end", ["kill", "interrupt", "given up"])
def test_the_next_process_goes_on(transfer, liar, end):
    """What came before a kill, Ctrl-C or too many cuts is not asked for again."""
    layer, data = big_image(liar, 8 << 20)
    if end == "given up":
        log = []
        liar.routes[f"/v2/x/blobs/{layer}"] = serving(data, log, cut_after=lambda start: 3 << 20 if start == 0 else 0)
        code, _, last = transfer("pull", f"{liar.host}/x")
        assert code == 1 and "given up" in last["error"]["message"]
    else:
        slow_blob(liar)
        layer, data = liar.image.layers[0]["digest"], liar.image.blobs[liar.image.layers[0]["digest"]]
        p = start(transfer, liar)
        until(lambda: came(transfer) >= 2 << 20)
        p.send_signal(signal.SIGKILL if end == "kill" else signal.SIGINT)
        p.communicate(timeout=60)
    kept, = parts(transfer)
    size = kept.stat().st_size
    assert kept.name == f"part-{layer[7:]}" and (1 << 20) <= size < len(data)
    log = []
    liar.routes[f"/v2/x/blobs/{layer}"] = serving(data, log)
    transfer.ok("pull", f"{liar.host}/x")
    (begin, last), = log
    assert size - 4096 <= begin <= size and last == len(data) - 1
    transfer.check()


@pytest.mark.parametrize("end", ["whole", "kill"])
def test_two_pulls_at_once_fetch_it_once(transfer, liar, end):
    """The second waits for the first; when that is killed, it goes on where the first was."""
    gate = threading.Event()
    slow_blob(liar, gate)
    layer = liar.image.layers[0]["digest"]
    first = start(transfer, liar)
    until(lambda: came(transfer) >= 2 << 20)
    log = []
    liar.routes[f"/v2/x/blobs/{layer}"] = serving(liar.image.blobs[layer], log)
    second = subprocess.Popen([transfer.binary, "--root", str(transfer.root), "pull", f"{liar.host}/x"], env=transfer.env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert any('"Waiting"' in line for line in second.stdout)
    if end == "kill":
        first.kill()
    gate.set()
    assert second.communicate(timeout=60)[1] == "" and second.returncode == 0
    first.communicate(timeout=60)
    assert first.returncode == (0 if end == "whole" else -signal.SIGKILL)
    if end == "whole":
        assert not log
    else:
        (begin, _), = log
        assert begin > 1 << 20
    assert not parts(transfer)
    transfer.check()


def test_ctrl_c_of_the_whole_program(tmp_path, liar):
    """The terminal signals hoy and hoy-transfer; the same command later goes on."""
    hoy = Hoy(tmp_path)
    slow_blob(liar)
    layer = liar.image.layers[0]["digest"]
    data = liar.image.blobs[layer]
    p = hoy.popen("pull", f"{liar.host}/x", stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    part = hoy.root / "tmp" / f"part-{layer[7:]}"
    until(lambda: part.exists() and part.stat().st_size >= 2 << 20)
    os.killpg(p.pid, signal.SIGINT)
    p.communicate(timeout=60)
    assert p.returncode != 0
    until(lambda: not transfers(hoy))
    size = part.stat().st_size
    log = []
    liar.routes[f"/v2/x/blobs/{layer}"] = serving(data, log)
    hoy.any("pull", f"{liar.host}/x")  # random bytes are no tar: only the transfer is looked at
    assert log[0][0] >= size - 4096 > 1 << 20
    hoy("system", "reset", "--force")


def test_a_spoilt_beginning_is_fetched_whole(transfer, liar):
    """Bytes of an earlier process that are not what they should be cost time, nothing else."""
    layer, data = big_image(liar)
    (transfer.root / "tmp").mkdir(parents=True)
    (transfer.root / "tmp" / f"part-{layer[7:]}").write_bytes(os.urandom(2 << 20))
    transfer.ok("pull", f"{liar.host}/x")
    transfer.check()


def test_a_longer_part_than_the_blob(transfer, liar):
    layer, data = big_image(liar)
    (transfer.root / "tmp").mkdir(parents=True)
    (transfer.root / "tmp" / f"part-{layer[7:]}").write_bytes(data + b"more")
    transfer.ok("pull", f"{liar.host}/x")
    transfer.check()


def test_mirrors_go_on_with_each_other_s_bytes(transfer, liar, other, tmp_path):
    layer, data = big_image(liar, 8 << 20)
    other.image = liar.image
    log = []
    for server in (liar, other):
        server.routes["/v2/some/image/manifests/1"] = (200, {"Content-Type": MANIFEST}, liar.image.manifest())
    liar.routes[f"/v2/some/image/blobs/{layer}"] = serving(data, [], cut_after=lambda begin: (5 << 20) if begin == 0 else 0)
    other.routes[f"/v2/some/image/blobs/{layer}"] = serving(data, log)
    docker_conf(transfer, tmp_path, **{"registry-mirrors": [liar.url, other.url]})
    transfer.ok("pull", "some/image:1")
    (begin, _), = log
    assert begin > 4 << 20
    transfer.check()


BIG = 40 << 20


@pytest.mark.parametrize("how", ["parts", "no ranges", "cuts", "spoilt part", "some parts whole"])
def test_big_layers_come_in_parts(transfer, liar, how):
    layer, data = big_image(liar, BIG)
    log, cut = [], set()

    def cut_once(begin):
        if begin in cut or begin % (16 << 20):
            return None
        cut.add(begin)
        return 5 << 20
    honest = serving(data, log, ranges=how != "no ranges", cut_after=cut_once if how == "cuts" else None)
    bad = serving(bytes(len(data)), log)
    route = f"/v2/x/blobs/{layer}"
    if how == "spoilt part":  # wrong bytes in one part, as long as parts are asked for
        liar.routes[route] = lambda h: (bad if h.headers.get("Range", "").startswith("bytes=16777216-3") else honest)(h)
    elif how == "some parts whole":
        whole = serving(data, log, ranges=False)
        liar.routes[route] = lambda h: (whole if h.headers.get("Range", "").startswith("bytes=16777216-3") else honest)(h)
    else:
        liar.routes[route] = honest
    transfer.ok("pull", f"{liar.host}/x")
    transfer.check()
    if how == "parts":
        assert sorted(log) == [(0, (16 << 20) - 1), (16 << 20, (32 << 20) - 1), (32 << 20, len(data) - 1)]
    if how == "cuts":
        assert len(log) == 6
        assert {begin for begin, _ in log} >= {0, 16 << 20, 32 << 20}


def test_parts_of_a_big_layer_are_kept(transfer, liar):
    """The first part whole, the second cut for ever: the next pull asks for what is behind."""
    layer, data = big_image(liar, BIG)
    liar.routes[f"/v2/x/blobs/{layer}"] = serving(data, [], cut_after=lambda begin: 0 if begin == 16 << 20 else None)
    assert transfer("pull", f"{liar.host}/x")[0] == 1
    kept, = parts(transfer)
    assert kept.stat().st_size == 16 << 20
    log = []
    liar.routes[f"/v2/x/blobs/{layer}"] = serving(data, log)
    transfer.ok("pull", f"{liar.host}/x")
    assert min(begin for begin, _ in log) == 16 << 20
    transfer.check()


def test_too_little_room_is_said_before_the_layers_travel(transfer, liar):
    layer = liar.image.layers[1]
    layer["size"] = 1 << 58
    error = transfer.fails("pull", f"{liar.host}/x")
    assert error["kind"] == "limit" and "No space left on device" in error["message"] and "hoy image prune" in error["message"]
    assert not [x for x in liar.seen if layer["digest"] in x[1]]
