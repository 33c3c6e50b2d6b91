"""Criteria on tensors small enough to work out on paper; the numbers stand here."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from explorer.analysis.importance import importance
from explorer.analysis.look import Look
from explorer.analysis.second_order import hessian_products
from explorer.models.subject import Subject
from explorer.models.task import Task
from tests.analysis.nets import looked, subject
from tests.contract.nets import MLP, classification, tiny, wide


def with_rows(rows: list[list[float]], device: str) -> Subject:
    """An MLP whose first layer's weight is ``rows``."""
    weight = torch.tensor(rows)
    module = MLP((weight.shape[1], weight.shape[0], 3))
    with torch.no_grad():
        module.fc[0].weight.copy_(weight)
    return Subject(module.to(device), classification((weight.shape[1],)), "by hand")


def unit(one: Subject, criterion: str) -> list[float]:
    return importance(one, criterion, granularity="unit", layers=["fc.0"])["fc.0"].tolist()


def test_fpgm_sums_the_distances_to_the_other_filters(device: str) -> None:
    one = with_rows([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], device)
    a, b, c = 5.0, 1.0, math.sqrt(18)  # |1-2|, |1-3|, |2-3|
    assert unit(one, "fpgm") == pytest.approx([a + b, a + c, b + c])


def test_lamp_divides_by_what_is_not_smaller(device: str) -> None:
    one = with_rows([[1.0, -2.0], [2.0, 3.0]], device)  # squares 1, 4, 4, 9
    scores = importance(one, "lamp", layers=["fc.0.weight"])["fc.0.weight"]
    assert scores.flatten().tolist() == pytest.approx([1 / 18, 4 / 17, 4 / 17, 1.0])
    assert unit(one, "lamp") == pytest.approx([5 / 18, 1.0])  # rows' squared norms 5 and 13
    assert unit(with_rows([[0.0, 0.0], [0.0, 0.0]], device), "lamp") == [0.0, 0.0]


def test_norms_of_units(device: str) -> None:
    one = with_rows([[3.0, -4.0], [1.0, 1.0]], device)
    assert unit(one, "l1") == [7.0, 2.0] and unit(one, "l2") == pytest.approx([5.0, math.sqrt(2)])
    assert unit(one, "signed") == [-1.0, 2.0]


def test_batch_norm_scale_is_gamma_and_sums_over_a_residual_group(device: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.na = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.b, self.nb = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.head = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.na(self.a(x)))
            return self.head((x + self.nb(self.b(x))).mean((2, 3)))

    net = Net()
    with torch.no_grad():
        net.na.weight.copy_(torch.tensor([0.5, -2.0, 0.1]))
        net.nb.weight.copy_(torch.tensor([1.0, 1.0, -3.0]))
    found = importance(Subject(net.to(device), classification((1, 4, 4))), "bn-scale", granularity="unit")
    assert {key: value.tolist() for key, value in found.items()} == {"a": pytest.approx([1.5, 3.0, 3.1])}


