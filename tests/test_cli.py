"""The command line: what it prints, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

import explorer
from explorer.cli import app

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    made = explorer.Recipe(name="半").prune("*", sparsity=0.5, scope="global").quantize("head.weight", bits=4)
    path = tmp_path / "配方 a.json"
    path.write_text(made.to_json(), encoding="utf-8")
    return path


def test_samples_lists_all_with_split_and_n() -> None:
    result = run("samples")
    assert result.exit_code == 0
    assert all(name in result.output for name in explorer.samples())
    assert "perplexity" in result.output and "(test, n = 220)" in result.output


def test_inspect_shows_layers_groups_and_what_the_recipe_does(recipe: Path) -> None:
    result = run("inspect", "bikes-mlp")
    assert result.exit_code == 0 and "fc1.weight" in result.output and "neuron" in result.output
    assert "counted: 15,745 parameters" in result.output and "sparsity 0.0 %" in result.output
    result = run("inspect", "bikes-mlp", "--recipe", recipe)
    assert result.exit_code == 0 and "sparsity 50.0 %" in result.output and "128x57" in result.output


def test_evaluate_says_kind_split_n_and_interval(recipe: Path, device: str) -> None:
    result = run("evaluate", "vowels-rnn", "--recipe", recipe)
    assert result.exit_code == 0
    assert "vowels-rnn: measured on validation, n = 150, fp32" in result.output and "95 % intervals" in result.output
    assert "accuracy" in result.output and ".." in result.output
    result = run("evaluate", "vowels-rnn", "--recipe", recipe, "--json", "--device", device)
    report = json.loads(result.output)
    made = explorer.Recipe.from_json(recipe.read_text(encoding="utf-8"))
    wanted = explorer.evaluate(explorer.load("vowels-rnn"), made, device=device)
    assert report["metrics"]["accuracy"]["value"] == wanted.metrics["accuracy"]
    assert (report["split"], report["n"], report["recipe"]) == ("validation", 150, made.digest)


def test_export_writes_a_bundle_that_loads(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "导出 here"
    result = run(
        "export", "vowels-rnn", "--recipe", recipe, "--out", out, "--format", "safetensors", "--format", "onnx"
    )
    assert result.exit_code == 0, result.output
    assert "measured on test, n = 220, 95 % interval" in result.output and "model.onnx" in result.output
    module = explorer.load_exported(out)
    assert sum(int((p == 0).sum()) for p in module.parameters() if p.ndim == 2) >= 220
    again = run("export", "vowels-rnn", "--out", out)
    assert again.exit_code == 2 and "not empty" in again.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect", "fashion-mpl"], "did you mean fashion-mlp"),
        (["evaluate", "vowels-rnn", "--split", "tset"], "did you mean test"),
        (["evaluate", "vowels-rnn", "--precision", "half"], "accepted: full, fast"),
        (["evaluate", "vowels-rnn", "--recipe", "/no/such.json"], "cannot be read"),
        (["evaluate", "vowels-rnn", "--device", "abacus"], "accepted: "),
        (["export", "vowels-rnn", "--out", "x", "--format", "onx"], "did you mean onnx"),
    ],
)
def test_errors_are_one_line_on_stderr(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert said in result.stderr and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b'{"format": "other"}'])
def test_a_file_that_is_no_recipe(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    result = run("evaluate", "vowels-rnn", "--recipe", path)
    assert result.exit_code == 2 and "broken.json" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.slow
def test_as_a_process_with_a_terminal_that_is_not_utf8(recipe: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    out = tmp_path / "模型 out"
    command = [sys.executable, "-m", "explorer", "export", "vowels-rnn", "--recipe", str(recipe), "--out", str(out)]
    ran = subprocess.run([*command, "--format", "safetensors"], cwd=ROOT, env=environment, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert "模型 out" in ran.stdout.decode("utf-8") and (out / "README.md").is_file()
    ran = subprocess.run([*command, "--format", "nope"], cwd=ROOT, env=environment, capture_output=True)
    assert ran.returncode == 2 and ran.stdout == b"" and b"Traceback" not in ran.stderr
    assert ran.stderr.decode("utf-8").startswith("error: unknown exporter 'nope'")


def test_the_readmes_commands_are_accepted() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    found = [line.partition("#")[0].split()[3:] for line in lines if line.strip().startswith("python -m explorer ")]
    assert {arguments[0] for arguments in found} == {"samples", "inspect", "compare", "evaluate", "export"}
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, *arguments in found:
        commands[name].make_context(name, arguments)  # parses, runs nothing; what is missing or unknown raises


def test_inspect_of_a_file_and_of_one_that_is_refused(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"body.weight": torch.randn(30, 20), "body.bias": torch.zeros(30)}, tmp_path / "我的.safetensors")
    result = run("inspect", tmp_path / "我的.safetensors")
    assert result.exit_code == 0 and "body.weight" in result.output and "counted: 630 parameters" in result.output
    save_file({"body.weight": torch.randn(30, 20).bfloat16()}, tmp_path / "half.safetensors")
    result = run("inspect", tmp_path / "half.safetensors")
    assert result.exit_code == 0 and "1,200 bytes" in result.output and "16" in result.output
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    result = run("inspect", tmp_path / "whole.pt")
    assert result.exit_code == 2 and "error: " in result.stderr and "torch.nn.modules.linear.Linear" in result.stderr


def test_inspect_of_a_large_file_streams_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import save_file

    from explorer import cli_files

    weight = torch.zeros(64, 32, dtype=torch.bfloat16)
    weight[:16] = 0.5
    save_file({"a.weight": weight, "ids": torch.arange(5)}, tmp_path / "a.safetensors")
    monkeypatch.setattr("explorer.files.load.load", lambda *_: pytest.fail("the file was loaded"))
    result = run("inspect", tmp_path / "a.safetensors", "--header")
    assert result.exit_code == 0 and "BF16" in result.output and "no weight was read" in result.output
    assert "counted: 2 tensors, 2,048 floating entries, 4,136 bytes\n" in result.output
    monkeypatch.setattr(cli_files, "LARGE", 1000)
    result = run("inspect", tmp_path / "a.safetensors")
    assert result.exit_code == 0 and "75.00 %" in result.output and "0.5" in result.output
    assert "counted: 2 tensors, 2,048 floating entries, 4,136 bytes, sparsity 75.00 %" in result.output
    result = run("inspect", "bikes-mlp", "--header")
    assert result.exit_code == 2 and "accepted: .safetensors" in result.stderr


def test_compare_says_what_differs(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    a = {"same": torch.ones(3), "w": torch.ones(4, 5), "gone": torch.ones(1), "turned": torch.ones(2, 3)}
    b = {"same": torch.ones(3), "w": torch.ones(4, 5) * 1.25, "new": torch.ones(1), "turned": torch.ones(3, 2)}
    for tensors, name in ((a, "a"), (b, "b")):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    result = run("compare", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert result.exit_code == 0, result.output
    assert (
        "0.25" in result.output
        and "1.000000" in result.output
        and "2x3" in result.output
        and "same" not in result.output
    )
    assert all(f"1 {state}" in result.output for state in ("equal", "changed", "other shape", "only in a", "only in b"))
    assert "same" in run("compare", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--all").output
    result = run("compare", tmp_path / "a.safetensors", tmp_path / "c.safetensors")
    assert result.exit_code == 2 and "no such file" in result.stderr
