from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from explorer.compress.codes import Table
from explorer.compress.quantizers import registry
from explorer.compress.resolve import resolve
from explorer.compress.slices import Slices, slices_of
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.recover.hold import hold
from explorer.recover.rounding import Codebook, StraightThrough
from tests.contract.nets import classification


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize("axis", [None, 0])
def test_straight_through_gradients_equal_torchs_fake_quantization(scheme: str, axis: int | None, device: str) -> None:
    torch.manual_seed(3)
    weight = torch.randn(6, 20).to(device)
    slices = Slices() if axis is None else Slices((6, 20), 0)
    codes = registry["percentile"]().fit(weight * 0.5, 3, scheme, slices)  # a range that clips some of the weights
    module = nn.Linear(20, 6).to(device)
    module.weight.data.copy_(weight)
    x = torch.randn(9, 20).to(device)

    rounding = StraightThrough(codes)
    module.weight.data.copy_(rounding(weight, None))
    module(x).square().sum().backward()
    assert module.weight.grad is not None
    found = module.weight.grad.clone()
    rounding.turn(found, weight, None)

    leaf = weight.clone().requires_grad_(True)
    if axis is None:
        q = torch.fake_quantize_per_tensor_affine(leaf, codes.scale, codes.zero_point, codes.low, codes.high)
    else:
        q = torch.fake_quantize_per_channel_affine(leaf, codes.scale, codes.zero_point, 0, codes.low, codes.high)
    F.linear(x, q, module.bias.detach()).square().sum().backward()
    assert leaf.grad is not None
    assert 0 < int((leaf.grad == 0).sum()) < leaf.numel()  # some are clipped
    torch.testing.assert_close(found, leaf.grad)


def test_a_codebooks_gradient_is_the_sum_of_its_weights(device: str) -> None:
    centers = torch.tensor([[-1.0, 0.5, 2.0]], device=device)
    codes = Table(2, "codebook", Slices(), centers, (centers[:, 1:] + centers[:, :-1]) / 2, stored=16, sparse=True)
    weight = torch.tensor([[-0.9, 0.4, 0.0], [0.6, 2.5, -1.2]], device=device)  # centers 0 1 - / 1 2 0
    mask = weight != 0
    rounding = Codebook(codes)
    assert torch.equal(rounding(weight, mask), torch.tensor([[-1.0, 0.5, 0.0], [0.5, 2.0, -1.0]], device=device))
    grad = torch.tensor([[1.0, 10.0, 7.0], [100.0, 1000.0, 3.0]], device=device)
    rounding.turn(grad, weight, mask)
    assert torch.equal(grad, torch.tensor([[4.0, 110.0, 0.0], [110.0, 1000.0, 4.0]], device=device))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_training_through_shared_weights_is_training_the_centers(optimizer: str, granularity: str, device: str) -> None:
    """The reference trains the centers themselves, through an index."""
    torch.manual_seed(1)
    module = nn.Linear(10, 4).to(device)
    subject = Subject(copy.deepcopy(module), classification((10,), 4), "one")
    recipe = Recipe().prune("weight", sparsity=0.3)
    size = {"group_size": 5} if granularity == "group" else {}
    plan = resolve(
        subject, recipe.quantize("weight", bits=1, quantizer="kmeans-linear", granularity=granularity, **size)
    )
    codes, mask = plan.codes["weight"], plan.masks["weight"].to(device)
    assert isinstance(codes, Table)
    slices = slices_of("weight", "linear", (4, 10), 0, granularity, size.get("group_size"))
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}[optimizer]

    centers = codes.centers.clone().requires_grad_(True)
    bias = module.bias.detach().clone().requires_grad_(True)
    rows = slices.rows(module.weight.detach() * mask)
    index = torch.searchsorted(codes.edges, rows.contiguous())
    reference = make([centers, bias], 0.01)
    mine = make(module.parameters(), 0.01)
    x, y = torch.randn(16, 10).to(device), torch.randint(0, 4, (16,)).to(device)
    with hold(module, plan):
        for _ in range(5):
            weight = slices.back(centers.gather(1, index) * (rows != 0), (4, 10))
            F.cross_entropy(F.linear(x, weight, bias), y).backward()
            F.cross_entropy(module(x), y).backward()
            for one in (reference, mine):
                one.step()
                one.zero_grad()
    expected = slices.back(centers.detach().gather(1, index) * (rows != 0), (4, 10))
    torch.testing.assert_close(module.weight.detach(), expected)
    assert not torch.allclose(module.weight.detach(), plan.layers["weight"].apply(subject.weight("weight")))
    for row in slices.rows(module.weight.detach()):
        assert len(row[row != 0].unique()) <= 2  # tied to the last bit


def test_weights_behind_the_rounding_move_although_the_rounded_ones_do_not(device: str) -> None:
    module = nn.Linear(10, 4).to(device)
    subject = Subject(copy.deepcopy(module), classification((10,), 4), "one")
    plan = resolve(subject, Recipe().quantize("weight", bits=3))
    before = plan.layers["weight"].apply(subject.weight("weight"))
    optimizer = torch.optim.SGD(module.parameters(), 1e-6)
    with hold(module, plan):
        for _ in range(3):
            module(torch.ones(2, 10, device=device)).sum().backward()
            assert torch.equal(module.weight.detach(), before)
            optimizer.step()
            optimizer.zero_grad()
            assert not torch.equal(module.weight.detach(), before)
            torch.testing.assert_close(module.weight.detach(), subject.weight("weight"), atol=1e-4, rtol=0)
    assert torch.equal(module.weight.detach(), before)


@pytest.mark.parametrize("name", sorted(registry))
def test_what_was_quantized_is_not_changed_by_being_quantized_again(name: str, device: str) -> None:
    torch.manual_seed(5)
    weight = torch.randn(8, 30).to(device) * 0.1
    weight[weight.abs() < 0.02] = 0
    quantizer = registry[name]
    if name.startswith("fp8"):
        pytest.skip("a scale is rounded to float32, and its levels with it")
    for bits in quantizer.bits:
        for scheme in quantizer.schemes:
            for granularity in quantizer.granularities:
                if granularity == "gate":
                    continue
                size = {"granularity": granularity} | ({"group_size": 15} if granularity == "group" else {})
                subject = Subject(linear(weight), classification((30,), 8), "one")
                once = resolve(subject, Recipe().quantize("weight", bits=bits, quantizer=name, scheme=scheme, **size))
                rounded = once.layers["weight"].apply(weight)
                again = name if name not in ("percentile", "mse", "entropy") else "minmax"
                second = Subject(linear(rounded), classification((30,), 8), "two")
                twice = resolve(second, Recipe().quantize("weight", bits=bits, quantizer=again, scheme=scheme, **size))
                assert torch.equal(twice.layers["weight"].apply(rounded) + 0, rounded + 0), (bits, scheme, granularity)


def linear(weight: torch.Tensor) -> nn.Module:
    module = nn.Linear(*reversed(weight.shape)).to(weight.device)
    module.weight.data.copy_(weight)
    return module
