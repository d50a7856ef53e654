"""Short campaigns of tests/power: power cuts, killed machines, full disks, a kill at system calls. Long ones: docs/durability.md."""
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import BUILD, TOP, calm_census, check_census

CUTS = int(os.environ.get("POWER_CUTS", "10"))


def campaign(script, *args):
    """Runs one; its last line."""
    r = subprocess.run(["/usr/bin/python3", TOP / "tests/power" / script, *map(str, args)], env=dict(os.environ, HOY_BUILD=str(BUILD)),
                       capture_output=True, text=True, timeout=3600, check=False)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout.splitlines()[-1]


@pytest.fixture(autouse=True)
def nothing_left():
    """All of them pull, and leave the host as it was."""
    if not shutil.which("docker-registry"):
        pytest.skip("needs docker-registry")
    before = calm_census()
    yield
    check_census(before)


def test_power_cuts(tmp_path):
    if not pathlib.Path("/dev/fuse").exists():
        pytest.skip("needs /dev/fuse")
    assert f'"cuts": {CUTS}, "clean": {CUTS}' in campaign("cuts.py", CUTS, "--per-run", 10, "--seed", 7, "--scratch", tmp_path)


def test_killed_machines():
    if not shutil.which("linux.uml"):
        pytest.skip("needs user-mode-linux")
    assert '"kills": 2, "clean": 2' in campaign("guests.py", 2, "--seed", 3)


def test_full_disks(tmp_path):
    assert campaign("full.py", 3, "--scratch", tmp_path).endswith(" 0 wrong")


def test_kills_at_system_calls(tmp_path):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    assert campaign("kills.py", "--every", 30, "--scratch", tmp_path).endswith(" 0 wrong")
