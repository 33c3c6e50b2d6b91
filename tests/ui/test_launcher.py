"""What the launcher sees to before anything heavy is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPY = """
import os, runpy, sys
seen = []
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            seen.append(os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Spy())
sys.argv = ["app.py"]
runpy.run_path("app.py")
import torch
print(seen[0])
"""


@pytest.mark.parametrize(("chosen", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_sleep_unless_one_chose_otherwise(chosen: str | None, expected: str) -> None:
    given = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    given |= {"OMP_WAIT_POLICY": chosen} if chosen else {}
    found = subprocess.run(
        [sys.executable, "-c", SPY], cwd=ROOT, env=given, capture_output=True, text=True, timeout=120
    )
    assert found.stdout.split() == [expected], found.stderr[-500:]
