"""What holds for every file of the repository, and what the README promises."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("pip install -r requirements.txt && streamlit run app.py", "pip install -r requirements-dev.txt && pytest")
BINARY = {".safetensors", ".npz", ".png", ".jpg", ".ico", ".mo", ".woff2", ".zip", ".onnx"}
NOT_OURS = "sample_models/data/"
LONGEST, LAUNCHER = 300, 60
# said of where work is planned, which a reader of this repository cannot see
PLANNING = re.compile(
    r"\.\./shared|/work/(main|shared)|\bissues? #?\d|\bissue tracker\b|\b(this|next|a later|the loading) issue\b|DESIGN\.md|FACTS\.md",
    re.I,
)


@cache
def tracked() -> tuple[str, ...]:
    """Files that git tracks; without git (an unpacked archive) the files that are there."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
        names = done.stdout.decode("utf-8").split("\0")
    except (OSError, subprocess.CalledProcessError):
        ours = ("explorer", "sample_models", "tests", "docs", "benchmarks", ".ci", ".streamlit")
        names = [
            p.relative_to(ROOT).as_posix()
            for folder in ours
            for p in (ROOT / folder).rglob("*")
            if "__pycache__" not in p.parts
        ]
        names += [p.name for p in ROOT.iterdir()]
    return tuple(sorted(name for name in names if name and (ROOT / name).is_file()))


def texts() -> Iterator[tuple[str, str]]:
    """(name, content) of every tracked text file."""
    for name in tracked():
        if Path(name).suffix not in BINARY:
            yield name, (ROOT / name).read_bytes().decode("utf-8")


def python() -> list[str]:
    """Every tracked Python file."""
    return [name for name in tracked() if name.endswith(".py")]


def parsed(name: str) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


def test_the_readme_gives_the_two_commands_each_on_one_line() -> None:
    lines = [line.strip() for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()]
    assert all(command in lines for command in COMMANDS)


def test_the_readme_opens_with_what_it_is_and_a_screenshot_before_the_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    image = re.search(r"!\[[^\]]+\]\((docs/images/[^)]+)\)", text)
    assert text.startswith("# ") and image and image.start() < text.index(COMMANDS[0]) < text.index(COMMANDS[1])


def test_links_of_the_documents_lead_to_files_that_exist() -> None:
    for name, text in texts():
        if name.endswith(".md"):
            for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text):
                place = (ROOT / name).parent / target
                assert place.exists() or "*" in target, f"{name}: {target}"


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert COMMANDS[1] in script and "\r" not in script
    assert all(check in script for check in ("ruff check .", "mypy", "lint-imports", "pytest -m slow"))


def test_the_readme_states_the_scores_of_the_cards() -> None:
    import sample_models

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in sample_models.SAMPLES:
        card = sample_models.card(name)
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        main = next(m for m in ("accuracy", "r2", "perplexity") if m in card["scores"]["test"])
        assert f"{card['parameters']:,}" in row and f"{card['scores']['test'][main]:.4f}" in row
        assert card["licence"]["data"].split(",")[0].casefold() in row.casefold()


def test_text_files_are_utf_8_and_mention_nothing_that_a_reader_cannot_see() -> None:
    found = [
        f"{name}: {match.group()}"
        for name, text in texts()
        if name != "tests/test_repository.py" and not name.startswith(NOT_OURS)
        for match in [PLANNING.search(text)]
        if match
    ]
    assert not found, found


@pytest.mark.parametrize("name", python())
def test_modules_are_short(name: str) -> None:
    lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
    limit = LAUNCHER - 1 if name == "app.py" else LONGEST
    assert lines <= limit, f"{name}: {lines} lines; at most {limit}: split it by concept"


def test_files_are_opened_with_an_encoding() -> None:
    """A locale other than UTF-8 must not change what is read or written."""
    found = []
    for name in python():
        for node in ast.walk(parsed(name)):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = {keyword.arg for keyword in node.keywords}
            if (
                called in ("read_text", "write_text")
                and "encoding" not in given
                and not (called == "read_text" and node.args)
            ):
                found.append(f"{name}:{node.lineno}")
            if (
                called == "open"
                and isinstance(node.func, ast.Name | ast.Attribute)
                and "encoding" not in given
                and text_mode(node)
            ):
                found.append(f"{name}:{node.lineno}")
    assert not found, found


def text_mode(call: ast.Call) -> bool:
    """Whether an ``open(path, mode)`` or ``path.open(mode)`` opens a text; calls of other things named open do not."""
    if isinstance(call.func, ast.Attribute):
        owner = call.func.value
        if isinstance(owner, ast.Name) and owner.id in ("zipfile", "Image", "webbrowser", "os", "tarfile", "gzip"):
            return False
        position = 0
    else:
        position = 1
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] + call.args[position : position + 1]
    if modes and isinstance(modes[0], ast.Constant):
        return isinstance(modes[0].value, str) and re.fullmatch(r"[rwax+t]+", modes[0].value) is not None
    return not modes and position == 1


def test_torch_is_pinned_and_nothing_needs_torchvision() -> None:
    lines = [
        line.split("#")[0].strip()
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
    ]
    assert "torch>=2.11,<2.14" in lines
    assert not [line for line in lines if line.startswith(("torchvision", "torchaudio", "torchao"))]
    imported = {root for name in python() for root in imports(name)}
    assert not imported & {"torchvision", "torchaudio", "torchao"}


def imports(name: str) -> set[str]:
    """First parts of what a file imports, type checking's included."""
    found: set[str] = set()
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_screen_figures_and_values_do_not_import_torch() -> None:
    folders = ("explorer/ui/", "explorer/figures/", "explorer/core/", "explorer/lessons/")
    assert not [name for name in python() if name.startswith(folders) and "torch" in imports(name)]
    assert "torch" not in imports("app.py")


def test_the_package_ships_what_it_needs_at_run_time() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = set(settings["tool"]["setuptools"]["package-data"]["*"])
    kinds = {
        f"*{Path(n).suffix}"
        for n in tracked()
        if n.startswith(("explorer/", "sample_models/")) and not n.endswith(".py")
    }
    assert kinds <= shipped, f"not in package-data: {sorted(kinds - shipped)}"


def test_nothing_is_larger_than_it_must_be() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in tracked()}
    assert sum(sizes.values()) < 60e6
    assert not [name for name, size in sizes.items() if size > 1e6 and not name.startswith("sample_models/")]
