from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from explorer.compress.apply import build, compress, effective_weights, verify
from explorer.compress.resolve import resolve
from explorer.core.errors import EvaluationError, VerificationError
from explorer.core.recipe import Recipe
from explorer.models.replica import Replica
from explorer.models.subject import Subject
from tests.contract.nets import CNN_MLP, MLP, SAMPLES, classification, few, randomize, state, tiny, unchanged


def gap(subject: Subject, recipe: Recipe) -> float:
    """Masked run against the removed module, both in float64 on the CPU, relative as defined; and what must have changed."""
    plan = resolve(subject, recipe)
    module = compress(subject, recipe).cpu()
    x = subject.example(16).cpu()
    wide = x.double() if x.is_floating_point() else x
    with (
        torch.no_grad(),
        Replica(subject.module, dtype=torch.float64).weights(effective_weights(subject, plan), plan.norms) as masked,
    ):
        a = masked(wide)
    with torch.no_grad():
        b = module.double()(wide)
    assert a.shape == b.shape
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in module.modules())
    return float((a - b).abs().max() / max(1.0, float(a.abs().max())))


@pytest.mark.parametrize("name", CNN_MLP)
def test_masked_equals_removed_for_every_group(name: str, device: str) -> None:
    subject = few(name, device=device)
    before, count = state(subject.module), sum(p.numel() for p in subject.module.parameters())
    for i, group in enumerate(subject.groups):
        for sparsity, criterion in ((0.5, "random"), ((0.13, 0.93)[i % 2], "l1")):
            recipe = Recipe().prune(group.producers[-1], sparsity=sparsity, granularity="unit", criterion=criterion)
            assert gap(subject, recipe) < 1e-9, group.name
            assert sum(p.numel() for p in compress(subject, recipe).parameters()) < count
    everywhere = Recipe().prune("*", sparsity=0.6, granularity="unit", criterion="random", scope="global")
    assert gap(subject, everywhere.prune("*", sparsity=0.3).quantize("*", bits=4, granularity="channel")) < 1e-9
    assert unchanged(subject.module, before)


@pytest.mark.parametrize("name", SAMPLES)
def test_names_shapes_and_class_stay_unless_units_go(name: str, device: str) -> None:
    subject = few(name, device=device)
    module = compress(subject, Recipe().prune("*", sparsity=0.5).quantize("*", bits=4, scheme="affine"))
    assert type(module) is type(subject.module) and not module.training
    assert {n: t.shape for n, t in module.state_dict().items()} == {
        n: t.shape for n, t in subject.module.state_dict().items()
    }
    shared = {p.data_ptr() for p in subject.module.parameters()} & {p.data_ptr() for p in module.parameters()}
    assert not shared
    assert [p.requires_grad for p in module.parameters()] == [p.requires_grad for p in subject.module.parameters()]


@pytest.mark.parametrize("name", SAMPLES)
def test_masking_any_layer_changes_the_output(name: str, device: str) -> None:
    subject = few(name, device=device)
    x = subject.example(8)
    replica = Replica(subject.module, device)
    with torch.no_grad():
        plain = replica.module(x).clone()
        for layer in subject.layers:
            plan = resolve(subject, Recipe().prune(layer.name, threshold=1e9))
            with replica.weights(effective_weights(subject, plan), plan.norms) as masked:
                assert not torch.allclose(masked(x), plain, atol=1e-4), layer.name
            assert not torch.allclose(build(subject, plan)(x), plain, atol=1e-4), layer.name
        assert torch.equal(replica.module(x), plain)


ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU}


class Net(nn.Module):
    """A random small network: plain, residual, depthwise or concatenated convolutions, pooling, flatten, MLP."""

    def __init__(self, parts: list[str], widths: list[int], act: str, pool: str, hidden: int, bias: bool) -> None:
        super().__init__()
        self.parts, self.pool = parts, pool
        self.act = ACTIVATIONS[act]()
        channels, self.blocks = 2, nn.ModuleList()
        for part, width in zip(parts, widths, strict=True):
            if part == "residual":
                width = channels
                self.blocks.append(
                    nn.ModuleList([nn.Conv2d(channels, 3, 1, bias=bias), nn.Conv2d(3, width, 3, padding=1, bias=bias)])
                )
            elif part == "depthwise":
                width = channels
                self.blocks.append(
                    nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)])
                )
            elif part == "concat":
                self.blocks.append(
                    nn.ModuleList(
                        [nn.Conv2d(channels, width, 3, padding=1, bias=bias), nn.Conv2d(channels, 2, 1, bias=bias)]
                    )
                )
                width += 2
            elif part == "norm":
                self.blocks.append(
                    nn.ModuleList([nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)])
                )
            else:
                self.blocks.append(nn.ModuleList([nn.Conv2d(channels, width, 3, padding=1, bias=bias)]))
            channels = width
        self.size = {"flatten": 36, "max": 9, "global": 1}[pool]
        self.fc1, self.fc2 = nn.Linear(channels * self.size, hidden, bias=bias), nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        for part, block in zip(self.parts, self.blocks, strict=True):
            if part == "residual":
                x = self.act(x + block[1](self.act(block[0](x))))
            elif part == "concat":
                x = self.act(torch.cat([block[0](x), block[1](x)], 1))
            elif part == "norm":
                x = self.act(block[1](block[0](x)))
            else:
                x = self.act(block[0](x))
        x = F.max_pool2d(x, 2) if self.pool == "max" else F.adaptive_avg_pool2d(x, 1) if self.pool == "global" else x
        return self.fc2(self.act(self.fc1(x.flatten(1))))


