from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from explorer.core.errors import RecipeError, near
from explorer.core.registry import Registry


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / "zoo_of_things"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from explorer.core.registry import Registry\nregistry = Registry('thing', __name__)\nimported = []\n",
        encoding="utf-8",
    )
    for name in ("beta", "alpha"):
        (package / f"{name}.py").write_text(
            f"from . import imported, registry\nimported.append('{name}')\n"
            f"@registry.register('{name}')\nclass Thing:\n    '''Help of {name}.\n\n    Indented.\n    '''\n",
            encoding="utf-8",
        )
    (package / "_hidden.py").write_text("raise RuntimeError('never imported')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "zoo_of_things"
    for name in [name for name in sys.modules if name.startswith("zoo_of_things")]:
        del sys.modules[name]


def test_discovers_the_folder_once_and_lists_by_name(folder: str) -> None:
    module = __import__(folder)
    registry: Registry[type] = module.registry
    threads = [threading.Thread(target=lambda: list(registry)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(registry) == ["alpha", "beta"] and sorted(module.imported) == ["alpha", "beta"]
    assert "alpha" in registry and "gamma" not in registry
    assert registry.help("alpha") == "Help of alpha.\n\nIndented."


def test_unknown_names_are_answered_with_near_ones(folder: str) -> None:
    registry: Registry[type] = __import__(folder).registry
    with pytest.raises(RecipeError, match="unknown thing 'alhpa'; did you mean alpha"):
        registry["alhpa"]
    with pytest.raises(RecipeError, match="accepted: alpha, beta"):
        registry["zzzzzz"]


def test_a_name_is_given_once() -> None:
    registry: Registry[object] = Registry("thing", "explorer.core")
    registry.register("a")(one := object())
    registry.register("a")(one)
    with pytest.raises(ValueError, match="twice"):
        registry.register("a")(object())


def test_near_lists_a_few_when_nothing_is_close() -> None:
    assert near("zzz", ["a", "b"]) == "accepted: a, b"
    assert near("zzz", []) == "accepted: none"
    assert "(30 in all)" in near("zzz", [f"layer{i}" for i in range(30)])
