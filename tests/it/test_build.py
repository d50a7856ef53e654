"""hoy build: instructions, cache, reproducible digests, errors."""
import json

import pytest


def make(path, dockerfile, **files):
    """A context directory."""
    for name, text in files.items():
        (path / name).write_text(text)
    (path / "Dockerfile").write_text(dockerfile)
    return path


def config(hoy, name):
    """The Config part of an image's inspect object."""
    return json.loads(hoy("inspect", name).out)[0]["Config"]


EVERYTHING = """# syntax=docker/dockerfile:1
ARG BASE=busybox
FROM $BASE AS tools
RUN echo built > /made
FROM $BASE
ARG WHO=world
ENV GREETING="hello $WHO" LEVEL=${LEVEL:-3}
LABEL org.example.who=$WHO
WORKDIR /srv/app
COPY --from=tools /made .
COPY --chown=1000:1000 --chmod=640 a b ./files/
RUN <<EOF
echo "$GREETING" > greeting
id -u > who
EOF
RUN ["/bin/sh", "-c", "test -f files/a"]
USER worker
EXPOSE 8080/udp 80
VOLUME /data
STOPSIGNAL SIGINT
ENTRYPOINT ["cat"]
CMD ["greeting"]
"""


def test_everything_at_once(hoy, tmp_path):
    make(tmp_path, EVERYTHING, a="A", b="B")
    hoy("build", "-t", "every", "--build-arg", "WHO=you", tmp_path)
    assert hoy("run", "--rm", "every").out == "hello you\n"
    assert hoy("run", "--rm", "every", "/srv/app/made", "who").out == "built\n0\n"
    out = hoy("run", "--rm", "-u", "0", "--entrypoint", "stat", "every", "-c", "%u:%g %a", "files/a").out
    assert out == "1000:1000 640\n"
    c = config(hoy, "every")
    assert c["User"] == "worker" and c["WorkingDir"] == "/srv/app" and c["StopSignal"] == "SIGINT"
    assert set(c["ExposedPorts"]) == {"8080/udp", "80/tcp"} and set(c["Volumes"]) == {"/data"}
    assert c["Labels"]["org.example.who"] == "you" and "LEVEL=3" in c["Env"]


def test_second_build_is_cached_and_the_digest_is_the_same(hoy, tmp_path):
    make(tmp_path, "FROM busybox\nCOPY a /\nRUN cp /a /b\n", a="A")
    one = hoy("build", "-q", tmp_path).out
    r = hoy("build", tmp_path)
    assert (r.out + r.err).count("CACHED") == 2
    assert hoy("build", "-q", tmp_path).out == one
    assert hoy("build", "-q", "--no-cache", tmp_path).out == one
    (tmp_path / "a").write_text("changed")
    assert hoy("build", "-q", tmp_path).out != one


def test_dockerignore(hoy, tmp_path):
    make(tmp_path, "FROM busybox\nCOPY . /ctx\n", keep="k", drop="d")
    (tmp_path / ".dockerignore").write_text("*\n!keep\n")
    hoy("build", "-t", "ign", tmp_path)
    assert hoy("run", "--rm", "ign", "ls", "/ctx").out == "keep\n"


def test_target_and_scratch(hoy, tmp_path):
    make(tmp_path, "FROM busybox AS one\nRUN echo 1 > /n\nFROM scratch AS two\nCOPY --from=one /n /n\n"
                   "FROM busybox\nRUN exit 9\n")
    hoy("build", "--target", "two", "-t", "two", tmp_path)
    assert len(json.loads(hoy("inspect", "two").out)[0]["RootFS"]["Layers"]) == 1


def test_nothing_of_the_build_stays_in_the_image(hoy, tmp_path):
    make(tmp_path, "FROM busybox\nRUN echo nameserver >> /etc/resolv.conf || true\nRUN true\n")
    hoy("build", "-t", "clean", tmp_path)
    hoy("save", "-o", tmp_path / "i.tar", "clean")
    out = hoy("run", "--rm", "--network", "none", "clean", "ls", "/etc").out.split()
    assert set(out) <= {"group", "passwd", "hosts", "hostname", "resolv.conf", "mtab"}


@pytest.mark.parametrize("text,want", [
    ("FROM busybox\nRNU true\n", "Dockerfile:2"),
    ("FROM busybox\nCOPY missing /\n", "missing"),
    ("FROM busybox\nRUN exit 3\n", "exit code: 3"),
    ("RUN true\n", "FROM"),
    ("", "empty"),
    ("FROM\n", "Dockerfile:1"),
    ("FROM busybox\nCOPY --from=nosuch /a /b\n", "nosuch"),
    ("FROM busybox\nCMD [\"unclosed\n", "Dockerfile:2"),
    ("FROM busybox\nENV\n", "Dockerfile:2"),
    ("FROM busybox\nEXPOSE 99999\n", "99999"),
    ("FROM busybox\nCOPY ../x /\n", "x"),
    ("FROM busybox\nRUN <<EOF\nnever ends\n", "EOF"),
    ("FROM busybox\nCOPY --nosuch=1 a b\n", "nosuch"),
    ("FROM busybox\nENTRYPOINT\nSTOPSIGNAL SIGNOPE\n", "Dockerfile"),
])
def test_errors_tell_the_place(hoy, tmp_path, text, want):
    make(tmp_path, text)
    before = hoy("images", "-aq").out
    r = hoy("build", "-t", "broken", tmp_path, code=1)
    assert want in r.err, r
    assert hoy("images", "-aq").out == before
