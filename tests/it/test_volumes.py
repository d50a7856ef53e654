"""Volumes and mounts: what is asked for, what docker does with it, and what a crash or a race may not leave."""
import json
import os
import re
import signal
import subprocess
import tarfile
import threading
import time

import pytest


class Quiet:
    """hoy whose containers need no network: the bridge takes seconds to go, and the census waits for it."""

    def __init__(self, hoy):
        self.hoy = hoy

    def __getattr__(self, name):
        return getattr(self.hoy, name)

    @staticmethod
    def words(args):
        more = ["--network", "none"] if args[0] in ("run", "create") else []
        return [args[0], *more, *args[1:]]

    def __call__(self, *args, **more):
        return self.hoy(*self.words(args), **more)

    def any(self, *args, **more):
        return self.hoy.any(*self.words(args), **more)

    def popen(self, *args, **more):
        return self.hoy.popen(*self.words(args), **more)


@pytest.fixture
def hoy(hoy):
    return Quiet(hoy)


def volume(hoy, name):
    return json.loads(hoy("volume", "inspect", name).out)[0]


def data(hoy, name):
    return hoy.root / "volumes" / name / "_data"


def mount_line(hoy, *args, at="/m"):
    """The line of mountinfo at a place inside."""
    out = hoy("run", "--rm", *args, "busybox", "grep", f" {at} ", "/proc/self/mountinfo").out
    return out.splitlines()[-1]


@pytest.fixture
def vol(hoy):
    """Makes volumes that go away again."""
    made = []

    def make(name="vol", *args):
        made.append(name)
        hoy("volume", "create", *args, name)
        return name

    yield make
    hoy.remove_all()
    for name in made:
        hoy.any("volume", "rm", "-f", name)


RICH = ("mkdir -p /rich/d/e && echo one >/rich/f && ln /rich/f /rich/d/hard && ln -s /etc/passwd /rich/link"
        " && chown -R 1000:2000 /rich/d && chown 12:34 /rich && chmod 2750 /rich && chmod 4755 /rich/f"
        " && mkfifo /rich/pipe && dd if=/dev/zero of=/rich/sparse bs=1 count=1 seek=8388607"
        " && mkdir /hollow && chown 5:6 /hollow && chmod 700 /hollow && touch -d @86400 /rich/d/e")


@pytest.fixture(scope="module")
def rich(shared_hoy):
    """An image with a directory that has everything a file can have."""
    shared_hoy("run", "--name", "rich-maker", "--network", "none", "busybox", "sh", "-c", RICH)
    shared_hoy("commit", "-c", "VOLUME /var/data", "rich-maker", "rich")
    shared_hoy("rm", "rich-maker")
    yield "rich"
    shared_hoy.remove_all()
    shared_hoy("rmi", "-f", "rich")


# ---- volume commands ----

def test_create_inspect_list_remove(hoy):
    assert hoy("volume", "create", "--label", "a=b", "--label", "c", "one").out == "one\n"
    v = volume(hoy, "one")
    assert sorted(v) == ["CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope"]
    assert v["Labels"] == {"a": "b", "c": ""} and v["Options"] is None and v["Scope"] == "local"
    assert os.path.isdir(v["Mountpoint"]) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", v["CreatedAt"])
    assert hoy("volume", "ls").out == "DRIVER    VOLUME NAME\nlocal     one\n"
    row = json.loads(hoy("volume", "ls", "--format", "json").out)
    assert row == {"Availability": "N/A", "Driver": "local", "Group": "N/A", "Labels": "a=b,c=", "Links": "N/A",
                   "Mountpoint": v["Mountpoint"], "Name": "one", "Scope": "local", "Size": "N/A", "Status": "N/A"}
    assert hoy("volume", "create", "one").out == "one\n"  # there already
    assert hoy("volume", "rm", "one").out == "one\n"
    assert "get one: no such volume" in hoy("volume", "inspect", "one", code=1).err
    assert "get one: no such volume" in hoy("volume", "rm", "one", code=1).err
    hoy("volume", "rm", "-f", "one")
    assert hoy("volume", "ls", "-q").out == ""


def test_an_anonymous_volume_is_labelled_as_dockers(hoy):
    name = hoy("volume", "create").out.strip()
    assert len(name) == 64 and volume(hoy, name)["Labels"] == {"com.docker.volume.anonymous": ""}
    hoy("volume", "rm", name)


def test_filters(hoy, vol):
    vol("apple", "--label", "kind=fruit")
    vol("pear", "--label", "kind=fruit", "--label", "x")
    vol("stone")
    hoy("create", "--name", "user", "-v", "apple:/a", "busybox", "true")

    def names(*filters):
        return hoy("volume", "ls", "-q", *[w for f in filters for w in ("-f", f)]).out.split()

    assert names() == ["apple", "pear", "stone"]
    assert names("label=kind") == names("label=kind=fruit") == ["apple", "pear"]
    assert names("label=kind", "label=x") == ["pear"]
    assert names("name=^pear$") == ["pear"] and names("name=^ea") == [] and names("name=^(pear|stone)$") == ["pear", "stone"]
    assert names("name=ea") == ["pear"] and names("name=[") == [] and names("driver=local") == ["apple", "pear", "stone"]
    assert names("driver=nfs") == [] and names("dangling=true") == ["pear", "stone"]
    assert names("dangling=false") == names("dangling=0") == ["apple"]
    assert "invalid filter 'dangling=[maybe]'" in hoy("volume", "ls", "-f", "dangling=maybe", code=1).err
    assert "invalid filter 'size'" in hoy("volume", "ls", "-f", "size=1", code=1).err


