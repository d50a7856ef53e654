"""hoy build: the Dockerfile language in depth, one property a test."""
import io
import json
import os
import signal
import subprocess
import tarfile
import time

import pytest

from test_build import config, make


def built(hoy, path, dockerfile, *args, files=None, **env):
    """Builds a context; the name of the image."""
    for name, text in (files or {}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    make(path, dockerfile)
    hoy("build", "-t", "lang", *args, path, env=env)
    return "lang"


def sh(hoy, script, *args):
    """Output of a shell in the image."""
    return hoy("run", "--rm", "--network", "none", "-u", "0", *args, "--entrypoint", "sh", "lang", "-c", script).out


def archive(path, mode, **files):
    """A tar with these files."""
    with tarfile.open(path, mode) as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size, info.mode, info.uid = len(text), 0o640, 7
            tar.addfile(info, io.BytesIO(text.encode()))


def test_archives_follow_links_of_the_image(hoy, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind, link in (("lib", tarfile.DIRTYPE, ""), ("lib/f", tarfile.REGTYPE, ""), ("h", tarfile.LNKTYPE, "lib/f"),
                                 ("new", tarfile.SYMTYPE, "usr"), ("new/g", tarfile.REGTYPE, "")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o755
            tar.addfile(info)
    built(hoy, tmp_path, "FROM busybox\nRUN mkdir -p /usr/lib && ln -s usr/lib /lib\nADD x.tar /\n")
    assert sh(hoy, "readlink /lib; readlink /new; ls /usr/lib/f /h; ls /usr") == "usr/lib\nusr\n/h\n/usr/lib/f\ng\nlib\n"


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_add_unpacks_archives(hoy, tmp_path, mode):
    archive(tmp_path / "x.bin", mode, d__f="hello")
    built(hoy, tmp_path, "FROM busybox\nADD x.bin plain /t/\nCOPY x.bin /kept\n", files={"plain": "p"})
    assert sh(hoy, "cat /t/d/f /t/plain; stat -c '%u %a' /t/d/f; test -s /kept && ls /t") == "hellop7 640\nd\nplain\n"


def test_copy_through_links_of_the_image(hoy, tmp_path):
    built(hoy, tmp_path, "FROM busybox\nRUN mkdir -m 711 /real && ln -s /real /link && ln -s real/sub /two\n"
                         "COPY f /link/\nCOPY tree /\nCOPY f /two/x\n", files={"f": "F", "tree/link/g": "G"})
    assert sh(hoy, "readlink /link; ls /real /real/sub; stat -c %a /real") == "/real\n/real:\nf\ng\nsub\n\n/real/sub:\nx\n711\n"


def test_parents_keep_their_modes(hoy, tmp_path):
    built(hoy, tmp_path, "FROM busybox\nCOPY --chown=7:8 f /tmp/new/dir/f\n", files={"f": "F"})
    assert sh(hoy, "stat -c '%a %u:%g' /tmp /tmp/new /tmp/new/dir/f") == "1777 0:0\n755 7:8\n644 7:8\n"


def test_owners_by_name_and_modes_by_letter(hoy, tmp_path):
    built(hoy, tmp_path, "FROM busybox\nCOPY --chown=worker:extra --chmod=u=rwX,go=rX d /d\nCOPY --chown=9 f /f\n",
          files={"d/x": "", "f": ""})
    assert sh(hoy, "stat -c '%n %u:%g %a' /d /d/x /f") == "/d 1000:2000 755\n/d/x 1000:2000 644\n/f 9:9 644\n"


def test_links_and_wildcards(hoy, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/target").write_text("T")
    os.symlink("target", tmp_path / "d/link")
    os.symlink("d/target", tmp_path / "outer")
    os.symlink("../../../../etc/passwd", tmp_path / "escape")
    (tmp_path / "a[1].txt").write_text("1")
    built(hoy, tmp_path, "FROM busybox\nCOPY d /d\nCOPY outer /outer\nCOPY d/t* a[[]1].* /w/\nCOPY none* f /o/\n", files={"f": ""})
    assert sh(hoy, "readlink /d/link; cat /outer; ls /w /o; test -L /outer || echo file") == \
        "target\nT/o:\nf\n\n/w:\na[1].txt\ntarget\nfile\n"
    make(tmp_path, "FROM busybox\nCOPY escape /\n")
    assert '"/escape": not found' in hoy("build", tmp_path, code=1).err


def test_heredocs(hoy, tmp_path):
    built(hoy, tmp_path, 'FROM busybox\nARG W=world\nCOPY <<A <<"B" /h/\nhello $W\nA\nhello $W\nB\n'
                         "RUN <<EOF\n#!/bin/sh\necho $0 > /who\nEOF\nRUN cat <<X > /x && echo more >> /x\nx\nX\n"
                         "RUN <<-T\n\techo tab > /tab\n\tT\n")
    assert sh(hoy, "cat /h/A /h/B /who /x /tab; ls /dev/pipes 2>/dev/null; true") == \
        "hello world\nhello $W\n/dev/pipes/EOF\nx\nmore\ntab\n"


def test_arg_and_env(hoy, tmp_path):
    text = ("ARG G=glob\nARG V=busybox\nFROM $V\nARG G\nARG N\nARG D=def\nENV E=env\nARG E=arg\nENV C=${D}-$E\n"
            "ARG TARGETARCH\nRUN echo $G,$N,$D,$E,$C,$http_proxy,$TARGETARCH > /out\n")
    built(hoy, tmp_path, text, "--build-arg", "N=n", "--build-arg", "http_proxy=p")
    assert sh(hoy, "cat /out") == "glob,n,def,env,def-env,p,amd64\n"
    assert not any(v.startswith(("G=", "N=", "D=", "http_proxy")) for v in config(hoy, "lang")["Env"])
    r = hoy("build", "--build-arg", "NOPE=1", tmp_path)
    assert "[NOPE] were not consumed" in r.err


def test_workdir_belongs_to_the_user(hoy, tmp_path):
    built(hoy, tmp_path, "FROM busybox\nUSER worker\nWORKDIR /a/b\nWORKDIR c\nRUN pwd > here && id -un >> here\n")
    assert sh(hoy, "cat here; stat -c %u /a/b/c") == "/a/b/c\nworker\n1000\n"


def test_onbuild_runs_in_the_child_only(hoy, tmp_path):
    make(tmp_path, "FROM busybox\nONBUILD COPY f /\nONBUILD RUN echo triggered > /t\n", f="F")
    hoy("build", "-t", "parent", tmp_path)
    built(hoy, tmp_path, "FROM parent\nRUN cat /t /f > /both\n")
    assert sh(hoy, "cat /both") == "triggered\nF"
    assert not config(hoy, "lang").get("OnBuild")
    hoy("rmi", "parent")


def test_mounts_leave_nothing(hoy, tmp_path):
    built(hoy, tmp_path, "FROM busybox\nRUN --mount=type=cache,target=/c echo 1 >> /c/n\n"
                         "RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t echo x > /t/x && cp /c/n /seen\n")
    assert sh(hoy, "cat /seen; ls -d /c /t 2>/dev/null; true").strip() == "1"


def test_bind_mounts(hoy, tmp_path):
    text = ("FROM busybox AS tools\nRUN mkdir /t && echo tool > /t/x\nFROM busybox\nWORKDIR /w\n"
            "RUN --mount=type=bind,target=/ctx --mount=source=f,target=g --mount=from=tools,source=/t,target=/t "
            "ls /ctx > /seen; cat g /t/x >> /seen; touch /ctx/new 2>/dev/null || echo ro >> /seen\n")
    built(hoy, tmp_path, text, files={"f": "F\n", "drop": "", ".dockerignore": "drop\nDockerfile\n"})
    assert sh(hoy, "cat /seen; ls /w /ctx /t 2>/dev/null; true") == "f\nF\ntool\nro\n/w:\n"
    assert hoy("build", tmp_path).err.count("CACHED") == 3
    (tmp_path / "f").write_text("G\n")
    assert hoy("build", tmp_path).err.count("CACHED") == 2
    assert not list((hoy.root / "tmp").iterdir())


def test_secrets(hoy, tmp_path):
    text = ("FROM busybox\nRUN --mount=type=secret,id=s,required cat /run/secrets/s > /n && stat -c %a /run/secrets/s >> /n\n"
            "RUN --mount=type=secret,id=e,env=TOKEN test $TOKEN = tok\nRUN test -z \"$TOKEN\" && ls -d /run 2>/dev/null || echo gone >> /n\n")
    (tmp_path / "key").write_text("hush\n")
    make(tmp_path, text)
    assert "secret s: not found" in hoy("build", tmp_path, code=1).err
    hoy("build", "-t", "lang", "--secret", f"id=s,src={tmp_path}/key", "--secret", "id=e,env=TOK", tmp_path, env={"TOK": "tok"})
    assert sh(hoy, "cat /n") == "hush\n400\ngone\n"
    assert "hush" not in json.dumps(json.loads(hoy("inspect", "lang").out)) + hoy("history", "--no-trunc", "lang").out


def test_run_without_network(hoy, tmp_path):
    built(hoy, tmp_path, "FROM busybox\nRUN --network=none ls /sys/class/net > /n\n")
    assert sh(hoy, "cat /n") == "lo\n"


def test_entrypoint_clears_the_command_of_the_base(hoy, tmp_path):
    built(hoy, tmp_path, 'FROM busybox AS b\nCMD ["x"]\nFROM b\nENTRYPOINT ["y"]\n')
    assert not config(hoy, "lang").get("Cmd")
    built(hoy, tmp_path, 'FROM busybox\nSHELL ["/bin/sh", "-ec"]\nCMD x y\nENTRYPOINT ["z"]\n'
                         "HEALTHCHECK --interval=3s --retries=2 CMD true\n")
    c = config(hoy, "lang")
    assert c["Cmd"] == ["/bin/sh", "-ec", "x y"] and c["Healthcheck"]["Interval"] == 3_000_000_000
    assert c["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]


def test_dockerfile_elsewhere_and_its_ignore_file(hoy, tmp_path):
    (tmp_path / "ctx").mkdir()
    for name in "abc":
        (tmp_path / "ctx" / name).write_text(name)
    (tmp_path / "ctx/.dockerignore").write_text("a\n")
    (tmp_path / "D").write_text("FROM busybox\nCOPY . /c\n")
    (tmp_path / "D.dockerignore").write_text("b\n")
    hoy("build", "-t", "lang", "-f", tmp_path / "D", tmp_path / "ctx")
    assert sh(hoy, "ls /c") == ".dockerignore\na\nc\n" or sh(hoy, "ls -A /c") == ".dockerignore\na\nc\n"
    hoy("build", "-t", "lang", "-f", "-", tmp_path / "ctx", stdin="FROM busybox\nCOPY . /c\n")
    assert sh(hoy, "ls /c") == "b\nc\n"


def test_copy_from_an_image_and_the_same_content_joins_the_cache(hoy, tmp_path):
    text = "FROM busybox AS a\nARG X\nRUN echo $X >/dev/null; echo same > /f\nFROM busybox\nCOPY --from=a /f /f\nRUN cp /f /g\n" \
           "COPY --from=busybox /etc/group /group\n"
    built(hoy, tmp_path, text, "--build-arg", "X=1")
    r = hoy("build", "--build-arg", "X=2", tmp_path)
    assert r.err.count("CACHED") == 3
    assert "root" in sh(hoy, "cat /group")


def test_times_are_no_input_but_modes_are(hoy, tmp_path):
    make(tmp_path, "FROM busybox\nCOPY f /\n", f="F")
    one = hoy("build", "-q", tmp_path).out
    os.utime(tmp_path / "f", (1, 1))
    assert hoy("build", "-q", "--no-cache", tmp_path).out == one
    (tmp_path / "f").chmod(0o755)
    assert hoy("build", "-q", tmp_path).out != one


def test_source_date_epoch(hoy, tmp_path):
    make(tmp_path, "FROM busybox\nRUN echo $SOURCE_DATE_EPOCH > /e\n")
    hoy("build", "-t", "lang", tmp_path, env={"SOURCE_DATE_EPOCH": "1000000000"})
    assert sh(hoy, "cat /e") == "1000000000\n"
    assert json.loads(hoy("inspect", "lang").out)[0]["Created"].startswith("2001-09-09T01:46:40")


def test_labels_tags_and_iidfile(hoy, tmp_path):
    make(tmp_path, 'FROM busybox\nLABEL a="b c" "d e"=f\n')
    hoy("build", "-t", "lang", "-t", "lang2:x", "--label", "g=h", "--iidfile", tmp_path / "id", tmp_path)
    assert config(hoy, "lang")["Labels"] == {"a": "b c", "d e": "f", "g": "h"}
    ids = {json.loads(hoy("inspect", n).out)[0]["Id"] for n in ("lang", "lang2:x")}
    assert ids == {(tmp_path / "id").read_text()}
    hoy("rmi", "lang2:x")


@pytest.mark.parametrize("text,want", [
    ("FROM busybox\nADD http://x/y /\n", "ADD of a URL is not supported"),
    ("FROM busybox\nRUN --mount=type=ssh true\n", "type=ssh is not supported"),
    ("FROM busybox\nCOPY --parents a /\n", "--parents is not supported"),
    ("FROM busybox\nCOPY a b /t\n", "must be a directory and end with a /"),
    ("FROM busybox\nCOPY --chmod=999 f /\n", "invalid chmod"),
    ("FROM busybox\nCOPY --chown=nobody1 f /\n", "nobody1"),
    ("FROM busybox\nENV A=\"${B:?not set}\"\n", "B: not set"),
    ("FROM busybox\nENV A=${B\n", "Dockerfile:2"),
    ("FROM ${NOTHING}\n", "should not be blank"),
    ("FROM busybox AS 1x\n", "invalid name for build stage"),
    ("FROM busybox\nONBUILD FROM x\n", "isn't allowed as an ONBUILD trigger"),
    ("FROM busybox\nRUN [\"/nosuch\"]\n", "/nosuch"),
    ("FROM busybox\nUSER nosuchuser\nRUN true\n", "nosuchuser"),
    ("FROM busybox\nHEALTHCHECK --interval=1ns CMD x\n", "less than 1ms"),
    ("FROM busybox\nSHELL sh\n", "JSON form"),
])
def test_more_errors_tell_the_place(hoy, tmp_path, text, want):
    make(tmp_path, text, f="F", a="", b="")
    r = hoy("build", tmp_path, code=1)
    assert want in r.err and "Dockerfile:" in r.err, r


def test_from_scratch(hoy, tmp_path):
    built(hoy, tmp_path, "FROM scratch\nCOPY --from=busybox /bin /bin\nRUN echo made > /made\nRUN [\"/bin/sh\", \"-c\", \"rm /made\"]\n")
    assert sh(hoy, "ls -A / | grep -v -e dev -e proc -e sys -e etc -e .dockerenv") == "bin\n"
    hoy("save", "-o", tmp_path / "i.tar", "lang")
    names = []
    with tarfile.open(tmp_path / "i.tar") as outer:
        for m in outer.getmembers():
            if m.isfile():
                try:
                    names += tarfile.open(fileobj=io.BytesIO(outer.extractfile(m).read())).getnames()
                except tarfile.TarError:
                    pass
    assert set(n for n in names if not n.startswith("bin")) == {"made", ".wh.made"}


def test_platform_of_the_base(hoy, tmp_path):
    make(tmp_path, "FROM --platform=$BUILDPLATFORM busybox\n")
    hoy("build", tmp_path)
    make(tmp_path, "FROM --platform=linux/s390x busybox\n")
    hoy("build", tmp_path, code=1)


def test_prune(fresh_hoy, busybox_tar, tmp_path):
    fresh_hoy("import", busybox_tar, "busybox")
    make(tmp_path, "FROM busybox\nRUN --mount=type=cache,target=/c dd if=/dev/urandom of=/f bs=1024 count=1024\n")
    image = fresh_hoy("build", "-q", tmp_path).out.strip()
    fresh_hoy("rmi", image)
    assert fresh_hoy("build", tmp_path).err.count("CACHED") == 1
    fresh_hoy("rmi", image)
    assert "MB" in fresh_hoy("builder", "prune", "-f").out
    assert not list((fresh_hoy.root / "cache").iterdir()) and len(list((fresh_hoy.root / "layers").iterdir())) == 1
    assert fresh_hoy("build", tmp_path).err.count("CACHED") == 0


def test_an_interrupted_build_ends_at_once(hoy, tmp_path):
    make(tmp_path, "FROM busybox\nRUN echo up; sleep 60\n")
    p = hoy.popen("build", tmp_path, stderr=subprocess.PIPE)
    for line in p.stderr:
        if " up" in line and "RUN" not in line:
            break
    p.send_signal(signal.SIGINT)
    begun = time.monotonic()
    assert "the build was cancelled" in p.stderr.read() and p.wait() == 1 and time.monotonic() - begun < 50
    assert [f for f in os.listdir(hoy.run_dir) if len(f) == 64] == [] == os.listdir(hoy.root / "tmp")


def test_exclude(hoy, tmp_path):
    built(hoy, tmp_path, "FROM busybox\nCOPY --exclude=*.md --exclude=sub --exclude=!sub/keep d x.md y /t/\nCOPY --exclude=d . /u\n",
          files={"d/a": "", "d/b.md": "", "d/sub/x": "", "d/sub/keep": "", "x.md": "", "y": ""})
    assert sh(hoy, "cd /t && find . -type f | sort; ls /u") == "./a\n./sub/keep\n./y\nDockerfile\nx.md\ny\n"


def test_wrong_target(hoy, tmp_path):
    make(tmp_path, "FROM busybox AS one\n")
    assert 'target stage "two" could not be found' in hoy("build", "--target", "two", tmp_path, code=1).err


def test_stages_run_side_by_side(hoy, tmp_path):
    """Each waits until the other one is there: one after the other they would never end."""
    meet = ("RUN --mount=type=cache,target=/m echo > /m/{0}; for i in $(seq 600); do [ -e /m/{1} ] && exec sh -c 'echo {0} > /{0}'; sleep 0.1; done;"
            " exit 1\n")
    make(tmp_path, "FROM busybox AS a\n" + meet.format("a", "b") + "FROM busybox AS b\n" + meet.format("b", "a") +
         "FROM busybox AS unneeded\nRUN false\nFROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n")
    hoy("build", "-t", "lang", tmp_path)
    assert sh(hoy, "cat /a /b") == "a\nb\n"


def test_a_failing_stage_stops_the_others(hoy, tmp_path):
    make(tmp_path, "FROM busybox AS a\nRUN sleep 1000\nFROM busybox AS b\nRUN sleep 0.3; exit 7\n"
                   "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n")
    begun = time.monotonic()
    r = hoy("build", tmp_path, code=1)
    assert time.monotonic() - begun < 100 and "exit code: 7" in r.err and "Dockerfile:4" in r.err, r
