"""What the launcher sees to before anything heavy is loaded."""

from __future__ import annotations

import os
import platform
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


ARENAS = """
import ctypes, sys, threading
from explorer.ui.server import few_arenas
told = len(sys.argv) > 1 and few_arenas()
wait = threading.Barrier(20)
def work():
    held = [bytearray(20_000) for _ in range(50)]
    wait.wait()
threads = [threading.Thread(target=work) for _ in range(20)]
[one.start() for one in threads]
[one.join() for one in threads]
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = libc.fdopen(1, b"w")
libc.malloc_info(0, ctypes.c_void_p(out))
libc.fflush(ctypes.c_void_p(out))
print(told, file=sys.stderr)
"""


GLIBC = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is told how much it may hold"
)
HOLES = """
from explorer.ui.server import trim
def held():
    return int(open("/proc/self/statm", encoding="utf-8").read().split()[1]) * 4096 // 2**20
kept = [bytearray(b"1" * 100_000) for _ in range(2000)]
del kept[:-1:2]
before = held()
trim()
print(before - held())
"""


@GLIBC
def test_threads_share_few_arenas_unless_one_chose_otherwise() -> None:
    free = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}

    def arenas(*arguments: str, **chosen: str) -> tuple[int, str]:
        command = [sys.executable, "-c", ARENAS, *arguments]
        found = subprocess.run(command, cwd=ROOT, env=free | chosen, capture_output=True, text=True, timeout=120)
        return found.stdout.count("<heap nr="), found.stderr.strip()

    assert arenas()[0] > 2
    found, told = arenas("few")
    assert found <= 2 and told == "True"
    assert arenas("few", MALLOC_ARENA_MAX="3") == (3, "False")


@GLIBC
def test_holes_between_what_is_kept_are_given_back() -> None:
    found = subprocess.run([sys.executable, "-c", HOLES], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert int(found.stdout) > 50, found.stderr[-500:]
