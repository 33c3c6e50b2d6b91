"""Two checkpoints: the figures of each pair of tensors are those of the values in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import explorer
from tests.files.streams import DTYPES, sharded, small_pieces, weights


@pytest.fixture
def pair() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    a = {f"{dtype}.weight": weights(dtype, (31, 47), i, odd=False) for i, dtype in enumerate(DTYPES)}
    a |= {
        "same": torch.randn(5, 6),
        "gone": torch.ones(3),
        "shape": torch.ones(3, 4),
        "long": torch.arange(10),
        "none": torch.zeros(0),
    }
    b = dict(a) | {"new": torch.ones(2), "shape": torch.ones(4, 3), "long": torch.arange(10) * 2}
    for i, dtype in enumerate(DTYPES):
        moved = a[f"{dtype}.weight"].clone()
        part = moved.reshape(-1).view(torch.uint8 if moved.element_size() == 1 else moved.dtype)[: 100 + i]
        part.copy_(part.flip(0))
        b[f"{dtype}.weight"] = moved
    b["same"] = a["same"].double()  # other bits, the same values
    del b["gone"]
    return a, b


def test_every_figure_against_float64(
    pair: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch)
    a, b = pair
    save_file(a, tmp_path / "a.safetensors")
    other = sharded(tmp_path / "b", [dict(list(b.items())[i::2]) for i in range(2)])
    told: list[tuple[int, int]] = []
    table = explorer.compare_files(tmp_path / "a.safetensors", other, progress=lambda *one: told.append(one)).set_index(
        "tensor"
    )
    assert set(table.index) == set(a) | set(b) and told[-1][0] == told[-1][1]
    states = table["state"].to_dict()
    assert (states["gone"], states["new"], states["shape"], states["same"], states["none"]) == (
        "only in a", "only in b", "other shape", "equal", "equal",
    )  # fmt: skip
    assert table.loc["same", ["dtype_a", "dtype_b"]].tolist() == ["F32", "F64"]
    assert table.loc["shape", ["shape_a", "shape_b"]].tolist() == [(3, 4), (4, 3)]
    for name in set(a) & set(b) - {"shape", "none"}:
        x, y, row = a[name].double().flatten(), b[name].double().flatten(), table.loc[name]
        assert row["max_abs"] == (x - y).abs().max().item()
        assert row["relative_l2"] == pytest.approx(((x - y).norm() / x.norm()).item(), rel=1e-12)
        assert row["cosine"] == pytest.approx(torch.nn.functional.cosine_similarity(x, y, dim=0).item(), rel=1e-12)
        assert row["changed"] == (x != y).double().mean().item()
        assert (
            row["sparsity_a"] == (x == 0).double().mean().item()
            and row["sparsity_b"] == (y == 0).double().mean().item()
        )


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    nan, inf = torch.nan, torch.inf
    a, b = torch.tensor([nan, nan, inf, inf, 1.0, 0.0]), torch.tensor([nan, 2.0, inf, -inf, 1.0, -0.0])
    for x, name in ((a, "a"), (b, "b")):
        save_file(
            {"w": x, "zeros": torch.zeros(3), "moved": torch.zeros(3) if name == "a" else torch.ones(3)},
            tmp_path / f"{name}.safetensors",
        )
    table = explorer.compare_files(tmp_path / "a.safetensors", tmp_path / "b.safetensors").set_index("tensor")
    assert table.loc["w", "changed"] == pytest.approx(2 / 6) and table.loc["w", "max_abs"] == inf
    assert table.loc["zeros", "relative_l2"] == 0 and table["cosine"].isna()["zeros"]
    assert table.loc["moved", "relative_l2"] == inf


def test_other_files_are_opened(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Linear(5, 2))
    torch.save({"state_dict": net.state_dict()}, tmp_path / "a.pt")
    moved = {name: t.clone() for name, t in net.state_dict().items()}
    moved["1.bias"][0] += 1
    save_file(moved, tmp_path / "b.safetensors")
    table = explorer.compare_files(tmp_path / "a.pt", tmp_path / "b.safetensors").set_index("tensor")
    assert table["state"].to_dict() == {
        "0.weight": "equal",
        "0.bias": "equal",
        "1.weight": "equal",
        "1.bias": "changed",
    }
    assert table.loc["1.bias", "changed"] == 0.5