def test_prune(hoy, vol):
    vol("kept")
    anonymous = hoy("volume", "create").out.strip()
    (data(hoy, anonymous) / "f").write_bytes(b"x" * 2000)
    hoy("create", "--name", "user", "-v", "/inside", "busybox", "true")
    used = json.loads(hoy("inspect", "user").out)[0]["Mounts"][0]["Name"]
    out = hoy("volume", "prune", "-f").out
    assert re.fullmatch(f"Deleted Volumes:\n{anonymous}\n\nTotal reclaimed space: [0-9.]+kB\n", out)
    assert sorted(hoy("volume", "ls", "-q").out.split()) == sorted(["kept", used])
    hoy("volume", "create", "--label", "keep", "labelled")
    assert hoy("volume", "prune", "-af", "--filter", "label!=keep").out.startswith("Deleted Volumes:\nkept\n")
    assert hoy("volume", "prune", "-af", "--filter", "label=keep").out.startswith("Deleted Volumes:\nlabelled\n")
    r = hoy("volume", "prune", stdin="n\n")
    assert "anonymous local volumes not used by at least one container" in r.out + r.err
    assert hoy("volume", "ls", "-q").out.split() == [used]


def test_a_volume_in_use_stays(hoy, vol):
    vol()
    cid = hoy("create", "--name", "user", "-v", "vol:/a", "busybox", "true").out.strip()
    assert f"remove vol: volume is in use - [{cid}]" in hoy("volume", "rm", "vol", code=1).err
    assert f"volume is in use - [{cid}]" in hoy("volume", "rm", "-f", "vol", code=1).err
    hoy("rm", "user")
    hoy("volume", "rm", "vol")


@pytest.mark.parametrize("args,text", [
    (("a/b",), "includes invalid characters for a local volume name"),
    (("-leading",), None),
    (("x",), "volume name is too short"),
    (("n" * 256,), "invalid characters"),
    (("-d", "rexray", "vv"), 'error looking up volume plugin rexray: plugin "rexray" not found'),
    (("-o", "bogus=1", "vv"), 'invalid option: "bogus"'),
    (("-o", "type=tmpfs", "vv"), 'missing required option: "device"'),
    (("-o", "device=/tmp", "vv"), 'missing required option: "type"'),
    (("-o", "o=ro", "vv"), 'missing required option: "device"'),
    (("-o", "type=none", "-o", "o=bind", "-o", "device=tmp", "vv"), "must be an absolute path"),
    (("-o", "size=lots", "vv"), "lots"),
    (("-o", "size=0", "vv"), "size must be more than 0"),
    (("-o", "size=1m", "-o", "type=tmpfs", "-o", "device=tmpfs", "vv"), "give it in o="),
    (("--name", "aa", "bb"), "--name"),
])
def test_what_cannot_be_created(hoy, args, text):
    err = hoy("volume", "create", *args, code=None)
    assert err.code != 0 and (text is None or text in err.err)
    assert hoy("volume", "ls", "-q").out == ""
    assert [n for n in os.listdir(hoy.root / "volumes") if n != ".work"] == []


