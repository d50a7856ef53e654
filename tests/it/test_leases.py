"""What a running command needs stays, and only that: removals beside pulls, builds and starts."""
import io
import os
import signal
import tarfile
import threading

import pytest

from conftest import Hoy, transfers, until
from liar import Image
from registry_rig import liar  # fixture


def layer(name, size=200000):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = size
        tar.addfile(info, io.BytesIO(os.urandom(size)))
    return out.getvalue()


@pytest.fixture
def hoy(tmp_path):
    h = Hoy(tmp_path)
    yield h
    h.remove_all()


class Held:
    """A pull (or what pulls) of two layers whose second one waits until it may come."""

    def __init__(self, hoy, liar, *command):
        liar.image = Image([layer("one"), layer("two")])
        self.first, self.second = (x["digest"] for x in liar.image.layers)
        self.asked, self.go = threading.Event(), threading.Event()
        liar.routes[("GET", f"/v2/held/blobs/{self.second}")] = lambda handler: self.wait(liar, handler)
        self.name = f"{liar.host}/held"
        self.proc = hoy.popen(*(command or ("pull", self.name)))
        assert self.asked.wait(60)

    def wait(self, liar, handler):
        self.asked.set()
        self.go.wait(60)
        return liar.honest("GET", f"/v2/held/blobs/{self.second}")

    def end(self):
        self.go.set()
        out, err = self.proc.communicate(timeout=60)
        assert self.proc.returncode == 0, (out, err)


def blobs(hoy):
    return {x.name for x in (hoy.root / "blobs/sha256").iterdir()}


def leases(hoy):
    return [x for x in (hoy.root / "tmp").iterdir() if x.name.startswith("lease-")]


def content(path):
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def test_a_removal_beside_a_pull_frees_all_but_what_the_pull_has(hoy, liar, busybox_tar):
    hoy("import", busybox_tar, "other")
    before = blobs(hoy)
    held = Held(hoy, liar)
    until(lambda: held.first[7:] in blobs(hoy))
    gone = hoy("rmi", "other").out
    assert gone.count("Deleted: ") == 2, gone
    assert not before & blobs(hoy) and held.first[7:] in blobs(hoy)
    assert "Total reclaimed space: 0B" in hoy("system", "prune", "-af").out
    assert held.first[7:] in blobs(hoy)
    held.end()
    assert not leases(hoy) and not (hoy.run_dir / "sweep-wanted").exists()
    assert len([x for x in liar.seen if held.first in x[1] and x[0] == "GET"]) == 1  # nothing was fetched again
    hoy("verify")


def test_what_a_killed_pull_had_goes_with_the_next_removal(hoy, liar):
    held = Held(hoy, liar)
    until(lambda: held.first[7:] in blobs(hoy))
    held.proc.send_signal(signal.SIGKILL)
    held.proc.wait()
    held.go.set()
    until(lambda: not transfers(hoy))
    hoy("image", "prune", "-f")
    assert not blobs(hoy) and not leases(hoy)


def test_an_image_that_is_removed_while_it_is_pushed_arrives_whole(hoy, registry, busybox_tar):
    hoy("import", busybox_tar, f"{registry.host}/leases/one")
    hoy("tag", f"{registry.host}/leases/one", "kept-for-a-moment")
    push = hoy.popen("push", f"{registry.host}/leases/one")
    until(lambda: any(content(x).count("\n") >= 3 for x in leases(hoy)) or push.poll() is not None)
    hoy("rmi", f"{registry.host}/leases/one", "kept-for-a-moment")
    out, err = push.communicate(timeout=60)
    assert push.returncode == 0, (out, err)
    assert not blobs(hoy) and not leases(hoy)
    hoy("pull", f"{registry.host}/leases/one")


def test_the_base_of_a_running_build_stays_for_it(hoy, liar, busybox_tar, tmp_path):
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(f"FROM base\nCOPY --from={liar.host}/held /two /two\nRUN wc -c </two >/size\n")
    hoy("import", busybox_tar, "base")
    before = blobs(hoy)
    held = Held(hoy, liar, "build", "-q", "-t", "made", tmp_path / "context")
    until(lambda: all(any(b in text for text in map(content, leases(hoy))) for b in before))
    hoy("rmi", "base")
    hoy("builder", "prune", "-af")
    hoy("image", "prune", "-af")
    assert before <= blobs(hoy)
    held.end()
    assert hoy("run", "--rm", "--network", "none", "made", "cat", "/size").out == "200000\n"
    hoy("rmi", "made", held.name)
    hoy("builder", "prune", "-af")
    assert not blobs(hoy) and not leases(hoy)
