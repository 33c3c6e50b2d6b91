"""Nothing of the package mixes devices: its tests pass on a second one, which every machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "analysis/test_importance.py": "vowels",
    "compress/test_masks.py": "vowels or surnames or moby",
    "compress/test_quantizers.py": "vowels or surnames or moby",
    "compress/test_resolve.py": "",
    "contract/test_samples_contract.py": "hundred or vowels",
    "evaluate/test_engine.py": "moby",
    "evaluate/test_custom.py": "variable",
    "export/test_export_bundle.py": "vowels",
    "structure/test_known_bad.py": "lstm or recurrent or reported or heads or averaged",
}


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_what_passes_on_the_cpu_passes_on_a_second_device(file: str) -> None:
    """Without what lazy tensors cannot do: recurrent layers, and views of weights in products."""
    without = f"not ({FILES[file]})" if FILES[file] else ""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.second_device", f"tests/{file}", "-k", without]
    environment = os.environ | {"EXPLORER_TEST_DEVICES": "lazy"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert ran.returncode == 0 and "[lazy" not in ran.stderr, ran.stdout[-5000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout.splitlines()[-1]
