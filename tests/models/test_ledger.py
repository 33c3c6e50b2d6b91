"""Units, what they own, and which of them go together."""

from __future__ import annotations

import torch

from explorer.models.ledger import FIXED, Ledger, compact


def test_united_units_share_a_representative_and_a_reason() -> None:
    ledger = Ledger()
    a, b = ledger.fresh(3), ledger.fresh(3)
    ledger.block(b[1:2], "why")
    ledger.unite(a, b)
    assert [ledger.find(i) == ledger.find(j) for i, j in zip(a.tolist(), b.tolist(), strict=True)] == [True] * 3
    assert ledger.find(0) != ledger.find(1) and ledger.reason(1) == "why" and ledger.reason(0) is None


def test_units_that_meet_fixed_entries_cannot_go() -> None:
    ledger = Ledger()
    units = ledger.fresh(2)
    ledger.unite(units, torch.tensor([FIXED, 1]))
    assert "stay" in str(ledger.reason(0)) and ledger.reason(1) is None


def test_a_tensor_owned_twice_unites_its_units() -> None:
    ledger = Ledger()
    ledger.alias = {"head.weight": "embedding.weight"}
    first, second = ledger.fresh(2), ledger.fresh(2)
    ledger.own("embedding.weight", 1, "producer", first)
    ledger.own("head.weight", 1, "consumer", second)
    assert ledger.find(0) == ledger.find(2) and ledger.find(1) == ledger.find(3) and ledger.find(0) != ledger.find(1)
    assert {(entry.tensor, entry.role) for entry in ledger.entries} == {
        ("embedding.weight", "producer"), ("embedding.weight", "consumer")
    }  # fmt: skip


def test_compact_keeps_dims_that_matter() -> None:
    ids = torch.arange(3)[None, :, None].expand(2, 3, 4)
    found = compact(ids)
    assert found is not None and found.shape == (1, 3, 1) and found.flatten().tolist() == [0, 1, 2]
    assert compact(torch.full((2, 2), FIXED)) is None
