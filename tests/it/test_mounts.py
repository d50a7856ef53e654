"""Mount options of hoy-runtime, each read back from the container's own /proc/self/mountinfo or by its effect."""
import os
import pathlib
import shutil
import subprocess

import pytest

from bundle import RUNTIME, Bundle
from conftest import calm_census, check_census

MAPS = [{"containerID": 0, "hostID": 100000, "size": 1000}]


@pytest.fixture
def box(tmp_path):
    """A bundle; the host is as before afterwards."""
    before = calm_census()
    yield Bundle(tmp_path)
    check_census(before)


def info(box, target):
    """(mount options, super block options, optional fields) of the last mount on target."""
    found = None
    for line in box.run("cat /proc/self/mountinfo").out.splitlines():
        left, right = line.split(" - ")
        f = left.split()
        if f[4] == target:
            found = set(f[5].split(",")), set(right.split()[2].split(",")), f[6:]
    assert found, f"nothing is mounted on {target}"
    return found


ATTRIBUTES = [
    (["ro"], {"ro"}, {"rw"}), (["ro", "rw"], {"rw"}, {"ro"}), (["nosuid"], {"nosuid"}, set()), (["nosuid", "suid"], set(), {"nosuid"}),
    (["nodev"], {"nodev"}, set()), (["nodev", "dev"], set(), {"nodev"}), (["noexec"], {"noexec"}, set()),
    (["noexec", "exec"], set(), {"noexec"}), (["noatime"], {"noatime"}, {"relatime"}), (["noatime", "atime"], {"relatime"}, {"noatime"}),
    (["relatime"], {"relatime"}, set()), (["strictatime"], set(), {"relatime", "noatime"}),
    (["strictatime", "nostrictatime"], {"relatime"}, set()), (["norelatime"], {"relatime"}, set()),
    (["nodiratime"], {"nodiratime"}, set()), (["nodiratime", "diratime"], set(), {"nodiratime"}),
    (["nosymfollow"], {"nosymfollow"}, set()), (["nosymfollow", "symfollow"], set(), {"nosymfollow"}),
    (["defaults", "silent", "loud", "iversion", "noiversion", "nomand", "async", "nolazytime"], {"rw", "relatime"}, {"ro"}),
]


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_attributes(box, tmp_path, kind):
    """Every attribute option on a bind and on a new file system."""
    (tmp_path / "src").mkdir()
    for i, (options, _, _) in enumerate(ATTRIBUTES):
        box.mount(f"/m{i}", tmp_path / "src" if kind == "bind" else None, *options, type=kind)
    lines = [x.split(" - ")[0].split() for x in box.run("cat /proc/self/mountinfo").out.splitlines()]
    have = {f[4]: set(f[5].split(",")) for f in lines}
    for i, (options, want, unwanted) in enumerate(ATTRIBUTES):
        assert want <= have[f"/m{i}"] and not unwanted & have[f"/m{i}"], (kind, options, have[f"/m{i}"])


def test_recursive_attributes(box, tmp_path):
    """The r-forms reach the mounts below, the plain ones only the top."""
    (tmp_path / "src/below").mkdir(parents=True)
    subprocess.run(["busybox", "mount", "-t", "tmpfs", "t", tmp_path / "src/below"], check=True)
    cases = {"rro": "ro", "rnosuid": "nosuid", "rnodev": "nodev", "rnoexec": "noexec", "rnoatime": "noatime",
             "rnodiratime": "nodiratime", "rnosymfollow": "nosymfollow"}
    try:
        for name in cases:
            box.mount(f"/{name}", tmp_path / "src", "rbind", name)
        box.mount("/top", tmp_path / "src", "rbind", "ro")
        box.mount("/back", tmp_path / "src", "rbind", "rro", "rrw", "rnosuid", "rsuid", "rnodev", "rdev", "rnoexec", "rexec", "rnoatime",
                  "ratime", "rrelatime", "rnorelatime", "rstrictatime", "rnostrictatime", "rdiratime", "rsymfollow", "rsync")
        lines = [x.split(" - ")[0].split() for x in box.run("cat /proc/self/mountinfo").out.splitlines()]
    finally:
        subprocess.run(["busybox", "umount", tmp_path / "src/below"], check=True)
    have = {f[4]: set(f[5].split(",")) for f in lines}
    for name, option in cases.items():
        assert option in have[f"/{name}"] and option in have[f"/{name}/below"], name
    assert "ro" in have["/top"] and "rw" in have["/top/below"]
    assert have["/back"] == have["/back/below"] == {"rw", "relatime"}