def test_other_driver_options_are_a_conflict(hoy, vol):
    vol("vol", "-o", "type=tmpfs", "-o", "device=tmpfs")
    hoy("volume", "create", "vol")
    hoy("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "vol")
    assert "with other driver options" in hoy("volume", "create", "-o", "type=tmpfs", "-o", "device=tmp", "vol", code=1).err


def test_a_size_is_kept_or_refused(hoy):
    """tests/v2/quota.sh has a file system that keeps project quotas."""
    r = hoy("volume", "create", "-o", "size=10m", "sized", code=None)
    if r.code == 0:
        hoy("run", "--rm", "-v", "sized:/a", "busybox", "dd", "if=/dev/zero", "of=/a/f", "bs=1M", "count=20", code=1)
        hoy("volume", "rm", "sized")
    else:
        assert "quota size requested but no quota support" in r.err and "prjquota" in r.err
    assert hoy("volume", "ls", "-q").out == ""
    assert os.listdir(hoy.root / "volumes") == [".work"]


# ---- copy-up ----

def look(hoy, *args, image="busybox"):
    script = ("cd /rich; stat -c '%n %F %a %u %g %h' . d d/e; stat -c '%n %F %a %u %g %h %s' f d/hard link pipe sparse; stat -c %Y d/e;"
              "readlink link; cat f")
    return hoy("run", "--rm", *args, image, "sh", "-c", script).out


def test_a_new_volume_gets_all_that_the_image_has(hoy, vol, rich):
    want = look(hoy, image=rich)
    assert look(hoy, "-v", "vol:/rich", image=rich) == want
    assert look(hoy, "-v", "vol:/rich") == want  # in the volume now, whatever the image
    assert os.stat(data(hoy, "vol") / "sparse").st_size == 8 << 20
    assert os.stat(data(hoy, "vol") / "f").st_ino == os.stat(data(hoy, "vol") / "d/hard").st_ino
    assert os.listdir(hoy.root / "volumes/vol") == ["_data"]
    hoy("volume", "rm", "vol")
    assert look(hoy, "--mount", "type=volume,src=vol,dst=/rich", image=rich) == want
    vol()


def test_when_nothing_is_copied(hoy, vol, rich):
    vol()
    for args in (("-v", "vol:/rich:nocopy"), ("--mount", "source=vol,target=/rich,volume-nocopy")):
        assert hoy("run", "--rm", *args, rich, "ls", "-A", "/rich").out == ""
    (data(hoy, "vol") / "mine").write_text("x")
    assert hoy("run", "--rm", "-v", "vol:/rich", rich, "ls", "-A", "/rich").out == "mine\n"
    (data(hoy, "vol") / "mine").unlink()
    hoy("run", "--rm", "-v", "vol:/hollow", rich, "true")  # empty: only the owner comes
    st = os.stat(data(hoy, "vol"))
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (5, 6, 0o700)
    hoy("run", "--rm", "-v", "vol:/not/there", rich, "true")


def test_image_volumes(hoy, rich):
    hoy("create", "--name", "cc", rich, "true")
    mount, = json.loads(hoy("inspect", "cc").out)[0]["Mounts"]
    assert mount["Type"] == "volume" and mount["Destination"] == "/var/data" and len(mount["Name"]) == 64
    hoy("rm", "cc")
    assert mount["Name"] in hoy("volume", "ls", "-q").out  # only with -v, as docker
    hoy("volume", "rm", mount["Name"])
    hoy("run", "--name", "cc", rich, "touch", "/var/data/x")
    hoy("rm", "-v", "cc")
    hoy("run", "--rm", rich, "touch", "/var/data/x")
    assert hoy("volume", "ls", "-q").out == ""
    r = hoy("create", "-v", "/etc/passwd", rich, "true", code=None)
    assert r.code == 125 and "cannot mount volume over existing file, file exists /etc/passwd" in r.err
    assert hoy("volume", "ls", "-q").out == ""


# ---- binds ----

def test_missing_sources(hoy, tmp_path):
    missing = tmp_path / "a/b/c"
    r = hoy("run", "--rm", "--mount", f"type=bind,source={missing},target=/m", "busybox", "true", code=125)
    assert f'invalid mount config for type "bind": bind source path does not exist: {missing}' in r.err
    assert not missing.exists()
    hoy("run", "--rm", "-v", f"{missing}:/m", "busybox", "touch", "/m/f")
    assert (missing / "f").exists()
    other = tmp_path / "x/y"
    hoy("run", "--rm", "--mount", f"type=bind,source={other},target=/m,bind-create-src", "busybox", "touch", "/m/f")
    assert (other / "f").exists()


def test_a_file_is_bound(hoy, tmp_path):
    (tmp_path / "f").write_text("text\n")
    assert hoy("run", "--rm", "-v", f"{tmp_path}/f:/new/place:ro", "busybox", "cat", "/new/place").out == "text\n"
    assert hoy("run", "--rm", "-v", f"{tmp_path}/f:/etc/hosts", "busybox", "cat", "/etc/hosts").out == "text\n"
    r = hoy("run", "--rm", "-v", f"{tmp_path}:/etc/passwd", "busybox", "true", code=None)
    assert r.code in (125, 126, 127) and "/etc/passwd" in r.err


def test_owners_are_mapped(hoy, tmp_path, vol):
    src = tmp_path / "src"
    src.mkdir()
    (src / "f").write_text("x")
    for path in (src, src / "f"):
        os.chown(path, 1000, 1001)
    maps = "uids=1000-5-1;gids=1001-6-1"
    for option in ("-v", f"{src}:/m:idmap={maps}"), ("--mount", f"type=bind,src={src},dst=/m,idmap={maps}"):
        r = hoy("run", "--rm", "-u", "5:6", *option, "busybox", "sh", "-c", "stat -c %u:%g /m/f && echo y >>/m/f && echo n >/m/new")
        assert r.out == "5:6\n"
        new = (src / "new").stat()
        assert (src / "f").read_text() == "xy\n" and (new.st_uid, new.st_gid) == (1000, 1001)
        (src / "f").write_text("x")
        (src / "new").unlink()
    # who has no number in the mapping can't leave files there, and what it can't name belongs to nobody
    r = hoy("run", "--rm", "-v", f"{src}:/m:idmap={maps}", "busybox", "sh", "-c", "touch /m/new; stat -c %u /m/f", code=0)
    assert "Value too large" in r.err or "Permission denied" in r.err
    assert not (src / "new").exists()
    r = hoy("run", "--rm", "-v", f"{src}:/m:idmap", "busybox", "true", code=125)
    assert "/m: idmap: the container has no user namespace" in r.err


def test_owners_of_a_volume_are_mapped(hoy, vol):
    top = data(hoy, vol("mapped"))
    (top / "f").write_text("x")
    for path in (top, top / "f"):
        os.chown(path, 1000, 1001)
    maps = "uids=1000-5-1;gids=1001-6-1"
    r = hoy("run", "--rm", "-u", "5:6", "-v", f"mapped:/m:idmap={maps}", "busybox", "sh", "-c", "stat -c %u:%g /m/f && echo n >/m/new")
    assert r.out == "5:6\n"
    st = (top / "new").stat()
    assert (st.st_uid, st.st_gid) == (1000, 1001)


def test_relative_sources(hoy, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("here")
    for spec in ("./d:/m", "./d/../d:/m"):
        assert hoy("run", "--rm", "-v", spec, "busybox", "cat", "/m/f", cwd=tmp_path).out == "here"
    assert hoy("run", "--rm", "-v", ".:/m", "busybox", "cat", "/m/d/f", cwd=tmp_path).out == "here"
    assert hoy("run", "--rm", "--mount", "type=bind,src=./d,dst=/m", "busybox", "cat", "/m/f", cwd=tmp_path).out == "here"
    r = hoy("run", "--rm", "-v", "d/e:/m", "busybox", "true", code=125)
    assert "If you intended to pass a host directory, use absolute path" in r.err


@pytest.mark.parametrize("mode,flags", [
    ("", "rw"), ("ro", "ro"), ("rw", "rw"), ("nosuid", "nosuid"), ("nodev,noexec", "nodev,noexec"), ("z", "rw"), ("Z,ro", "ro"),
    ("cached", "rw"), ("delegated,ro", "ro"), ("rprivate", "rw"),
])
def test_modes_of_a_bind(hoy, tmp_path, mode, flags):
    have = mount_line(hoy, "-v", f"{tmp_path}:/m" + (f":{mode}" if mode else "")).split()[5].split(",")
    assert all(f in have for f in flags.split(","))


@pytest.mark.parametrize("spec,text", [
    ("{t}:/m:foo", "invalid mode: foo"), ("{t}:/m:ro,rw", "invalid mode: ro,rw"), ("{t}:/m:z,Z", "invalid mode: z,Z"),
    ("{t}:/m:shared,slave", "invalid mode"), ("{t}:/m:ro,", "invalid mode: ro,"), ("{t}:/m:ro:ro", "invalid volume specification"),
    ("{t}:", "invalid volume specification"), (":/m", "invalid volume specification"),
    ("{t}:m", "mount path must be absolute"), ("{t}:/", "destination can't be '/'"), ("{t}:/a/../b", '".."'),
    ("vol:/m:shared", "propagation"), ("m", "mount path must be absolute"), ("vol:/m:idmap=x", None),
    ("{t}:/m:idmap=uids=0-1-2", "uids and gids are both wanted"),
])
def test_specifications_that_are_refused(hoy, tmp_path, spec, text):
    r = hoy("run", "--rm", "-v", spec.format(t=tmp_path), "busybox", "true", code=None)
    assert r.code == 125 and (text is None or text in r.err), r
    hoy.any("volume", "rm", "-f", "vol")


@pytest.mark.parametrize("spec,text", [
    ("type=bind,target=/m", "field Source must not be empty"),
    ("type=bind,source=x,target=/m", "mount path must be absolute"),
    ("type=bind,source={t}", "target is required"),
    ("type=nfs,target=/m", 'mount type unknown'),
    ("type=bind,source={t},target=/m,bogus=1", "unexpected key 'bogus'"),
    ("type=bind,source={t},target=/m,source", "must be a key=value pair"),
    ("type=bind,source={t},target=/m,readonly=maybe", "invalid value for readonly: maybe"),
    ("type=bind,source={t},target=/m,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
    ("type=volume,target=/m,tmpfs-size=1m", "cannot mix 'tmpfs-*' options with mount type 'volume'"),
    ("type=tmpfs,target=/m,bind-propagation=shared", "cannot mix 'bind-*'"),
    ("type=tmpfs,source=x,target=/m", "field Source must not be specified"),
    ("type=tmpfs,target=/m,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
    ("type=bind,source={t},target=/m,bind-propagation=sideways", "invalid propagation mode: sideways"),
    ("type=bind,source={t},target=/m,bind-recursive=some", "invalid value for bind-recursive: some"),
    ("type=bind,source={t},target=/m,bind-recursive=writable", "requires 'readonly'"),
    ("type=bind,source={t},target=/m,bind-recursive=readonly", "requires 'readonly'"),
    ("type=bind,source={t},target=/m,ro,bind-recursive=readonly", "requires 'bind-propagation=rprivate'"),
    ("type=volume,target=/m,readonly", "must not set ReadOnly mode when using anonymous volumes"),
    ("type=volume,target=/m,volume-subpath=x", "must not set Subpath when using anonymous volumes"),
    ("type=volume,source=vol,target=/m,volume-subpath=../x", "subpath must be a relative path within the volume"),
    ("type=volume,source=vol,target=/m,volume-subpath=/x", "subpath must be a relative path within the volume"),
    ("type=volume,source=vol,target=/m,volume-driver=rex", 'plugin "rex" not found'),
    ("type=volume,source=vol,target=/m,volume-opt=bogus=1", 'invalid option: "bogus"'),
    ("type=image,target=/m", "field Source must not be empty"),
    ("type=image,source=nosuch,target=/m", "No such image: nosuch"),
    ("type=image,source=busybox,target=/m,image-subpath=../x", "relative path"),
    ('type=bind,"source={t},target=/m', 'a " is missing'),
])
def test_mounts_that_are_refused(hoy, tmp_path, spec, text):
    r = hoy("run", "--rm", "--mount", spec.format(t=tmp_path), "busybox", "true", code=None)
    assert r.code == 125 and text in r.err, r
    assert hoy("volume", "ls", "-q").out == "" and hoy("ps", "-aq").out == ""


def test_files_and_directories_are_not_mounted_on_each_other(hoy, tmp_path):
    (tmp_path / "f").write_text("x")
    r = hoy("run", "--rm", "-v", f"{tmp_path}:/etc/passwd", "busybox", "true", code=125)
    assert r.err == "hoy: mount a directory on the file /etc/passwd: Not a directory\n"
    r = hoy("run", "--rm", "-v", f"{tmp_path}/f:/etc", "busybox", "true", code=125)
    assert r.err == "hoy: mount a file on the directory /etc: Is a directory\n"


def test_a_name_of_one_letter_is_too_short(hoy):
    assert "volume name is too short" in hoy("run", "--rm", "-v", "x:/d", "busybox", "true", code=125).err


def test_keys_of_mount_in_capitals(hoy, tmp_path):
    assert hoy("run", "--rm", "--mount", f"Type=bind,SRC={tmp_path},Dst=/d", "busybox", "ls", "-d", "/d").out == "/d\n"


def test_second_names_of_commands(hoy, vol):
    name = vol()
    assert f"{name}\n" in hoy("volume", "list", "-q").out
    assert hoy("volume", "ls", "--format", '{{.Label "nope"}}{{.Name}}', "-f", f"name={name}").out == f"{name}\n"
    assert hoy("volume", "remove", name).out == f"{name}\n"
    assert hoy("volume", "inspect", name, code=1).out == "[]\n"
    assert hoy("container", "ps", "-aq").out == hoy("ps", "-aq").out
    assert json.loads(hoy("inspect", "bridge").out)[0]["Driver"] == "bridge"


def test_a_comma_in_a_path(hoy, tmp_path):
    (tmp_path / 'a,"b').mkdir()
    spec = 'type=bind,"source=' + str(tmp_path / 'a,""b') + '",target=/m'
    hoy("run", "--rm", "--mount", spec, "busybox", "touch", "/m/f")
    assert (tmp_path / 'a,"b/f').exists()


def test_duplicate_targets(hoy, tmp_path):
    for args in (("-v", f"{tmp_path}:/m", "-v", "vol:/m/"), ("--tmpfs", "/m", "--mount", "type=tmpfs,dst=/m")):
        assert "Duplicate mount point: /m" in hoy("run", "--rm", *args, "busybox", "true", code=125).err
    hoy("volume", "rm", "-f", "vol")


@pytest.fixture
def nested(tmp_path):
    """A directory with a tmpfs mounted in it."""
    (tmp_path / "top/sub").mkdir(parents=True)
    subprocess.run(["/bin/busybox", "mount", "-t", "tmpfs", "none", tmp_path / "top/sub"], check=True)
    (tmp_path / "top/sub/f").write_text("x")
    yield tmp_path / "top"
    subprocess.run(["/bin/busybox", "umount", tmp_path / "top/sub"], check=True)


@pytest.mark.parametrize("more,sub,top_rw,sub_rw", [
    ("", True, True, True), (",bind-recursive=disabled", False, True, True), (",bind-nonrecursive", False, True, True),
    (",readonly", True, False, False), (",readonly,bind-recursive=writable", True, False, True),
    (",readonly,bind-recursive=readonly,bind-propagation=rprivate", True, False, False),
    (",readonly,bind-recursive=disabled", False, False, True),
])
def test_recursion(hoy, nested, more, sub, top_rw, sub_rw):
    script = "test -e /m/sub/f && echo sub; touch /m/t 2>/dev/null && echo top_rw; touch /m/sub/s 2>/dev/null && echo sub_rw; true"
    out = hoy("run", "--rm", "--mount", f"type=bind,source={nested},target=/m{more}", "busybox", "sh", "-c", script).out.split()
    assert ("sub" in out, "top_rw" in out) == (sub, top_rw)
    if sub:
        assert ("sub_rw" in out) == sub_rw


def test_propagation(hoy, tmp_path):
    shared = tmp_path / "shared"
    (shared / "later").mkdir(parents=True)
    r = hoy("run", "--rm", "-v", f"{shared}:/m:rslave", "busybox", "true", code=None)
    subprocess.run(["/bin/busybox", "mount", "--bind", shared, shared], check=True)
    try:
        subprocess.run(["/bin/busybox", "mount", "--make-private", shared], check=True)
        r = hoy("run", "--rm", "-v", f"{shared}:/m:rshared", "busybox", "true", code=125)
        assert "not a shared mount" in r.err
        subprocess.run(["/bin/busybox", "mount", "--make-shared", shared], check=True)
        hoy("run", "-d", "--name", "slave", "-v", f"{shared}:/m:rslave", "busybox", "sleep", "100")
        hoy("run", "-d", "--name", "private", "-v", f"{shared}:/m", "busybox", "sleep", "100")
        subprocess.run(["/bin/busybox", "mount", "-t", "tmpfs", "none", shared / "later"], check=True)
        (shared / "later/f").write_text("x")
        assert hoy("exec", "slave", "ls", "/m/later").out == "f\n"
        assert hoy("exec", "private", "ls", "/m/later").out == ""
    finally:
        hoy.remove_all()
        subprocess.run(["/bin/busybox", "umount", shared / "later"], check=False)
        subprocess.run(["/bin/busybox", "umount", shared], check=True)


def test_a_target_that_is_a_link_stays_inside(hoy, tmp_path):
    """The image's own link decides where; nothing outside is touched."""
    hoy("run", "--name", "mk", "busybox", "sh", "-c", "ln -s ../../../../../../../../etc /way; ln -s /nowhere /dangling")
    hoy("commit", "mk", "linked")
    (tmp_path / "f").write_text("x")
    before = sorted(os.listdir("/etc"))
    assert hoy("run", "--rm", "-v", f"{tmp_path}:/way/sub", "linked", "sh", "-c", "cat /etc/sub/f").out == "x"
    assert sorted(os.listdir("/etc")) == before
    hoy.remove_all()
    hoy("rmi", "linked")


def test_ownership_by_U(hoy, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("x")
    (tmp_path / "d/link").symlink_to("/etc/passwd")
    before = os.stat("/etc/passwd")
    hoy("run", "--rm", "-u", "worker", "-v", f"{tmp_path}/d:/m:U", "busybox", "touch", "/m/mine")
    for name in ("", "f", "link", "mine"):
        assert os.lstat(tmp_path / "d" / name).st_uid == 1000
    assert os.stat("/etc/passwd").st_uid == before.st_uid
    assert "chowning host path" in hoy("run", "--rm", "-v", "/usr:/m:U", "busybox", "true", code=None).err
    hoy("run", "--rm", "-u", "12:34", "--mount", "type=volume,src=given,dst=/m,U", "busybox", "touch", "/m/mine")
    hoy("volume", "rm", "given")


def test_changes_over_O_go_with_the_container(hoy, tmp_path):
    (tmp_path / "f").write_text("lower\n")
    out = hoy("run", "--rm", "-v", f"{tmp_path}:/m:O", "busybox", "sh", "-c", "echo upper >/m/f; echo new >/m/n; cat /m/f /m/n")
    assert out.out == "upper\nnew\n"
    assert (tmp_path / "f").read_text() == "lower\n" and not (tmp_path / "n").exists()
    hoy("run", "--name", "oo", "-v", f"{tmp_path}:/m:O", "busybox", "sh", "-c", "test ! -e /m/n && touch /m/n")
    hoy("start", "oo")
    assert hoy("wait", "oo").out == "0\n"


# ---- parts ----


def test_subpath_of_a_volume(hoy, vol):
    vol()
    top = data(hoy, "vol")
    (top / "in/ner").mkdir(parents=True)
    (top / "in/ner/f").write_text("x")
    (top / "file").write_text("y")
    (top / "link").symlink_to("in")
    (top / "out").symlink_to("../../../../../../../../etc")
    (top / "abs").symlink_to("/in")

    def run(sub, *cmd, code=0):
        return hoy("run", "--rm", "--mount", f"type=volume,src=vol,dst=/m,volume-subpath={sub}", "busybox", *cmd, code=code)

    assert run("in/ner", "ls", "/m").out == "f\n" and run("file", "cat", "/m").out == "y"
    assert run("link/ner", "ls", "/m").out == "f\n" and run("abs", "ls", "/m").out == "ner\n"
    r = run("out", "ls", "/m", code=None)  # ends at the volume's root, where there is no etc
    assert r.code != 0 and "subpath" in r.err
    r = run("nosuch", "ls", "/m", code=None)
    assert r.code != 0 and "nosuch" in r.err


def test_a_part_that_is_swapped_for_a_link_leads_nowhere(hoy, vol):
    """CVE-2021-30465's race: while containers start, the directory changes to a link out of the volume and back."""
    vol()
    top = data(hoy, "vol")
    (top / "a").mkdir()
    (top / "a/inside").write_text("x")
    (top / "b").symlink_to("../../../../../../../../../../etc")
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for x, y in (("a", "t"), ("b", "a"), ("t", "b")):
                os.rename(top / x, top / y)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(25):
            r = hoy.any("run", "--rm", "--mount", "type=volume,src=vol,dst=/m,volume-subpath=a", "busybox",
                        "ls", "/m")
            assert r.out in ("", "inside\n") and "passwd" not in r.out
    finally:
        stop.set()
        thread.join()

# ---- tmpfs ----

def test_tmpfs(hoy):
    line = mount_line(hoy, "--tmpfs", "/m")
    assert "nosuid,nodev,noexec" in line and "tmpfs" in line
    assert "size=1024k" in mount_line(hoy, "--tmpfs", "/m:size=1m,mode=700,exec")
    assert "noexec" not in mount_line(hoy, "--tmpfs", "/m:exec")
    line = mount_line(hoy, "--mount", "type=tmpfs,dst=/m,tmpfs-size=2m,tmpfs-mode=1700,readonly")
    assert "size=2048k" in line and "mode=1700" in line and " ro," in line
    assert 'invalid tmpfs option ["bogus"]' in hoy("run", "--rm", "--tmpfs", "/m:bogus", "busybox", "true", code=125).err
    assert hoy("run", "--rm", "--tmpfs", "/home:tmpcopyup", "--tmpfs", "/bin:tmpcopyup,exec,size=8m", "busybox", "ls", "/bin/sh").out


# ---- driver options ----

def test_a_tmpfs_at_a_new_place_is_for_everybody(hoy):
    """As docker's: a program that is not root can write to it; also after a restart."""
    hoy("run", "--name", "scratch", "-u", "1000", "--tmpfs", "/cache", "--mount", "type=tmpfs,dst=/other", "busybox",
        "sh", "-c", "touch /cache/x /other/x && stat -c %a /cache /other")
    hoy("start", "-a", "scratch")
    assert hoy("logs", "scratch").out == "1777\n" * 4
    hoy("rm", "scratch")


def test_a_volume_that_is_a_tmpfs(hoy, vol):
    vol("ram", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=3m,uid=1000,nosuid")
    line = mount_line(hoy, "-v", "ram:/m")
    assert "size=3072k" in line and "uid=1000" in line and "nosuid" in line
    assert hoy("run", "--rm", "-v", "ram:/etc", "busybox", "ls", "/etc").out.split() == [
        "group", "hostname", "hosts", "passwd", "resolv.conf"]
    assert hoy("run", "--rm", "-v", "ram:/etc:nocopy", "busybox", "ls", "/etc").out == "hostname\nhosts\nresolv.conf\n"
    assert " ro," in mount_line(hoy, "-v", "ram:/m:ro")
    assert "not for a volume of type tmpfs" in hoy("run", "--rm", "-v", "ram:/m:O", "busybox", "true", code=None).err
    assert "which only containers mount" in hoy("volume", "export", "ram", code=1).err


def test_a_volume_that_is_a_directory_of_the_users(hoy, vol, rich, tmp_path):
    vol("dir", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}")
    want = look(hoy, image=rich)
    assert look(hoy, "-v", "dir:/rich", image=rich) == want
    assert sorted(os.listdir(tmp_path)) == ["d", "f", "link", "pipe", "sparse"]
    hoy("run", "--rm", "-v", "dir:/m", "busybox", "touch", "/m/more")
    assert (tmp_path / "more").exists()
    hoy("volume", "rm", "dir")
    assert (tmp_path / "more").exists()  # it was never ours
    hoy("volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", f"device={tmp_path}", "dir")
    assert "Read-only" in hoy("run", "--rm", "-v", "dir:/m", "busybox", "touch", "/m/x", code=1).err
    hoy("volume", "rm", "dir")
    hoy("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/no/such", "dir")
    r = hoy("run", "--rm", "-v", "dir:/m", "busybox", "true", code=None)
    assert r.code != 0 and "/no/such" in r.err


def test_a_volume_that_is_a_disk(hoy, vol, tmp_path):
    image = tmp_path / "disk"
    with open(image, "wb") as f:
        f.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    loop = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=True).stdout.strip()
    try:
        vol("disk", "-o", "type=ext4", "-o", f"device={loop}", "-o", "o=noatime")
        hoy("run", "--rm", "-v", "disk:/m", "busybox", "sh", "-c", "echo kept >/m/f")
        assert hoy("run", "--rm", "-v", "disk:/m", "busybox", "cat", "/m/f").out == "kept\n"
        assert "ext4" in mount_line(hoy, "-v", "disk:/m") and "noatime" in mount_line(hoy, "-v", "disk:/m")
    finally:
        hoy.remove_all()
        subprocess.run(["losetup", "-d", loop], check=True)


def test_network_file_systems_that_this_kernel_lacks(hoy, vol):
    vol("remote", "-o", "type=nfs", "-o", "device=:/export", "-o", "o=addr=127.0.0.1,ro")
    if "nfs\n" not in open("/proc/filesystems", encoding="ascii").read():
        r = hoy("run", "--rm", "-v", "remote:/m", "busybox", "true", code=None)
        assert r.code != 0 and "nfs" in r.err
    vol("lost", "-o", "type=nfs", "-o", "device=:/export", "-o", "o=addr=no.such.host.invalid")
    r = hoy("run", "--rm", "-v", "lost:/m", "busybox", "true", code=None)
    assert r.code != 0 and "look up addr=no.such.host.invalid" in r.err
    vol("secret", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=password=hunter2")
    r = hoy("run", "--rm", "-v", "secret:/m", "busybox", "true", code=None)
    assert r.code != 0 and "hunter2" not in r.err and "password" in r.err


# ---- volumes of others ----

def test_volumes_from(hoy, vol, tmp_path):
    vol()
    (tmp_path / "f").write_text("bound\n")
    hoy("create", "--name", "src", "-v", "vol:/v", "-v", f"{tmp_path}:/b:ro", "-v", "/anon", "busybox", "true")
    hoy("run", "--rm", "--volumes-from", "src", "busybox", "sh", "-c", "touch /v/x /anon/y; cat /b/f")
    assert (data(hoy, "vol") / "x").exists()
    hoy("run", "--rm", "--volumes-from", "src", "busybox", "touch", "/b/x", code=1)
    hoy("run", "--rm", "--volumes-from", "src:ro", "busybox", "touch", "/v/x", code=1)
    out = hoy("run", "--rm", "--volumes-from", "src", "-v", f"{tmp_path}:/v", "busybox", "cat", "/v/f").out
    assert out == "bound\n"  # what is asked for itself stands above
    assert hoy("run", "--rm", "--volumes-from", "src", "busybox", "ls", "/anon").out == "y\n"  # --rm took nothing of src's
    assert "No such container: nosuch" in hoy("run", "--rm", "--volumes-from", "nosuch", "busybox", "true", code=125).err
    assert "invalid mode: O" in hoy("run", "--rm", "--volumes-from", "src:O", "busybox", "true", code=125).err
    hoy("rm", "-v", "src")


# ---- export and import ----

def test_export_is_reproducible_and_comes_back(hoy, vol, rich, tmp_path):
    look(hoy, "-v", "one:/rich", image=rich)
    subprocess.run(["setfattr", "-n", "user.note", "-v", "kept", data(hoy, "one") / "f"], check=True)
    for name in ("link", "pipe"):
        os.link(data(hoy, "one") / name, data(hoy, "one") / f"{name}-again", follow_symlinks=False)
    want = look(hoy, "-v", "one:/rich")
    for n in (1, 2):
        hoy("volume", "export", "-o", tmp_path / f"{n}.tar", "one")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    names = subprocess.run(["tar", "tf", tmp_path / "1.tar"], capture_output=True, text=True, check=True).stdout.split()
    assert "./" in names[0] and sorted(names[1:]) == names[1:]
    hoy("volume", "export", "--zstd", "-o", tmp_path / "one.tar.zst", "one")
    hoy("volume", "export", "--gzip", "-o", tmp_path / "one.tar.gz", "one")
    assert (tmp_path / "one.tar.zst").stat().st_size < (tmp_path / "1.tar").stat().st_size / 100
    for file in ("1.tar", "one.tar.zst", "one.tar.gz"):
        vol("two")
        hoy("volume", "import", "two", tmp_path / file)
        assert look(hoy, "-v", "two:/rich") == want
        note = subprocess.run(["getfattr", "--only-values", "-n", "user.note", data(hoy, "two") / "f"], capture_output=True,
                              text=True, check=True).stdout
        assert note == "kept"
        hoy("volume", "export", "-o", tmp_path / "again.tar", "two")
        assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()
        hoy("volume", "rm", "two")
    hoy("volume", "rm", "one")


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_import_of_what_others_compressed(hoy, vol, tmp_path, mode):
    vol()
    (tmp_path / "f").write_text("new")
    with tarfile.open(tmp_path / "t.tar", f"w:{mode}") as tar:
        tar.add(tmp_path / "f", "f")
    hoy("volume", "import", "vol", tmp_path / "t.tar")
    assert (data(hoy, "vol") / "f").read_text() == "new"


@pytest.mark.parametrize("how", ["--gzip", "--zstd"])
def test_a_volume_of_zeros_comes_back(hoy, vol, tmp_path, how):
    vol()
    with open(data(hoy, "vol") / "zeros", "wb") as f:
        f.truncate(300 << 20)
    hoy("volume", "export", how, "-o", tmp_path / "t", "vol")
    vol("vol2")
    hoy("volume", "import", "vol2", tmp_path / "t")
    st = (data(hoy, "vol2") / "zeros").stat()
    assert st.st_size == 300 << 20 and st.st_blocks < 64


def test_import_over_what_is_there(hoy, vol, tmp_path):
    vol()
    (data(hoy, "vol") / "d").mkdir()
    (data(hoy, "vol") / "d/stays").write_text("old")
    (data(hoy, "vol") / "d/f").write_text("old")
    (tmp_path / "t/d").mkdir(parents=True)
    (tmp_path / "t/d/f").write_text("new")
    subprocess.run(["tar", "cf", tmp_path / "t.tar", "-C", tmp_path / "t", "d"], check=True)
    with open(tmp_path / "t.tar", "rb") as f:
        subprocess.run([str(hoy.binary), "volume", "import", "vol"], stdin=f, env=hoy.env, check=True)
    assert (data(hoy, "vol") / "d/f").read_text() == "new" and (data(hoy, "vol") / "d/stays").read_text() == "old"
    whole = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(b"".join([whole[:512], b"garbage" * 100]))
    (tmp_path / "t/d/f").write_text("newer")
    hoy("volume", "import", "vol", tmp_path / "cut.tar", code=1)
    assert (data(hoy, "vol") / "d/f").read_text() == "new"
    assert os.listdir(hoy.root / "volumes/vol") == ["_data"]
    assert "no such volume" in hoy("volume", "import", "nosuch", tmp_path / "t.tar", code=1).err
    assert "no such volume" in hoy("volume", "export", "nosuch", code=1).err


# ---- races and crashes ----

def test_many_containers_make_and_fill_one_volume(hoy, rich):
    for _ in range(4):
        procs = [hoy.popen("run", "--rm", "-v", "race:/rich", rich, "sh", "-c",
                           "ls /rich | tr '\\n' ' '; stat -c %u:%g /rich", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                 for _ in range(6)]
        for p in procs:
            out, err = p.communicate(timeout=300)
            assert p.returncode == 0 and out == "d f link pipe sparse 12:34\n", err
        hoy("volume", "rm", "race")


def test_removal_and_use_do_not_meet(hoy, rich):
    """Whoever wins: no container without its volume, no half volume."""
    stop = threading.Event()

    def remove():
        while not stop.is_set():
            hoy.any("volume", "rm", "-f", "race")

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(15):
            out = hoy("run", "--rm", "-v", "race:/rich", rich, "ls", "/rich").out
            assert out.split() == ["d", "f", "link", "pipe", "sparse"]
    finally:
        stop.set()
        thread.join()
    hoy("volume", "rm", "-f", "race")


def test_kills_while_a_volume_is_filled(hoy, rich, seed=7):
    """Killed at any moment, the next use finds the volume whole."""
    delays = [0.0005 * n for n in range(1, 1 + int(os.environ.get("HOY_VOLUME_KILLS", "30")))]
    for n, delay in enumerate(delays):
        p = hoy.popen("create", "-v", "cut:/rich", "-v", "/anon", rich, "true", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay % 0.03)
        p.send_signal(signal.SIGKILL)
        p.wait()
        hoy.remove_all()
        assert all(len(v) != 64 for v in hoy("volume", "ls", "-q").out.split()), f"round {n}: an anonymous volume was left"
        out = hoy("run", "--rm", "-v", "cut:/rich", rich, "ls", "/rich").out
        assert out.split() == ["d", "f", "link", "pipe", "sparse"], f"round {n}"
        hoy("volume", "rm", "cut")
        assert os.listdir(hoy.root / "volumes") == [".work"] and os.listdir(hoy.root / "volumes/.work") == []
