"""Health checks: of the image, of the flags, their state, their end; docker's rules."""
import json
import os
import signal
import time

import pytest

from conftest import until


def state(hoy, name):
    return json.loads(hoy("inspect", "-f", "{{json .State}}", name).out)


def health_of(hoy, name):
    return state(hoy, name).get("Health") or {}


def until_it_is(hoy, name, want):
    """Waits until the health is one of want; the whole State.Health then."""
    return until(lambda: (h := health_of(hoy, name)).get("Status") in want and h, tell=lambda: (want, health_of(hoy, name)))


def last(hoy, name):
    """The check that ended last."""
    return health_of(hoy, name)["Log"][-1]


def run(hoy, name, *args, image="busybox", cmd=("sleep", "100")):
    hoy("run", "-d", "--name", name, *args, image, *cmd)


def test_healthy_and_not(hoy):
    run(hoy, "web", "--health-cmd", "cat /ok; echo err >&2", "--health-interval", "100ms", "--health-retries", "2")
    assert hoy("ps", "--filter", "name=web", "--format", "{{.Status}}").out.startswith("Up ")
    health = until_it_is(hoy, "web", ["unhealthy", "healthy"])
    assert health["Status"] == "healthy", health  # the last command decides
    hoy("rm", "-f", "web")
    run(hoy, "web", "--health-cmd", "echo looking; test -e /ok", "--health-interval", "100ms", "--health-retries", "2")
    health = until_it_is(hoy, "web", ["unhealthy"])
    assert health["FailingStreak"] >= 2 and health["Log"][0]["ExitCode"] == 1 and health["Log"][0]["Output"] == "looking\n"
    assert hoy("ps", "--format", "{{.Status}}").out.strip().endswith("(unhealthy)")
    hoy("exec", "web", "touch", "/ok")
    health = until_it_is(hoy, "web", ["healthy"])
    assert health["FailingStreak"] == 0
    until(lambda: len(health_of(hoy, "web")["Log"]) == 5)
    before = last(hoy, "web")
    until(lambda: last(hoy, "web") != before)
    assert len(health_of(hoy, "web")["Log"]) == 5
    assert hoy("ps", "--filter", "health=healthy", "--format", "{{.Names}} {{.Status}}").out.strip().endswith("(healthy)")
    assert hoy("ps", "--filter", "health=none", "-q").out == hoy("ps", "--filter", "health=unhealthy", "-q").out == ""
    hoy("stop", "-t", "0", "web")
    health = state(hoy, "web")["Health"]
    assert health["Status"] == "unhealthy" and len(health["Log"]) == 5  # as docker leaves it
    assert "healthy" not in hoy("ps", "-a", "--format", "{{.Status}}").out
    hoy("start", "web")
    until_it_is(hoy, "web", ["starting", "healthy"])
    hoy("rm", "-f", "web")


def test_what_takes_too_long_is_killed(hoy):
    run(hoy, "slow", "--health-cmd", "echo begun; exec sleep 1234", "--health-interval", "100ms", "--health-timeout", "300ms",
        "--health-retries", "1")
    health = until_it_is(hoy, "slow", ["unhealthy"])
    assert health["Log"][0]["ExitCode"] == -1
    words = "Health check exceeded timeout (300ms)"
    assert health["Log"][0]["Output"].startswith(words)
    until(lambda: words + ": begun\n" in [x["Output"] for x in health_of(hoy, "slow")["Log"]])  # it may not come so far in time
    hoy("pause", "slow")
    before, now = None, last(hoy, "slow")
    for _ in range(3):  # what was asked before ends meanwhile
        time.sleep(1)
        before, now = now, last(hoy, "slow")
        if before == now:
            break
    assert before == now  # what is frozen is not asked
    hoy("unpause", "slow")
    until(lambda: last(hoy, "slow") != before)
    until(lambda: len([x for x in hoy("top", "slow").out.splitlines() if "sleep 1234" in x]) <= 1)
    hoy("rm", "-f", "slow")


def test_the_start_period(hoy):
    run(hoy, "late", "--health-cmd", "test -e /ok", "--health-interval", "60s", "--health-retries", "1", "--health-start-period", "60s",
        "--health-start-interval", "100ms")
    health = until(lambda: len(health_of(hoy, "late")["Log"]) >= 2 and health_of(hoy, "late"))
    assert health["Status"] == "starting" and health["FailingStreak"] == 0
    assert hoy("ps", "--format", "{{.Status}}").out.strip().endswith("(health: starting)")
    hoy("exec", "late", "touch", "/ok")
    health = until_it_is(hoy, "late", ["healthy"])
    n = len(health["Log"])
    time.sleep(0.5)
    assert len(state(hoy, "late")["Health"]["Log"]) == n  # every minute from now on
    hoy("rm", "-f", "late")