def test_super_block_options(box):
    box.mount("/a", None, "sync", "lazytime", "mand", "size=64k", "mode=711", type="tmpfs")
    assert {"sync", "lazytime", "size=64k", "mode=711"} <= info(box, "/a")[1]
    box.config["mounts"][-1]["options"] = ["dirsync"]
    assert "dirsync" in info(box, "/a")[1]
    box.config["mounts"][-1]["options"] = ["nosuchoption"]
    assert "mount option nosuchoption" in box.run("true", code=1).err


def test_propagation(box, tmp_path):
    """What asked for nothing is private; slave and shared mounts keep the source's peers; the host gets nothing from the set-up."""
    src = tmp_path / "shared"
    src.mkdir()
    subprocess.run(["busybox", "mount", "-t", "tmpfs", "t", src], check=True)
    subprocess.run(["busybox", "mount", "--make-shared", src], check=True)
    try:
        for word in ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"):
            box.mount(f"/{word}", src, "rbind", word)
        box.mount("/none", src, "rbind")
        have = {f[4]: " ".join(f[6:]) for f in
                (x.split(" - ")[0].split() for x in box.run("cat /proc/self/mountinfo").out.splitlines())}
        host = next(f for f in (x.split(" - ")[0].split() for x in open("/proc/self/mountinfo", encoding="utf-8"))
                    if f[4] == str(src))
        peers = next(f for f in host[6:] if f.startswith("shared:"))
        assert have["/private"] == have["/rprivate"] == have["/none"] == ""
        assert have["/unbindable"] == have["/runbindable"] == "unbindable"
        assert have["/slave"] == have["/rslave"] == peers.replace("shared", "master")
        assert have["/shared"] == have["/rshared"] == peers
    finally:
        subprocess.run(["busybox", "umount", src], check=True)


@pytest.mark.parametrize("word,want", [("shared", "shared:"), ("rshared", "shared:"), ("private", ""), ("rprivate", ""), ("", ""),
                                       ("unbindable", "unbindable")])
def test_rootfs_propagation(box, word, want):
    box.config["linux"]["rootfsPropagation"] = word
    fields = " ".join(info(box, "/")[2])
    assert want in fields and (want or not fields)


def test_bad_propagation(box):
    box.config["linux"]["rootfsPropagation"] = "rnonsense"
    assert "linux.rootfsPropagation" in box.run("true", code=1).err


def test_idmap(box, tmp_path):
    """Explicit maps in both forms, without a user namespace; the container's; none is an error."""
    src = tmp_path / "src"
    src.mkdir()
    (src / "f").write_text("x")
    os.chown(src / "f", 7, 8)
    box.mount("/a", src, "idmap", uidMappings=MAPS, gidMappings=MAPS)
    box.mount("/b", src, "rbind", "ridmap=uids=0-200000-10;gids=0-300000-5#5-400000-10")
    box.mount("/c", src, uidMappings=MAPS, gidMappings=MAPS)
    box.mount("/t", None, "idmap", type="tmpfs", uidMappings=MAPS, gidMappings=MAPS)
    out = box.run("stat -c %u:%g /a/f /b/f /c/f; stat -c %u:%g /t").out.split()
    assert out == ["100007:100008", "200007:400003", "100007:100008", "100000:100000"]
    for options, more in ((["idmap"], {}), (["idmap"], {"uidMappings": MAPS}), (["idmap=pids=1"], {}), (["idmap=uids=1-2"], {})):
        box.config["mounts"] = box.config["mounts"][:4]
        box.mount("/a", src, *options, **more)
        assert "mounts[4]" in box.run("true", code=1).err