@st.composite
def nets(draw: st.DrawFn) -> tuple[Net, int]:
    parts = draw(
        st.lists(st.sampled_from(["plain", "residual", "depthwise", "concat", "norm"]), min_size=1, max_size=4)
    )
    widths = draw(st.lists(st.integers(2, 5), min_size=len(parts), max_size=len(parts)))
    seed = draw(st.integers(0, 1000))
    torch.manual_seed(seed)
    act, pool = draw(st.sampled_from(sorted(ACTIVATIONS))), draw(st.sampled_from(["flatten", "max", "global"]))
    net = Net(parts, widths, act, pool, draw(st.integers(2, 6)), draw(st.booleans()))
    return randomize(net, seed), seed  # type: ignore[return-value]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(nets(), st.data())
def test_masked_equals_removed_in_random_networks(device: str, made: tuple[Net, int], data: st.DataObject) -> None:
    """Whatever is offered as a group can be removed exactly; what cannot be is refused before, with a reason."""
    net, seed = made
    net.to(device)
    subject = Subject(net, classification((2, 6, 6), n=16, seed=seed))
    before = state(net)
    groups = subject.groups
    assert any(group.name == "fc1" for group in groups)
    recipe = Recipe()
    for group in groups:
        if data.draw(st.booleans()):
            sparsity = data.draw(st.floats(0, 0.99))
            recipe = recipe.prune(group.producers[0], sparsity=sparsity, granularity="unit", criterion="random")
    if data.draw(st.booleans()):
        recipe = recipe.prune("*", sparsity=0.4)
    assert gap(subject, recipe) < 1e-9
    for layer in subject.layers:
        assert (layer.group is not None) != (layer.name in subject.structure.refused)
    assert unchanged(net, before)


def test_depthwise_then_flatten_loses_whole_feature_maps(device: str) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(96, 3),
    )  # fmt: skip
    subject = tiny(randomize(net), (1, 8, 8), device=device)
    recipe = Recipe().prune("0", sparsity=0.5, granularity="unit")
    module = compress(subject, recipe)
    assert module[0].weight.shape == (3, 1, 3, 3) and module[2].weight.shape == (3, 1, 3, 3) and module[2].groups == 3
    assert module[6].weight.shape == (3, 48) and gap(subject, recipe) < 1e-9


def test_what_stays_is_stored_contiguously(device: str) -> None:
    subject = tiny(MLP((6, 8, 8, 3)), device=device)
    module = compress(subject, Recipe().prune("*", sparsity=0.5, granularity="unit"))
    assert all(p.is_contiguous() for p in module.parameters())
    assert (module.fc[1].in_features, module.fc[1].out_features) == tuple(reversed(module.fc[1].weight.shape)) == (4, 4)


def test_a_compressed_module_can_be_trained_and_copied(device: str) -> None:
    import copy

    subject = tiny(device=device)
    module = copy.deepcopy(compress(subject, Recipe().prune("*", sparsity=0.5, granularity="unit"))).train()
    F.cross_entropy(module(subject.example(4)), torch.tensor([0, 1, 2, 0], device=device)).backward()
    torch.optim.SGD(module.parameters(), 0.1).step()
    assert all(p.grad is not None for p in module.parameters())


def test_a_wrong_module_is_never_handed_out(device: str) -> None:
    subject = tiny(device=device)
    plan = resolve(subject, Recipe().prune("fc.0", sparsity=0.5, granularity="unit"))
    module = build(subject, plan)
    assert verify(subject, plan, module) < 1e-5
    with torch.no_grad():
        module.fc[0].weight[0, 0] += 0.5
    with pytest.raises(VerificationError, match="differs"):
        verify(subject, plan, module)


def test_a_forward_that_fails_is_an_evaluation_error(device: str) -> None:
    class Bad(MLP):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("lost")

    with pytest.raises(EvaluationError, match="lost"):
        compress(tiny(Bad(), device=device), Recipe().prune("fc.0", sparsity=0.5))


def test_two_consumers_that_share_one_weight(device: str) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 3, bias=False), nn.Linear(8, 3, bias=False)
            self.c.weight = self.b.weight

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.a(x))
            return self.b(h) + 2 * self.c(h.flip(0))

    subject = tiny(Shared(), device=device)
    recipe = Recipe().prune("a", sparsity=0.5, granularity="unit")
    module = compress(subject, recipe)
    assert module.b.weight is module.c.weight and module.b.weight.shape == (3, 4) and gap(subject, recipe) < 1e-9