def test_of_the_image(hoy, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox\nHEALTHCHECK --interval=100ms --retries=1 CMD test -e /ok\n")
    hoy("build", "-q", "-t", "checked", tmp_path)
    run(hoy, "mine", image="checked")
    assert until_it_is(hoy, "mine", ["unhealthy"])["Log"][0]["ExitCode"] == 1
    config = json.loads(hoy("inspect", "-f", "{{json .Config.Healthcheck}}", "mine").out)
    assert config == {"Test": ["CMD-SHELL", "test -e /ok"], "Interval": 100000000, "Retries": 1}
    run(hoy, "other", "--health-cmd", "true", image="checked")
    until_it_is(hoy, "other", ["healthy"])
    run(hoy, "none", "--no-healthcheck", image="checked")
    assert "Health" not in state(hoy, "none")
    (tmp_path / "Dockerfile").write_text('FROM checked\nHEALTHCHECK CMD ["/bin/busybox", "false"]\n')
    hoy("build", "-q", "-t", "direct", tmp_path)
    run(hoy, "direct", "--health-interval", "100ms", "--health-retries", "1", image="direct")
    assert until_it_is(hoy, "direct", ["unhealthy"])["Log"][0]["ExitCode"] == 1
    hoy("rm", "-f", "mine", "other", "none", "direct")
    hoy("rmi", "checked", "direct")


def test_what_cannot_be_run(hoy):
    for name, args in (("gone", ["--health-cmd", "exit 0", "--user", "0"]), ("big", ["--health-cmd", "yes | head -c 100000; exit 1"]),
                       ("bytes", ["--health-cmd", r"printf 'a\377b\000c'; exit 3"])):
        run(hoy, name, *args, "--health-interval", "100ms", "--health-retries", "1")
    hoy("exec", "gone", "rm", "/bin/sh")
    health = until_it_is(hoy, "gone", ["unhealthy"])
    assert health["Log"][-1]["ExitCode"] == -1 and "/bin/sh" in health["Log"][-1]["Output"]
    assert len(until_it_is(hoy, "big", ["unhealthy"])["Log"][0]["Output"]) == 4096
    log = until_it_is(hoy, "bytes", ["unhealthy"])["Log"][0]
    assert log["ExitCode"] == 3 and log["Output"].startswith("a?b")
    hoy("rm", "-f", "gone", "big", "bytes")


def test_a_check_dies_with_its_container(hoy):
    """It ends while a check runs; restarts begin anew."""
    run(hoy, "brief", "--health-cmd", "sleep 50", "--health-interval", "50ms", cmd=("sleep", "0.5"))
    assert hoy("wait", "brief").out == "0\n"
    assert state(hoy, "brief")["Health"]["Status"] == "unhealthy"
    hoy("rm", "brief")
    script = "echo >>/begun; n=$(wc -l </begun); while ! [ -e /end$n ]; do sleep 0.05; done; exit 3"
    run(hoy, "again", "--restart", "on-failure:2", "--health-cmd", "[ -e /good$(wc -l </begun) ]", "--health-interval", "50ms",
        "--health-start-period", "10m", "--health-start-interval", "50ms", cmd=("sh", "-c", script))
    for n in ("1", "2", "3"):
        until(lambda: hoy.any("exec", "again", "wc", "-l", "/begun").out == f"{n} /begun\n")
        until_it_is(hoy, "again", ["starting"])
        hoy("exec", "again", "touch", f"/good{n}")
        until_it_is(hoy, "again", ["healthy"])
        hoy("exec", "again", "touch", f"/end{n}")
    assert hoy("wait", "again").out == "3\n"
    hoy("rm", "-f", "again")


def children(pid):
    """Processes whose parent is pid, while there is one."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(p) for p in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def test_what_a_killed_check_leaves_is_reaped(hoy):
    """Its process comes to the keeper; were it not reaped, the kernel would not let the container end."""
    run(hoy, "orphan", "--health-cmd", "sleep 51", "--health-interval", "50ms", "--health-timeout", "60s")
    pids = state(hoy, "orphan")["Pid"], json.loads((next(hoy.run_dir.glob("*/status"))).read_text())["Keeper"]
    check = until(lambda: next((p for p in children(pids[1]) if p != pids[0] and children(p)), None))
    os.kill(check, signal.SIGKILL)
    hoy("exec", "orphan", "killall", "-KILL", "sleep", code=None)
    hoy("rm", "-f", "orphan", timeout=60)


@pytest.mark.parametrize("args,words", [
    (["--health-interval", "-1s"], "cannot be negative"), (["--health-interval", "1us"], "cannot be less than 1ms"),
    (["--health-retries", "-1"], "cannot be negative"), (["--health-timeout", "soon"], "health-timeout"),
    (["--no-healthcheck", "--health-cmd", "true"], "--no-healthcheck conflicts with --health-* options"),
])
def test_bad_flags(hoy, args, words):
    assert words in hoy("run", *args, "busybox", "true", code=125).err


def test_with_rm(hoy):
    run(hoy, "rm", "--rm", "--health-cmd", "true", "--health-interval", "50ms")
    until_it_is(hoy, "rm", ["healthy"])
    hoy("stop", "-t", "0", "rm")
    until(lambda: hoy("ps", "-aq").out == "")
