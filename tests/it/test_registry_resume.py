"""Cut, slow, full and cancelled: what has come is not fetched again, nothing is left."""
import json
import signal
import subprocess
import time

import pytest

from conftest import Hoy
from liar import Image, digest
from registry_rig import big_image, cutting, liar, MANIFEST_URL, transfer  # fixtures among them

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


def slow_blob(liar):
    layer, data = big_image(liar, 8 << 20)

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for i in range(0, len(data), 50000):
            handler.wfile.write(data[i:i + 50000])
            time.sleep(0.05)
    liar.routes[f"/v2/x/blobs/{layer}"] = answer


def start(transfer, liar):
    p = subprocess.Popen([transfer.binary, "--root", str(transfer.root), "pull", f"{liar.host}/x"], env=transfer.env,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while '"Downloading"' not in p.stdout.readline():
        pass
    return p


def test_it_ends_with_its_reader(transfer, liar):
    slow_blob(liar)
    p = start(transfer, liar)
    p.stdout.close()
    assert p.wait(10) == 1 and p.stderr.read() == ""
    p.stderr.close()
    transfer.check()


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_cleanly(transfer, liar, signo):
    slow_blob(liar)
    p = start(transfer, liar)
    p.send_signal(signo)
    out, err = p.communicate(timeout=10)
    assert p.returncode == 1 and err == "" and "error" not in out
    transfer.check()


def test_after_a_kill_the_next_pull_cleans_up(transfer, liar):
    slow_blob(liar)
    p = start(transfer, liar)
    p.kill()
    p.communicate(timeout=10)
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
