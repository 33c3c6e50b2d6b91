"""Counting by bits gives what looking at the values gives, to the last bit, in every format."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from explorer.analysis.patterns import COUNTED, decoded, values
from explorer.analysis.tally import Tally, kth
from explorer.files.sources import Held
from explorer.files.stream import inside, tallies
from tests.files.streams import DTYPES, small_pieces, weights


def counted(*tensors: Tensor) -> tuple[list[Tally], object]:
    """Their tallies, and what looks inside of a bin."""
    held = Held({str(i): tensor for i, tensor in enumerate(tensors)})
    found = [one for _, one in tallies(held)]
    return found, lambda one, key: inside(held, str(found.index(one)), key)


def sizes(tensor: Tensor) -> Tensor:
    """|value| in float32, flat."""
    return tensor.reshape(-1).float().abs()


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d not in ("F32", "F64")] + ["U16", "BOOL"])
def test_values_of_all_patterns_are_torchs(dtype: str) -> None:
    other = DTYPES.get(dtype, torch.uint16 if dtype == "U16" else torch.bool)
    n = len(values(dtype))
    bits = torch.arange(n, dtype=torch.int32).to(torch.uint8 if n == 256 else torch.int16)
    reference = bits.to(torch.uint8).float() if dtype == "BOOL" else bits.view(other).float()
    np.testing.assert_array_equal(values(dtype), reference.numpy())
    if dtype != "BOOL":
        np.testing.assert_array_equal(decoded(bits.numpy().view(f"u{1 if n == 256 else 2}"), dtype), reference.numpy())


def test_powers_of_two_alone() -> None:
    assert values("F8_E8M0")[[0, 127, 128]].tolist() == [2.0**-127, 1.0, 2.0] and np.isnan(values("F8_E8M0")[255])
    assert "F8_E8M0" in COUNTED and "I64" not in COUNTED


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_answer_is_that_of_the_values(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pieces(monkeypatch)
    tensor = weights(dtype, (37, 61))
    (one,), look = counted(tensor)
    reference = sizes(tensor)
    ordered = reference.sort().values  # NaN last
    assert one.total == tensor.numel() and one.zeros == int((reference == 0).sum())
    assert one.not_finite == int((~reference.isfinite()).sum())
    for k in (1, 2, 12, 13, 700, 1128, 1129, 2000, one.total - 3):
        assert one.kth(k, look) == ordered[k - 1].item()
    for threshold in (-1.0, 0.0, 1e-45, 1e-41, 0.3, 0.5, 0.5000001, 2.0, 1e30, ordered[900].item()):
        expected = int((reference <= np.float32(threshold)).sum())
        assert one.below(threshold, look) == expected
        assert abs(one.below(threshold) - expected) <= (0 if one.exact else 0.05 * one.total)
    finite = reference[reference.isfinite()]
    assert finite.max() <= one.largest <= finite.max() * (1 if one.exact else 1 + 1 / 128)


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(st.lists(st.floats(width=32), min_size=1, max_size=60), st.data())
def test_any_float32(found: list[float], data: st.DataObject) -> None:
    tensor = torch.tensor(found, dtype=torch.float32)
    (one,), look = counted(tensor)
    reference = tensor.abs().sort().values
    k = data.draw(st.integers(1, len(found)))
    assert np.array_equal(one.kth(k, look), reference[k - 1].item(), equal_nan=True) or reference[k - 1].isnan()
    threshold = data.draw(st.floats(width=32, allow_nan=False))
    assert one.below(threshold, look) == int((tensor.abs() <= threshold).sum())


def test_the_kth_of_several_formats_together() -> None:
    tensors = [
        weights(dtype, (50 + i, 31), i, odd=False)
        for i, dtype in enumerate(("F32", "BF16", "F16", "F8_E4M3", "F32", "I8"))
    ]
    found, look = counted(*tensors)
    together = torch.cat([sizes(tensor) for tensor in tensors]).sort().values
    for k in (1, 100, len(together) // 2, int(0.9 * len(together)), len(together)):
        assert kth(found, k, look) == together[k - 1].item()
        assert 0 <= kth(found, k) - together[k - 1].item() <= together[k - 1].item() / 127 + 1e-40
    for k in (0, len(together) + 1):
        with pytest.raises(ValueError, match="accepted: 1 to"):
            kth(found, k)


@pytest.mark.parametrize("dtype", DTYPES)
def test_quantiles_and_histograms(dtype: str) -> None:
    tensor = weights(dtype, (120, 130), odd=False)
    (one,), _ = counted(tensor)
    reference = sizes(tensor).sort().values
    at = torch.linspace(0, len(reference) - 1, 513, dtype=torch.float64).round().long()
    np.testing.assert_allclose(
        one.quantiles(513), reference[at], rtol=0 if one.exact else 0.008, atol=0 if one.exact else 1e-37
    )
    m, counts = one.histogram(161)
    signed = tensor.reshape(-1).double()
    assert m == pytest.approx(reference[-1].item(), rel=0 if one.exact else 1 / 127) and counts.sum() == tensor.numel()
    expected = np.histogram(signed.numpy(), 161, (-m, m))[0]
    if one.exact:
        np.testing.assert_array_equal(counts, expected)
    else:
        np.testing.assert_allclose(counts.cumsum(), expected.cumsum(), atol=0.002 * tensor.numel())


def test_tensors_of_zeros_and_of_nothing() -> None:
    for tensor in (torch.zeros(4, 5), torch.zeros(0, 3), torch.full((3,), torch.nan)):
        (one,), _ = counted(tensor)
        assert one.largest == 0.0 and one.sparsity == (1.0 if len(tensor) == 4 else 0.0)
        assert not one.quantiles(5).any() and one.histogram(5)[1].sum() == (20 if len(tensor) == 4 else 0)
