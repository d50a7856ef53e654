"""What runtime-spec 1.3 asks for on control groups v2: run by tests/v2 in its guest, skipped elsewhere."""
import os
import pathlib
import stat

import pytest

from test_oci_spec import box  # noqa: F401  pylint: disable=unused-import

pytestmark = pytest.mark.skipif(not pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists(), reason="needs cgroup v2")
GROUP = pathlib.Path("/sys/fs/cgroup/hoy-spec-v2")


def limited(b, resources, *args, **more):
    """A container with these resources in a group of a known name; runs args."""
    b.linux["cgroupsPath"] = f"/{GROUP.name}"
    b.linux["resources"] = resources
    b.linux["namespaces"].append({"type": "cgroup"})
    b.conf["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]})
    return b.run(*args, **more)


def values(b, resources, *files):
    """The contents of files of the group, as the container reads them."""
    return limited(b, resources, "sh", "-c", "cd /sys/fs/cgroup && cat " + " ".join(files)).out.splitlines()


def test_memory_and_swap(box):  # noqa: F811
    assert values(box, {"memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20}}, "memory.max", "memory.swap.max",
                  "memory.low") == [str(64 << 20), str(32 << 20), str(32 << 20)]


def test_swap_alone_can_be_forbidden(box):  # noqa: F811
    assert values(box, {"memory": {"swap": 0}}, "memory.swap.max") == ["0"]


def test_processes(box):  # noqa: F811
    assert values(box, {"pids": {"limit": -1}}, "pids.max") == ["max"]


def test_cpu(box):  # noqa: F811
    assert values(box, {"cpu": {"shares": 1024, "quota": 20000, "period": 50000, "burst": 10000}}, "cpu.weight", "cpu.max",
                  "cpu.max.burst") == ["100", "20000 50000", "10000"]


def test_unified_is_written_last_and_as_it_is(box):  # noqa: F811
    assert values(box, {"memory": {"limit": 64 << 20}, "unified": {"memory.high": "33554432", "memory.max": "50331648"}},
                  "memory.high", "memory.max") == ["33554432", "50331648"]


@pytest.mark.parametrize("key, words", [("foo.bar", "controller `foo` is not available"), ("memory.nosuch", "No such file"),
                                        ("nodot", "CONTROLLER.VALUE"), ("../cgroup.procs", "not a file name")])
def test_unified_keys_that_cannot_be(box, key, words):  # noqa: F811
    assert words in limited(box, {"unified": {key: "1"}}, "true", code=None).err
    assert not GROUP.exists() and box.status() is None


def test_what_only_v1_has_is_an_error(box):  # noqa: F811
    err = limited(box, {"memory": {"swappiness": 5}}, "true", code=None).err
    assert "linux.resources.memory.swappiness" in err and not GROUP.exists()


def test_device_rules_are_a_program_where_the_last_word_counts(box):  # noqa: F811
    box.process["capabilities"] = {s: ["CAP_MKNOD", "CAP_DAC_OVERRIDE"] for s in ("bounding", "effective", "permitted")}
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 9, "access": "rwm"},
             {"allow": True, "type": "c", "major": 1, "minor": 1, "access": "rwm"},
             {"allow": False, "type": "c", "major": 1, "minor": 1, "access": "w"}]
    script = ("mknod /tmp/m c 1 1 && echo made; head -c0 </tmp/m && echo read; (: >/tmp/m) 2>/dev/null || echo unwritten; "
              "head -c1 /dev/urandom >/dev/null && echo random; mknod /tmp/k c 1 11; head -c0 </tmp/k || echo refused")
    out = limited(box, {"devices": rules}, "sh", "-c", script, code=None).out.split()
    assert out[:1] == ["made"] and "unwritten" in out and "random" in out and "refused" in out


@pytest.mark.parametrize("own_ns, writable, given", [(True, True, True), (True, False, False), (False, True, False)])
def test_the_group_is_given_away_only_with_a_writable_view_of_its_own(box, own_ns, writable, given):  # noqa: F811
    if own_ns:
        box.linux["namespaces"].append({"type": "cgroup"})
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = box.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    box.linux["cgroupsPath"] = f"/{GROUP.name}"
    box.conf["mounts"] = [{"destination": "/proc", "type": "proc", "source": "proc"},
                          {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                           "options": ["rw" if writable else "ro"]}]
    for top, dirs, files in os.walk(box.base / "rootfs"):
        for name in dirs + files:
            os.lchown(os.path.join(top, name), 100000, 100000)
    os.chown(box.base / "rootfs", 100000, 100000)
    for p in [box.base, *box.base.parents][:4]:
        p.chmod(stat.S_IMODE(p.stat().st_mode) | 0o011)
    box.process["args"] = ["sleep", "100"]
    box.create()
    owner = 100000 if given else 0
    assert [(GROUP / f).stat().st_uid for f in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads")] == [owner] * 4
    assert (GROUP / "memory.max").stat().st_uid == 0
