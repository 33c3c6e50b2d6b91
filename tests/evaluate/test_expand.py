"""Rewrites of a graph give the values of what they replace."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from explorer.evaluate.engine import Engine
from explorer.evaluate.expand import largest
from tests.contract.nets import few
from tests.evaluate.test_replay import TUNED


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 7, 10), (1, 1, 3, 5), (3, 4, 9)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_by_maxima_is_pooling(shape: tuple[int, ...], size: int, layout: torch.memory_format, device: str) -> None:
    x = torch.randn(shape, device=device)
    x.flatten()[3], x.flatten()[-1] = torch.nan, -torch.inf
    x = x.contiguous(memory_format=layout) if len(shape) == 4 else x
    assert torch.equal(F.max_pool2d(x, size).nan_to_num(9.0), largest(x, size).nan_to_num(9.0))


def test_only_plain_pooling_is_replaced(device: str) -> None:
    run = Engine(few("fashion-lenet5", device=device), torch.device(device), TUNED)
    graph = run.runner.graph.graph  # type: ignore[attr-defined]
    kinds = [type(run.replica.module.get_submodule(str(n.target))) for n in graph.nodes if n.op == "call_module"]
    found = sum(n.target is largest for n in graph.nodes)
    assert (found, kinds.count(nn.MaxPool2d)) == ((2, 0) if device == "cpu" else (0, 2))
