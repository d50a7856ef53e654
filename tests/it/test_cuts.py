"""A short campaign of tests/power/cuts.py: power cuts at random moments leave what was confirmed whole."""
import os
import pathlib
import subprocess

import pytest

from conftest import BUILD, TOP

CUTS = int(os.environ.get("POWER_CUTS", "12"))


def test_power_cuts(tmp_path, registry):
    del registry  # only whether there is one
    if not pathlib.Path("/dev/fuse").exists():
        pytest.skip("needs /dev/fuse")
    r = subprocess.run(["/usr/bin/python3", TOP / "tests/power/cuts.py", str(CUTS), "--per-run", "12", "--seed", "7",
                        "--scratch", tmp_path], env=dict(os.environ, HOY_BUILD=str(BUILD)), capture_output=True, text=True,
                       timeout=900, check=False)
    assert r.returncode == 0 and f'"cuts": {CUTS}, "clean": {CUTS}' in r.stdout, r.stdout + r.stderr
