"""Files that are read piece by piece: the same figures as in memory, little memory, progress, and an end when it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

import explorer
from explorer.analysis.patterns import COUNTED
from explorer.core.errors import Cancelled, LoadError, RecipeError
from explorer.files import sources
from explorer.files.sources import checkpoint
from explorer.files.stream import tallies
from tests.files.hostile_headers import HEADERS, NAMES_ALONE
from tests.files.streams import DTYPES, sharded, small_pieces, weights


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    made = {f"{dtype}.weight": weights(dtype, (40 + i, 53), i, odd=False) for i, dtype in enumerate(DTYPES)}
    return made | {"a.bias": weights("F32", (77,), 50), "step": torch.arange(9), "none": torch.zeros(0, 4)}


def _in_memory(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float().abs().flatten()


def test_statistics_are_those_in_memory(
    tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    save_file(tensors, tmp_path / "a.safetensors")
    told: list[tuple[int, int]] = []
    table = explorer.file_statistics(tmp_path / "a.safetensors", progress=lambda *one: told.append(one)).set_index(
        "tensor"
    )
    assert set(table.index) == set(tensors) and list(table.columns)[:4] == ["dtype", "shape", "entries", "bytes"]
    for name, tensor in tensors.items():
        row = table.loc[name]
        assert row["shape"] == tuple(tensor.shape) and row["entries"] == tensor.numel()
        assert row["bytes"] == tensor.numel() * tensor.element_size()
        if row["dtype"] not in COUNTED:
            assert row[["sparsity", "median", "largest"]].isna().all()
        elif tensor.numel() and row["dtype"] not in ("F32", "F64"):
            size = _in_memory(tensor)
            assert row["sparsity"] == (size == 0).double().mean().item() and row["largest"] == size.max().item()
            assert row["median"] == size.sort().values[round((len(size) - 1) / 2)].item()
    assert [done for done, _ in told] == sorted(done for done, _ in told) and told[-1][0] == told[-1][1] > 0
    assert len(told) > 20 and table.loc["a.bias", "not_finite"] == 3


@pytest.mark.parametrize("sparsity", [0.0, 0.001, 0.3, 0.5, 0.9, 1.0])
def test_thresholds_are_the_kth_smallest(sparsity: float, tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = sharded(tmp_path / "sharded", [dict(list(tensors.items())[i::3]) for i in range(3)])
    chosen = {name: _in_memory(t) for name, t in tensors.items() if t.ndim == 2 and t.is_floating_point() and t.numel()}
    found = explorer.file_thresholds(path, sparsity).set_index("tensor")
    assert set(found.index) == set(chosen)
    for name, size in chosen.items():
        k = round(sparsity * len(size))
        expected = size.kthvalue(k).values.item() if k else float("nan")
        assert found.loc[name, "threshold"] == expected or k == 0 and found.loc[name].isna()["threshold"]
        assert found.loc[name, "below"] == int((size <= expected).sum()) and found.loc[name, "entries"] == len(size)
    together = torch.cat(list(chosen.values()))
    k = round(sparsity * len(together))
    everywhere = explorer.file_thresholds(path, sparsity, scope="global")
    if k:
        assert set(everywhere["threshold"]) == {together.kthvalue(k).values.item()}
        assert everywhere["below"].sum() == int((together <= together.kthvalue(k).values).sum())
    some = explorer.file_thresholds(path, sparsity, layers=["F32", "I8.*"])
    assert set(some["tensor"]) == {"F32.weight", "I8.weight"}


def test_what_is_asked_wrongly(
    tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    with pytest.raises(RecipeError, match="no tensor of the file"):
        explorer.file_thresholds(path, 0.5, layers="fc9")
    for wrong in ({"sparsity": 1.5}, {"sparsity": 0.5, "scope": "all"}):
        with pytest.raises(RecipeError, match="accepted: 0 to 1"):
            explorer.file_thresholds(path, **wrong)
    torch.save(tensors, tmp_path / "a.pt")
    for other, said in (("a.pt", "accepted: .safetensors"), ("b.safetensors", "no such file"), (".", "neither")):
        with pytest.raises(LoadError, match=said):
            explorer.file_statistics(tmp_path / other)
    monkeypatch.setenv("EXPLORER_SHARED", "1")
    with pytest.raises(LoadError, match="shared server"):
        explorer.file_statistics(path)


def test_cancelled_between_pieces(
    tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    save_file(tensors, tmp_path / "a.safetensors")
    asked: list[int] = []
    told: list[int] = []
    with pytest.raises(Cancelled):
        explorer.file_statistics(
            tmp_path / "a.safetensors",
            progress=lambda done, _: told.append(done),
            cancel=lambda: asked.append(1) or len(asked) > 5,
        )
    assert len(asked) == 6 and len(told) == 5


def test_a_file_that_shrinks_meanwhile_is_an_error(tmp_path: Path) -> None:
    save_file({"a.weight": torch.randn(1000, 100)}, tmp_path / "a.safetensors")
    source = checkpoint(tmp_path / "a.safetensors")
    with (tmp_path / "a.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(LoadError, match="shorter"):
        list(tallies(source))


def test_pieces_are_few_and_small_however_large_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pieces(monkeypatch)
    save_file({"a.weight": torch.randn(1000, 300), "b.weight": torch.randn(10, 3)}, tmp_path / "a.safetensors")
    read: list[int] = []
    true = sources.Checkpoint.words
    monkeypatch.setattr(
        sources.Checkpoint,
        "words",
        lambda self, name, start, n, slot=0: read.append(n) or true(self, name, start, n, slot),
    )
    list(tallies(checkpoint(tmp_path / "a.safetensors")))
    assert max(read) * 4 <= sources.BLOCK and sum(read) == 300_030  # every entry once


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_state_the_impossible(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(HEADERS[case])
    for look in (explorer.file_statistics, lambda one: explorer.compare_files(one, one)):
        if case in NAMES_ALONE:
            look(path)
        else:
            with pytest.raises(LoadError, match=r"a\.safetensors"):
                look(path)


def test_files_cut_short_at_every_percent(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    data = save({"a.weight": torch.randn(20, 30), "b": torch.zeros(9, dtype=torch.bfloat16)})
    for percent in range(100):
        path.write_bytes(data[: len(data) * percent // 100])
        with pytest.raises(LoadError, match=r"a\.safetensors"):
            explorer.file_statistics(path)