def test_idmap_of_the_user_namespace(box, tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    (src / "f").write_text("x")
    os.chown(src / "f", 7, 8)
    box.config["linux"]["namespaces"].append({"type": "user"})
    box.config["linux"].update(uidMappings=MAPS, gidMappings=MAPS)
    tmp_path.chmod(0o755)
    subprocess.run(["chown", "-R", "100000:100000", box.root], check=True)
    box.mount("/plain", src).mount("/mapped", src, "idmap").mount("/relative", src, "idmap=uids=@0-1-10;gids=@0-2-10")
    assert box.run("stat -c %u:%g /plain/f /mapped/f /relative/f").out.split() == ["65534:65534", "7:8", "8:10"]


def test_a_source_that_root_of_the_user_namespace_cannot_reach(box, tmp_path):
    (tmp_path / "locked/src").mkdir(parents=True)
    (tmp_path / "locked/src/f").write_text("inside")
    (tmp_path / "locked").chmod(0)
    box.config["linux"]["namespaces"].append({"type": "user"})
    box.config["linux"].update(uidMappings=MAPS, gidMappings=MAPS)
    subprocess.run(["chown", "-R", "100000:100000", box.root], check=True)
    assert box.mount("/d", tmp_path / "locked/src").run("cat /d/f").out == "inside"


def test_tmpcopyup(box):
    (box.root / "data/sub").mkdir(parents=True)
    (box.root / "data/sub/f").write_text("from the image\n")
    os.symlink("sub/f", box.root / "data/link")
    os.chown(box.root / "data/sub/f", 12, 34)
    box.mount("/data", None, "tmpcopyup", "ro", type="tmpfs")
    out = box.run("cat /data/link; stat -c %u:%g /data/sub/f; touch /data/new 2>/dev/null || echo read-only").out
    assert out == "from the image\n12:34\nread-only\n"
    box.config["mounts"][-1]["destination"] = "/"
    assert "tmpcopyup" in box.run("true", code=1).err


def test_links_of_source_and_target(box, tmp_path):
    """copy-symlink, src-nofollow, dest-nofollow; without them both ends are followed."""
    (tmp_path / "file").write_text("content")
    os.symlink(tmp_path / "file", tmp_path / "link")
    os.symlink("elsewhere", box.root / "l")
    os.symlink("elsewhere", box.root / "l2")
    box.mount("/copied", tmp_path / "link", "copy-symlink").mount("/copied", tmp_path / "link", "copy-symlink")
    box.mount("/itself", tmp_path / "link", "src-nofollow", "dest-nofollow").mount("/l", tmp_path / "file", "dest-nofollow")
    box.mount("/l2", tmp_path / "link")
    out = box.run("readlink /copied; readlink /itself; cat /l; readlink /l2; cat /elsewhere").out
    assert out == f"{tmp_path}/file\n{tmp_path}/file\ncontentelsewhere\ncontent"
    box.mount("/bin/sh", tmp_path / "link", "copy-symlink")
    assert "make link /bin/sh: File exists" in box.run("true", code=1).err


def test_relative_and_odd_destinations(box, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/f").write_text("x")
    for target in ("rel/a", "//two///b", "/dots/../c", "/d/./e/"):
        box.mount(target, tmp_path / "src")
    assert box.run("ls /rel/a /two/b /c /d/e | grep -c f").out == "4\n"


def test_remount(box, tmp_path):
    (tmp_path / "src").mkdir()
    box.mount("/a", tmp_path / "src").mount("/a", tmp_path / "src", "remount", "ro", "nosuid")
    box.mount("/t", None, "size=1m", type="tmpfs").mount("/t", None, "remount", "size=2m", "noexec", type="tmpfs")
    assert {"ro", "nosuid"} <= info(box, "/a")[0]
    options, block, _ = info(box, "/t")
    assert "noexec" in options and "size=2048k" in block


def test_a_mount_over_the_root(box, tmp_path):
    """What is mounted after it lies in the new root."""
    subprocess.run(["cp", "-a", box.root, tmp_path / "other"], check=True)
    (tmp_path / "other/other").write_text("the other root\n")
    box.config["mounts"].insert(0, {"destination": "/", "type": "bind", "source": str(tmp_path / "other"), "options": ["rbind"]})
    assert box.run("cat /other; ls /proc/self/status").out == "the other root\n/proc/self/status\n"


def test_a_tmpfs_takes_the_mode_of_what_it_covers(box):
    (box.root / "d").mkdir()
    (box.root / "d").chmod(0o712)
    box.mount("/d", None, type="tmpfs").mount("/tmp", None, "mode=700", type="tmpfs")
    box.mount("/new/one", None, type="tmpfs")
    for _ in range(2):  # the second time the directory is there
        assert box.run("stat -c %a /d /tmp /new/one /new").out == "712\n700\n1777\n755\n"


def test_overlay_with_long_layers(box, tmp_path):
    layers = []
    for i in range(8):
        layers.append(tmp_path / ("l%d-" % i + "x" * 60))
        layers[-1].mkdir()
        (layers[-1] / f"f{i}").write_text("x")
    box.mount("/o", "overlay", "lowerdir=" + ":".join(map(str, layers)), type="overlay")
    assert box.run("ls /o | wc -l").out == "8\n"


@pytest.mark.parametrize("mode", ["ro", "rw"])
@pytest.mark.parametrize("own", [True, False])
def test_cgroup_mount(box, mode, own):
    """ro or rw, with the container's own cgroup namespace or the host's; joined controllers have their links."""
    if own:
        box.config["linux"]["namespaces"].append({"type": "cgroup"})
    box.mount("/sys/fs/cgroup", "cgroup", mode, "nosuid", type="cgroup")
    text = ("d=/sys/fs/cgroup; [ -e $d/pids ] && d=$d/pids; mkdir $d/below 2>/dev/null && echo made && rmdir $d/below;"
            "for l in /sys/fs/cgroup/*; do [ ! -L $l ] || [ -d $l/ ] || echo broken; done; true")
    assert box.run(text).out == ("made\n" if mode == "rw" else "")


def test_calls_newer_than_5_15_answer_enosys(box, tmp_path):
    """All kinds of mounts again, under a filter that knows no call newer than our oldest kernel."""
    cc = shutil.which("gcc") or shutil.which("clang")
    if not cc:
        pytest.skip("needs a C compiler")
    subprocess.run([cc, "-o", tmp_path / "oldkernel", pathlib.Path(__file__).parent / "oldkernel.c"], check=True)
    (tmp_path / "src/below").mkdir(parents=True)
    (tmp_path / "src/f").write_text("x")
    (tmp_path / "l1").mkdir()
    (tmp_path / "l2").mkdir()
    box.mount("/a", tmp_path / "src", "rbind", "rro", "rnosuid").mount("/b", tmp_path / "src", "idmap", uidMappings=MAPS, gidMappings=MAPS)
    box.mount("/c", tmp_path / "src", "rslave").mount("/tmp", None, "tmpcopyup", type="tmpfs")
    box.mount("/o", "overlay", f"lowerdir={tmp_path}/l1:{tmp_path}/l2", type="overlay")
    box.mount("/sys/fs/cgroup", "cgroup", "ro", type="cgroup")
    box.config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "77"}
    box.script("stat -c %u /b/f; cat /a/f; touch /a/g 2>/dev/null || echo ' read-only'; cat /proc/sys/net/ipv4/ip_default_ttl").write()
    r = subprocess.run([tmp_path / "oldkernel", RUNTIME, "--root", box.state, "run", "--bundle", box.base, "old"], capture_output=True,
                       text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert r.returncode == 0 and r.stdout == "100000\nx read-only\n77\n", r.stdout + r.stderr


def test_without_the_mount_calls_of_5_12_the_error_says_so(box):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    box.script("true").write()
    r = subprocess.run(["strace", "-f", "-o", "/dev/null", "-e", "trace=open_tree", "-e", "inject=open_tree:error=ENOSYS", RUNTIME, "--root",
                        box.state, "run", "--bundle", box.base, "old"], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                       timeout=60, check=False)
    assert r.returncode == 1 and "the mount calls of Linux 5.12 are missing" in r.stderr, r.stderr
    assert not (box.state / "old").exists()