def test_synflow_is_the_share_of_the_paths_through_a_weight(device: str) -> None:
    """2 -> 2 -> 1: R = sum of |a| |b| over paths, biases left out; a weight's score is the sum over its paths."""
    module = MLP((2, 2, 1), bias=False)
    with torch.no_grad():
        module.fc[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
        module.fc[1].weight.copy_(torch.tensor([[-4.0, 2.0]]))
    one = Subject(module.to(device), classification((2,), classes=1))
    found = importance(one, "synflow")
    assert found["fc.0.weight"].tolist() == [[4.0, 8.0], [6.0, 1.0]] and found["fc.1.weight"].tolist() == [[12.0, 7.0]]


def quadratic(hessian: Tensor, start: Tensor, device: str) -> Subject:
    """A model whose mean training loss is 1/2 w^T H w exactly: every sample has the same loss."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(start.reshape(1, -1).clone())

        def forward(self, x: Tensor) -> Tensor:
            return (self.w @ hessian.to(self.w) @ self.w.T).expand(len(x), 1) / 2

    data = TensorDataset(torch.zeros(4, 1), torch.zeros(4, 1))
    task = Task(
        splits={"train": data, "validation": data},
        score=lambda o, t: {"o": o[:, 0]},
        loss=lambda outputs, targets: outputs.mean(),
    )
    return Subject(Net().to(device), task, "quadratic")


def test_grasp_is_the_weight_times_the_hessian_times_the_gradient(device: str) -> None:
    one = quadratic(torch.tensor([[2.0, 1.0], [1.0, 3.0]]), torch.tensor([1.0, -2.0]), device)
    # g = Hw = (0, -5); Hg = (-5, -15); w * Hg = (-5, 30)
    assert importance(one, "grasp")["w"].tolist() == [[-5.0, 30.0]]


def test_obd_is_half_the_curvature_times_the_square(device: str) -> None:
    one = quadratic(torch.diag(torch.tensor([2.0, 0.5])), torch.tensor([1.0, -2.0]), device)
    assert importance(one, "obd")["w"].tolist() == [[1.0, 1.0]]  # 1/2 2 1, 1/2 0.5 4: no estimate where H is diagonal
    assert importance(one, "movement")["w"].tolist() == [[-2.0, -2.0]]  # -w * (2w1, 0.5w2)


def test_products_with_the_hessian_are_exact_through_recurrent_layers_and_attention(device: str) -> None:
    for name in ("twice", "deep", "attention"):  # smooth: differences must not cross a kink
        one = subject(name, device)
        one.module.to(wide(device))
        names = [layer.name for layer in one.layers]
        module = one.copy()
        inputs, targets = looked(one, range(40))
        torch.manual_seed(2)
        vector = {n: torch.randn_like(one.weight(n)) for n in names}
        step = 1e-5 if device != "mps" else 1e-2

        def slopes(sign: int) -> list[Tensor]:
            moved = [module.get_parameter(n) for n in names]  # noqa: B023
            for p, n in zip(moved, names, strict=True):  # noqa: B023
                p.data = one.weight(n) + sign * step * vector[n]  # noqa: B023
                p.requires_grad_(True)
            return list(torch.autograd.grad(F.cross_entropy(module(inputs.to(wide(device))), targets), moved))  # noqa: B023

        expected = [(a - b) / (2 * step) for a, b in zip(slopes(1), slopes(-1), strict=True)]
        (found,) = hessian_products(one, Look(40), lambda _: [vector])  # noqa: B023
        for n, value in zip(names, expected, strict=True):
            assert torch.allclose(
                found[n], value, rtol=1e-4 if device != "mps" else 0.1, atol=1e-6 * float(value.abs().max()) + 1e-9
            ), (name, n)


def test_the_diagonal_of_the_hessian_is_right_on_average(device: str) -> None:
    one = tiny(MLP((4, 3, 3), act=torch.tanh), (4,), device=device)
    module = one.copy().to(wide(device))
    weight = module.fc[0].weight
    inputs, targets = looked(one, range(64))

    def loss(w: Tensor) -> Tensor:
        return F.cross_entropy(
            torch.func.functional_call(module, {"fc.0.weight": w}, (inputs.to(wide(device)),)), targets
        )

    exact = torch.autograd.functional.hessian(loss, weight.detach()).reshape(12, 12).diagonal()  # type: ignore[no-untyped-call,union-attr]
    found = torch.stack(
        [importance(one, "obd", layers=["fc.0.weight"], seed=s)["fc.0.weight"].flatten() for s in range(1)]
    )
    scale = one.weight("fc.0.weight").flatten().square() / 2
    from explorer.analysis.second_order import hessian_diagonal

    estimates = torch.stack([hessian_diagonal(one, Look(64, seed=s))["fc.0.weight"].flatten() for s in range(24)])
    error = (estimates.mean(0) - exact).abs()
    assert bool((error <= 4 * estimates.std(0) / math.sqrt(24) + 1e-5).all())
    assert torch.allclose(
        found[0], scale * hessian_diagonal(one, Look(1024, seed=0))["fc.0.weight"].flatten().abs(), rtol=1e-4
    )


def test_the_depth_prior_doubles_both_ends(device: str) -> None:
    one = tiny(MLP((4, 4, 4, 3)), (4,), device=device)
    with torch.no_grad():
        for layer in one.module.fc:
            layer.weight.fill_(0.25)
    assert [float(s.mean()) for s in importance(one, "depth").values()] == pytest.approx([2.0, 1.0, 2.0])
