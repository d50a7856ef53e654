"""system df tells what du does, and each prune frees what df called reclaimable; filters; docker's words."""
import concurrent.futures
import json
import os
import re
import subprocess
import threading

import pytest

from conftest import until

UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def disk(*paths):
    """Bytes as du counts them: each inode once, also when it has a name in several of the paths (a blob that is a layer)."""
    lines = subprocess.run(["du", "-s", "-B1", *paths], capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(int(line.split()[0]) for line in lines)


def number(text):
    """"12.3MB (5%)" as bytes."""
    value, unit = re.match(r"([\d.e+]+)(\w+)", text).groups()
    return float(value) * UNITS[unit]


def df(hoy):
    """{type: (size, reclaimable, total, active)}."""
    rows = [line.split("|") for line in
            hoy("system", "df", "--format", "{{.Type}}|{{.Size}}|{{.Reclaimable}}|{{.TotalCount}}|{{.Active}}").out.splitlines()]
    return {r[0]: (number(r[1]), number(r[2]), int(r[3]), int(r[4])) for r in rows}


def close(a, b, blocks=0):
    """Equal but for the four digits that are printed, and some blocks of directories that nobody owns."""
    return abs(a - b) <= max(a, b) * 0.001 + blocks * 4096 + 1


def reclaimed(result):
    """What a prune says that it freed."""
    return number(re.search(r"Total reclaimed space: (\S+)", result.out).group(1))


@pytest.fixture
def full(fresh_hoy, registry, busybox_tar, tmp_path):
    """A store with something of each kind."""
    h = fresh_hoy
    name = f"{registry.host}/df/busybox:1"
    h("import", busybox_tar, name)
    h("push", name)
    h("rmi", name)
    h("pull", name)
    h("import", "--change", "LABEL kind=base", busybox_tar, "busybox")
    (tmp_path / "context").mkdir()
    (tmp_path / "context/big").write_bytes(os.urandom(300000))
    (tmp_path / "context/Dockerfile").write_text("FROM busybox\nCOPY big /one\nRUN cp /one /two\n")
    h("build", "-q", "-t", "kept", tmp_path / "context")
    (tmp_path / "context/Dockerfile").write_text("FROM busybox\nCOPY big /three\nRUN cp /three /four\n")
    h("build", "-q", "-t", "gone", tmp_path / "context")
    h("rmi", "gone")
    h("run", "-d", "--name", "live", "--label", "a=b", "kept", "sh", "-c", "dd if=/dev/zero of=/f bs=1k count=200; sleep 100")
    h("run", "--name", "dead", "-v", "data:/data", "-v", "/anonymous", "kept", "sh", "-c",
      "dd if=/dev/zero of=/f bs=1k count=300; dd if=/dev/zero of=/data/f bs=1k count=400; cp /data/f /anonymous/")
    h("volume", "create", "spare")
    until(lambda: h.any("exec", "live", "stat", "-c", "%s", "/f").out == "204800\n")  # nothing grows any more
    return h


def test_df_is_du(full):
    rows = df(full)
    parts = {"Images": ["blobs", "layers"], "Containers": ["containers"], "Local Volumes": ["volumes"]}
    assert close(rows["Local Volumes"][0], disk(full.root / "volumes"), 2)
    assert close(rows["Containers"][0], disk(full.root / "containers"), 2)
    cached = disk(full.root / "cache") if (full.root / "cache").exists() else 0
    assert close(rows["Images"][0] + rows["Build Cache"][0] - cached, disk(*(full.root / p for p in parts["Images"])), 6)
    # all of it but for the database and the index
    own = disk(full.root / "meta") + disk(full.root / "index.json") + disk(full.root / "oci-layout")
    assert close(sum(r[0] for r in rows.values()), disk(full.root) - own, 16)
    assert rows["Images"][2:] == (3, 1) and rows["Containers"][2:] == (2, 1) and rows["Local Volumes"][2:] == (3, 2)


@pytest.mark.parametrize("kind,command", [
    ("Containers", ["container", "prune", "-f"]), ("Local Volumes", ["volume", "prune", "-af"]),
    ("Build Cache", ["builder", "prune", "-af"]), ("Images", ["image", "prune", "-af"])])
def test_prune_frees_what_is_reclaimable(full, kind, command):
    before, used = df(full)[kind], disk(full.root)
    assert before[1] > 0
    freed = reclaimed(full(*command))
    assert close(freed, before[1])
    assert close(used - disk(full.root), freed, 8)
    after = df(full)[kind]
    assert after[1] == 0 and close(after[0], before[0] - freed)
    assert "live" in full("ps").out and full("exec", "live", "ls", "/two").out == "/two\n"
    assert "Damaged" not in full("verify").out


def test_system_prune(full):
    r = full("system", "prune", "--volumes", stdin="n\n")
    assert r.out == ("WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n"
                     "  - all anonymous volumes not used by at least one container\n  - all dangling images\n"
                     "  - all dangling build cache\n\nAre you sure you want to continue? [y/N] ")
    full("network", "create", "alone")
    used = disk(full.root)
    r = full("system", "prune", "-af", "--volumes")
    for line in ("Deleted Containers:", "Deleted Networks:\nalone\n", "Deleted Volumes:", "Deleted build cache objects:",
                 "Deleted Images:", "deleted: sha256:"):
        assert line in r.out
    assert close(used - disk(full.root), reclaimed(r), 16)
    rows = df(full)
    assert rows["Containers"][2:] == (1, 1) and rows["Build Cache"][0] == 0 and rows["Images"][1] == 0
    assert full("exec", "live", "ls", "/two").out == "/two\n"


def test_filters(full):
    for command in (["container", "prune"], ["image", "prune", "-a"], ["network", "prune"], ["builder", "prune", "-a"],
                    ["system", "prune", "-a"]):
        if command[0] in ("container", "builder"):  # images are as old as what is in them
            assert full(*command, "-f", "--filter", "until=24h").out == "Total reclaimed space: 0B\n"
        assert "invalid filter 'x'" in full(*command, "-f", "--filter", "x=1", code=1).err
        assert "hoy" in full(*command, "-f", "--filter", "until=soon", code=1).err
    assert "dangling=maybe" in full("image", "prune", "-f", "--filter", "dangling=maybe", code=1).err
    full("container", "prune", "-f", "--filter", "until=2026-01-31")
    full("container", "prune", "-f", "--filter", "until=2026-01-31T12:00:00")
    assert "dead" in full("ps", "-a").out
    full("container", "prune", "-f", "--filter", "label=a")
    assert "dead" in full("ps", "-a").out
    full("container", "prune", "-f", "--filter", "label!=a")
    assert "dead" not in full("ps", "-a").out
    full("image", "prune", "-af", "--filter", "label!=kind=base")
    assert "busybox" in full("images").out
    full("image", "prune", "-af", "--filter", "label=kind=base")
    assert full("images", "--format", "{{.Repository}}").out == "kept\n"
    full("volume", "create", "--label", "k=v", "labelled")
    full("volume", "prune", "-af", "--filter", "label!=k=v")
    assert full("volume", "ls", "-q").out == "labelled\n"
    assert "until" in full("volume", "prune", "-f", "--filter", "until=1h", code=1).err
    assert "not supported with" in full("system", "prune", "-f", "--volumes", "--filter", "until=1h", code=1).err


def test_builder_prune_leaves_what_images_are_made_of(full):
    r = full("builder", "prune", "-f")
    assert len(r.out.split("Deleted build cache objects:\n")[1].split("\n\n")[0].splitlines()) == 2
    assert full("builder", "prune", "-f").out == "Total reclaimed space: 0B\n"
    assert "Deleted build cache objects" in full("builder", "prune", "-af").out


def test_verbose(full):
    text = full("system", "df", "-v").out
    for heading in ("Images space usage:\n\nREPOSITORY", "SHARED SIZE", "UNIQUE SIZE", "Containers space usage:\n\nCONTAINER ID",
                    "LOCAL VOLUMES", "Local Volumes space usage:\n\nVOLUME NAME", "Build cache usage: "):
        assert heading in text
    kept = next(line for line in text.splitlines() if line.startswith("kept "))
    assert kept.split()[-1] == "2"
    assert re.search(r"^CACHE ID +CACHE TYPE +SIZE +LAST USED +IN USE +SHARED\n[0-9a-f]{12} +\S.* +[\d.]+kB ", text, re.M)
    every = json.loads(full("system", "df", "-v", "--format", "json").out)
    assert [len(every[k]) for k in ("Images", "Containers", "Volumes", "BuildCache")] == [3, 2, 3, 4]
    assert full("system", "df", "-v", "--format", "{{range .Volumes}}{{.Name}} {{end}}").out.split() == sorted(v["Name"] for v in every["Volumes"])
    assert {"data", "spare"} < {v["Name"] for v in every["Volumes"]}
    assert "several tables" in full("system", "df", "-v", "--format", "table {{.Size}}", code=1).err
    assert re.search(r"^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE\nImages +3 +1 ", full("system", "df").out)


def test_sizes_of_containers(full):
    """ps -s and inspect -s tell what system df -v does, and only who asks pays for it."""
    shown = {r["Names"]: r["Size"] for r in json.loads(full("system", "df", "-v", "--format", "{{json .Containers}}").out)}
    for line in full("ps", "-as", "--format", "{{.Names}} {{.Size}}").out.splitlines():
        name, own, virtual = re.match(r"(\w+) (\S+) \(virtual (\S+)\)$", line).groups()
        assert close(number(own), number(shown[name]), 1) and number(virtual) > number(own)
    assert full("ps", "-as").out.splitlines()[0].split()[-1] == "SIZE" and "SIZE" not in full("ps", "-a").out
    own, everything = full("inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "dead").out.split()
    assert close(int(own), disk(full.root / "containers" / full("inspect", "-f", "{{.Id}}", "dead").out.strip()))
    assert int(everything) > int(own) > 300000
    assert full("ps", "-a", "--format", "{{.Names}} {{.LocalVolumes}}").out == "dead 2\nlive 0\n"


def test_prune_takes_nothing_from_those_at_work(fresh_hoy, registry, busybox_tar, tmp_path):
    """Prunes without pause beside pulls, builds, imports, runs: all of them succeed, and in the end all of it goes."""
    hoy, base = fresh_hoy, f"{registry.host}/race/base:1"
    hoy("import", busybox_tar, base)
    hoy("push", base)
    (tmp_path / "Dockerfile").write_text(f"FROM {base}\nCOPY Dockerfile /one\nRUN echo 1 > /two\n")
    stop, pruned = threading.Event(), []

    def prune():
        while not stop.is_set():
            for c in (["image", "prune", "-af"], ["system", "prune", "-af", "--volumes"], ["builder", "prune", "-af"]):
                pruned.append(hoy.any(*c))

    def work(n):
        return [hoy.any(*c) for _ in range(6) for c in (
            ["pull", base], ["build", "-q", "-t", f"built{n}", tmp_path], ["import", busybox_tar, f"imported{n}"],
            ["run", "--rm", "--network", "none", base, "true"])]

    thread = threading.Thread(target=prune)
    thread.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            results = [r for done in pool.map(work, range(3)) for r in done]
    finally:
        stop.set()
        thread.join()
    bad = [r for r in results + pruned if r.code]
    assert not bad, bad[:3]
    assert "Damaged" not in hoy("verify").out
    hoy("system", "prune", "-af", "--volumes")
    assert not os.listdir(hoy.root / "blobs/sha256") and df(hoy)["Images"][0] == 0
