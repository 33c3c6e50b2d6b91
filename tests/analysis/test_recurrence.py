"""Recurrent layers whose gradients are written by hand, against autograd through the same steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explorer.analysis import reductions
from explorer.analysis.cell_loops import tanh
from explorer.analysis.compiled import compiled
from explorer.analysis.evidence import gather
from explorer.analysis.look import Look
from explorer.analysis.probe import Probe
from explorer.analysis.taps import Watch, single_steps
from explorer.models.trial import difference
from explorer.models.unrolled import unrolled
from tests.contract.nets import exact, few, wide

KINDS: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (nn.LSTM, {"batch_first": True}), (nn.LSTM, {"bidirectional": True, "num_layers": 2, "bias": False}), (nn.GRU, {"num_layers": 2}),
    (nn.GRU, {"bias": False, "batch_first": True, "bidirectional": True}), (nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu", "bias": False}),
]  # fmt: skip


def loss(layer: nn.Module, x: Tensor, state: Any) -> Tensor:
    """It reads the output, and the final states by themselves."""
    out, final = layer(x, state)
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype, device=out.device).view(out.shape)
    return (out * weights).sum() + sum(
        (k + 2) * one.square().sum() for k, one in enumerate(final if isinstance(final, tuple) else (final,))
    )


def made(kind: type[nn.Module], settings: dict[str, Any], device: str) -> tuple[nn.Module, Tensor, Any, list[Tensor]]:
    """(the layer, input, initial state, everything that may have a gradient)."""
    torch.manual_seed(3)
    layer = unrolled(kind(4, 5, **settings).to(device, wide(device)))
    for parameter in layer.parameters():
        parameter.requires_grad_(True)
    x = torch.randn(3, 6, 4).to(device, wide(device)).requires_grad_(True)
    count = settings.get("num_layers", 1) * (1 + settings.get("bidirectional", False))
    batch = 3 if settings.get("batch_first") else 6
    states = [
        torch.randn(count, batch, 5).to(device, wide(device)).requires_grad_(True) for _ in range(1 + (kind is nn.LSTM))
    ]
    return layer, x, tuple(states) if kind is nn.LSTM else states[0], [x, *states, *layer.parameters()]


@pytest.mark.parametrize("least", [0, 1 << 16])  # entries from which on a CPU takes compiled loops
@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_gradients_by_hand_are_autograds(
    kind: type[nn.Module], settings: dict[str, Any], least: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reductions, "LITTLE", least)
    layer, x, state, leaves = made(kind, settings, device)
    plain = loss(layer, x, state)
    expected = torch.autograd.grad(plain, leaves)
    names = {id(parameter): name for name, parameter in layer.named_parameters()}
    with Watch(names, [name for name in names.values() if name.startswith("weight")]) as watch:
        seen = loss(layer, x, state)
    found = torch.autograd.grad(seen, leaves)
    states = [name for name in names.values() if "weight_hh" in name]
    with Watch(names, states, summed=states) as short:
        torch.autograd.grad(loss(layer, x, state), leaves)
    assert difference(plain.detach(), seen.detach()) < exact(device)
    assert difference(list(expected), list(found)) < exact(device)
    by_name = dict(zip([name for name, _ in layer.named_parameters()], found[len(leaves) - len(names) :], strict=True))
    for name in (name for name in by_name if name.startswith("weight")):
        (tap,) = watch.of(name)  # one product, of all steps
        assert tap.gradient is not None and tap.back is not None
        rows, columns = tap.gradient.flatten(0, 1), tap.inputs.flatten(0, 1)
        assert difference(rows.T @ columns, by_name[name]) < exact(device)
        assert difference(tap.gradient @ layer.get_parameter(name).detach(), tap.back) < exact(device)
        (other,) = short.of(name)
        if name in states:  # what states say of the loss, added up while it is made
            assert other.back is None and other.met is not None
            assert difference((tap.back * tap.inputs).sum(0), other.met) < exact(device)
        assert len(single_steps([tap])) == (6 if settings.get("batch_first") else 3)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_single_precision_is_the_kernels(kind: type[nn.Module], device: str) -> None:
    """As many entries as compiled loops are for, and gates that are nearly shut."""
    torch.manual_seed(5)
    kernel = kind(12, 40, num_layers=2, batch_first=True).to(device)
    with torch.no_grad():
        for parameter in kernel.parameters():
            parameter.mul_(2)
    x = torch.randn(64, 20, 12, device=device)
    layer = unrolled(kernel)
    found = []
    for module in (kernel, layer):
        for parameter in module.parameters():
            parameter.requires_grad_(True)
        with Watch({} if module is kernel else {id(p): n for n, p in layer.named_parameters()}):
            out, final = module(x)
            (out.square().sum() + sum(one.sum() for one in final)).backward()
        found.append([parameter.grad for _, parameter in sorted(module.named_parameters())])
    for one, other in zip(*found, strict=True):
        assert one is not None and one.abs().max() > 1
        assert difference(one, other) < 1e-5


def test_compiled_tanh_is_tanh_to_rounding() -> None:
    @compiled
    def each(x: np.ndarray) -> None:
        for k in range(len(x)):
            x[k] = tanh(x[k])

    x = np.concatenate([np.linspace(-12, 12, 200_001), [-np.inf, -1e-30, 0.0, 1e-30, np.inf, np.nan]])
    for dtype, close in ((np.float32, 4e-7), (np.float64, 1e-15)):
        found, expected = x.astype(dtype), np.tanh(x.astype(dtype).astype(np.float64))
        each(found)
        assert np.isnan(found[-1]) and np.abs(found).max(where=~np.isnan(found), initial=0) <= 1
        relative = np.abs(found - expected) / np.maximum(np.abs(expected), 1e-30)
        assert found.dtype == dtype and relative[:-1].max() < close


def test_chunks_that_share_memory_add_up(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = few("vowels-lstm", device=device)
    whole = gather(subject, Look(40, device=device))
    monkeypatch.setattr(Probe, "chunk", 16)  # the last one is smaller
    parts = gather(subject, Look(40, device=device))
    for table in ("gradient", "inputs"):
        one, other = getattr(whole, table), getattr(parts, table)
        assert all(difference(one[name], other[name]) < 1e-5 for name in one)
    assert all(difference(whole.relevance[name][0], parts.relevance[name][0]) < 1e-5 for name in whole.relevance)


def test_frozen_layers_are_seen_and_only_final_states_may_matter(device: str) -> None:
    layer, x, _, _ = made(nn.LSTM, {}, device)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    with Watch({id(layer.weight_hh_l0): "hh"}) as watch:
        layer(x.detach())[1][1].sum().backward()
    (tap,) = watch.of("hh")
    layer.weight_hh_l0.requires_grad_(True)
    layer(x.detach())[1][1].sum().backward()
    assert tap.gradient is not None and layer.weight_hh_l0.grad is not None
    assert difference(tap.gradient.flatten(0, 1).T @ tap.inputs.flatten(0, 1), layer.weight_hh_l0.grad) < exact(device)
    with torch.no_grad(), Watch({id(layer.weight_ih_l0): "ih"}) as watch:
        out, _ = layer(x)
    assert not out.requires_grad and len(watch.of("ih")) == 1 and watch.of("ih")[0].gradient is None


def test_a_pass_records_no_step(device: str) -> None:
    """What autograd records does not grow with the length: the pass over a recurrent model costs about what the model does."""
    subject = few("vowels-lstm", device=device)
    nodes: list[int] = []
    original = subject.task.loss
    assert original is not None

    def count(outputs: Any, targets: Any) -> Tensor:
        value: Any = original(outputs, targets)
        stack, known = [value.grad_fn], set()
        while stack:
            node = stack.pop()
            if node is not None and node not in known:
                known.add(node)
                stack += [one for one, _ in node.next_functions]
        nodes.append(len(known))
        return value

    object.__setattr__(subject.task, "loss", count)
    try:
        gather(subject, Look(16))
    finally:
        object.__setattr__(subject.task, "loss", original)
    frames = subject.task.batch("train", [0])[0].shape[1]
    assert frames == 29 and 0 < max(nodes) < 2 * frames
