"""Imports go one way, the package is light, and its packages that are functions stay so in every order."""

from __future__ import annotations

import ast
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

import explorer

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "numpy", "pandas", "streamlit", "plotly", "onnx", "onnxruntime", "netron")
CALLABLE = ("compress", "evaluate", "export")


def run(code: str) -> str:
    """What ``code`` prints in a fresh interpreter."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()


def test_the_contracts_hold() -> None:
    # pinned to this interpreter's environment, whatever is in PATH
    code = "import sys; from importlinter.cli import lint_imports_command as lint; sys.argv = ['lint-imports', '--no-cache']; lint()"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import explorer",
        "import explorer.core.recipe, explorer.core.report",
        "import explorer; explorer.Recipe; dir(explorer)",
    ],
)
def test_values_are_light(code: str) -> None:
    found = run(f"{code}\nimport sys; print(*[name for name in {HEAVY!r} if name in sys.modules])")
    assert found == "", f"{code} imports {found}"


@pytest.mark.parametrize("below", ["models.subject", "compress.resolve", "evaluate.evaluator", "export.bundle"])
def test_nothing_below_the_screen_imports_streamlit(below: str) -> None:
    assert run(f"import explorer.{below}, sys; print('streamlit' in sys.modules)") == "False"


ORDERS = [
    "import explorer",
    "import explorer.compress, explorer.evaluate, explorer.export",
    "import explorer.export.bundle, explorer.evaluate.evaluator, explorer.compress.apply",
    "from explorer import export, compress, evaluate",
    "import explorer; explorer.stream; explorer.resolve; explorer.exporters",
]


@pytest.mark.parametrize("order", ORDERS)
def test_packages_stay_callable_in_every_order(order: str) -> None:
    check = (
        "import inspect, explorer\n"
        f"for name in {CALLABLE!r}:\n"
        "    package = getattr(explorer, name)\n"
        "    assert callable(package) and inspect.ismodule(package), name\n"
        "    assert 'subject' in inspect.signature(package).parameters, name\n"
        "print('fine')"
    )
    assert run(f"{order}\n{check}") == "fine"


@pytest.mark.parametrize("order", list(itertools.permutations(CALLABLE)), ids="-".join)
def test_subpackages_can_be_imported_in_every_order(order: tuple[str, ...]) -> None:
    lines = "\n".join(f"import explorer.{name}\nassert callable(explorer.{name})" for name in order)
    assert run(f"{lines}\nfrom explorer import {', '.join(order)}\nprint('fine')") == "fine"


@pytest.mark.parametrize("name", explorer.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(explorer, name) is not None
    assert name in dir(explorer)


def test_the_list_of_public_names_is_complete() -> None:
    assert explorer.__all__ == sorted([*explorer._PUBLIC, *explorer._CALLABLE])


def test_the_names_that_type_checkers_see_are_the_public_ones() -> None:
    tree = ast.parse((ROOT / "explorer" / "__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.name for node in ast.walk(checked) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(explorer.__all__)


@pytest.mark.parametrize("name", ["nothing", "torch", "Recipes", "_private", "__wrapped__"])
def test_unknown_names_are_attribute_errors(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(explorer, name)
    assert not hasattr(explorer, name)


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_large_tensors_lie_in_huge_pages_unless_the_user_says_otherwise(before: str | None, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    if before is not None:
        monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", before)
    assert run("import os, explorer; print(os.environ['THP_MEM_ALLOC_ENABLE'])") == after
