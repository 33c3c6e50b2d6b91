"""Which gates matter: the table, the time steps, and pruning by gate."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import explorer
from explorer.analysis.look import order
from explorer.core.errors import RecipeError, UnsupportedError
from explorer.models.unrolled import unrolled
from tests.analysis.nets import looked, subject
from tests.contract.nets import few, tiny


def test_the_table_sums_the_rows_of_each_gate(device: str) -> None:
    one = few("vowels-lstm", device=device)
    table = explorer.gate_importance(one, "snip", samples=16)
    scores = explorer.importance(one, "snip", samples=16)
    assert list(table.columns) == ["layer", "gate", "score", "mean", "share"]
    assert len(table) == 4 * 4 and list(table.gate[:4]) == ["input", "forget", "cell", "output"]
    block = scores["lstm.weight_hh_l1"][64:128]
    row = table[(table.layer == "lstm.weight_hh_l1") & (table.gate == "forget")].iloc[0]
    assert row.score == pytest.approx(float(block.sum()), rel=1e-5) and row["mean"] == pytest.approx(
        float(block.mean()), rel=1e-5
    )
    assert row.share == pytest.approx(float(block.sum() / scores["lstm.weight_hh_l1"].sum()), rel=1e-5)
    assert table.groupby("layer").share.sum().tolist() == pytest.approx([1.0] * 4)
    gru = explorer.gate_importance(few("surnames-gru", device=device), layers=["gru.weight_hh_l0"])
    assert list(gru.gate) == ["reset", "update", "new"]


def test_over_time_it_is_the_gradient_of_a_gate_on_the_recurrent_input(device: str) -> None:
    """A factor 1 on what one gate reads of the state at one step: its derivative is the sum of z dL/dz."""
    one = subject("deep", device)
    samples = 5
    table = explorer.gate_importance(one, over_time=True, samples=samples, layers=["rnn.weight_hh_l0"])
    assert len(table) == 4 * 4 and set(table.step) == {0, 1, 2, 3}
    plain = unrolled(one.module)
    total = torch.zeros(4, 4)
    for index in order(one, samples, 0):
        inputs, targets = looked(one, [index])
        factor = torch.ones(4, 4, device=device, requires_grad=True)  # [step, gate]
        calls: list[int] = []
        original = F.linear

        def scaled(x, weight, bias=None, calls=calls, factor=factor, original=original):  # type: ignore[no-untyped-def]
            if weight is plain.rnn.weight_hh_l0:
                calls.append(1)
                return original(x, weight) * factor[len(calls) - 1].repeat_interleave(4) + bias
            return original(x, weight, bias)

        F.linear = scaled  # type: ignore[assignment]
        try:
            loss = F.cross_entropy(plain(inputs), targets)
        finally:
            F.linear = original  # type: ignore[assignment]
        total += torch.autograd.grad(loss, factor)[0].abs().cpu() / samples
    found = torch.tensor(
        table.pivot(index="step", columns="gate", values="relevance")[["input", "forget", "cell", "output"]].to_numpy()
    )
    assert torch.allclose(found.float(), total, rtol=1e-3, atol=1e-8)
    assert float(found[0].abs().max()) == 0  # the first step reads a state of zeros


def test_pruning_by_gate_takes_the_weakest_gates_matrix(device: str) -> None:
    one = few("surnames-gru", device=device)
    recipe = explorer.Recipe().prune("gru.weight_hh_l0", granularity="gate", sparsity=1 / 3, criterion="taylor")
    assert explorer.Recipe.from_json(recipe.to_json()) == recipe
    mask = explorer.resolve(one, recipe).masks["gru.weight_hh_l0"]
    table = explorer.gate_importance(one, "taylor", layers=["gru.weight_hh_l0"])
    weakest = int(table["mean"].argmin())
    stays = mask.chunk(3)
    assert [bool(part.all()) for part in stays] == [i != weakest for i in range(3)]
    assert not stays[weakest].any()
    everywhere = explorer.resolve(
        one, explorer.Recipe().prune("gru", granularity="gate", sparsity=0.25, scope="global")
    )
    blocks = [bool(part.any()) for m in everywhere.masks.values() for part in m.chunk(3)]
    assert len(blocks) == 12 and sum(blocks) == 9


def test_gates_of_units_that_remain(device: str) -> None:
    """Gates lie in the tensor that remains after units went."""
    one = few("vowels-lstm", device=device)
    recipe = (
        explorer.Recipe()
        .prune("lstm", granularity="unit", sparsity=0.5)
        .prune("lstm.weight_hh_l0", granularity="gate", sparsity=0.5)
    )
    plan = explorer.resolve(one, recipe)
    alive = plan.masks["lstm.weight_hh_l0"].view(4, 64, 64)
    assert [int(gate.sum()) for gate in alive].count(32 * 32) == 2 and [int(gate.sum()) for gate in alive].count(0) == 2
    assert isinstance(explorer.compress(one, plan), nn.Module)


def test_where_there_are_no_gates(device: str) -> None:
    with pytest.raises(UnsupportedError, match="no layer has gates"):
        explorer.gate_importance(tiny(device=device))
    with pytest.raises(RecipeError, match="no gates in 'head.weight'"):
        explorer.gate_importance(few("vowels-lstm", device=device), layers=["head.weight"])
    with pytest.raises(UnsupportedError, match="fc.0.weight has no gates; granularity='gate' is accepted for: none"):
        explorer.resolve(tiny(device=device), explorer.Recipe().prune("fc.0.weight", granularity="gate", sparsity=0.5))
