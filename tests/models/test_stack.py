"""A stack of recurrent layers computes what torch.nn's modules compute, and takes and returns what they do."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from explorer.models.removal import remove
from explorer.models.stack import RecurrentStack, backwards
from explorer.models.trial import difference, tensors
from tests.contract.nets import exact, wide

KINDS: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (nn.LSTM, {}),
    (nn.LSTM, {"proj_size": 3}),
    (nn.GRU, {}),
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu"}),
]
FORMS = list(itertools.product(KINDS, (1, 2, 3), (False, True), (False, True), (False, True)))
MIX = [form for i, form in enumerate(FORMS) if i % 5 == 0 or form[1:] == (2, True, True, True)]


def _made(form: Any, device: str) -> tuple[Any, RecurrentStack]:
    (kind, more), layers, both, bias, first = form
    module: Any = kind(
        5, 6, num_layers=layers, bidirectional=both, bias=bias, batch_first=first, dtype=wide(device), **more
    )
    module.to(device)
    return module, RecurrentStack.like(module)


def _state(module: Any, batch: int | None) -> Any:
    first = module.weight_ih_l0

    def one(size: int) -> Tensor:
        shape = (module.num_layers * (1 + module.bidirectional), *(() if batch is None else (batch,)), size)
        return torch.randn(shape, dtype=first.dtype).to(first.device)

    h = one(getattr(module, "proj_size", 0) or module.hidden_size)
    return (h, one(module.hidden_size)) if isinstance(module, nn.LSTM) else h


def _apart(state: Any) -> Any:
    """The same state as one tensor a layer and direction."""
    return tuple(list(one) for one in state) if isinstance(state, tuple) else tuple(state)


def _check(module: Any, stack: RecurrentStack, device: str) -> None:
    padded, near = torch.randn(4, 7, 5, dtype=wide(device)).to(device), exact(device)
    for enforce, lengths in ((True, [7, 5, 5, 1]), (False, [3, 7, 1, 5])):
        packed = pack_padded_sequence(padded, torch.tensor(lengths), batch_first=True, enforce_sorted=enforce)
        state = _state(module, 4)
        for hx in (None, state):
            want, got = module(packed, hx), stack(packed, hx)
            assert isinstance(got[0], PackedSequence)
            assert difference((want[0].data, want[1]), (got[0].data, got[1])) <= near
            assert all(a is b or torch.equal(a, b) for a, b in zip(want[0][1:], got[0][1:], strict=True))
    for x, state in ((padded, _state(module, 4 if module.batch_first else 7)), (padded[0], _state(module, None))):
        want = module(x)
        got = stack(x)
        assert [t.shape for t in tensors(want)] == [t.shape for t in tensors(got)]
        assert difference(want, got) <= near
        assert difference(module(x, state), stack(x, state)) <= near
        assert difference(module(x, state), stack(x, _apart(state))) <= near


@pytest.mark.parametrize("form", MIX)
def test_stack_equals_torch(form: Any, device: str) -> None:
    module, stack = _made(form, device)
    with torch.no_grad():
        _check(module, stack, device)
        _check(module.eval(), stack.eval(), device)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_stack_equals_torch_in_every_form(form: Any, device: str) -> None:
    with torch.no_grad():
        _check(*_made(form, device), device)


def _drop(module: Any, tag: str, units: list[int]) -> dict[str, dict[int, Tensor]]:
    """What goes with some units of one layer and direction of a recurrent module named "rnn"."""
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[type(module)]
    hidden = module.hidden_size
    rows = torch.tensor([g * hidden + u for g in range(gates) for u in units])
    index, projected = torch.tensor(units), getattr(module, "proj_size", 0)
    out: dict[str, dict[int, Tensor]] = {f"rnn.weight_ih_{tag}": {0: rows}, f"rnn.weight_hh_{tag}": {0: rows}}
    for name in ("bias_ih", "bias_hh"):
        if module.bias:
            out[f"rnn.{name}_{tag}"] = {0: rows}
    if projected:
        out[f"rnn.weight_hr_{tag}"] = {1: index}
        return out
    out[f"rnn.weight_hh_{tag}"][1] = index
    layer, reverse = int(tag[1:].removesuffix("_reverse")) + 1, tag.endswith("_reverse")
    for suffix in ("", "_reverse")[: 1 + module.bidirectional]:
        if layer < module.num_layers:
            out[f"rnn.weight_ih_l{layer}{suffix}"] = {1: index + hidden * reverse}
    return out


def _masked(root: nn.Module, dropped: dict[str, dict[int, Tensor]]) -> None:
    """Zero the columns that read the units."""
    for name, dims in dropped.items():
        if 1 in dims:
            root.get_parameter(name).data[:, dims[1]] = 0


@pytest.mark.parametrize("form", [form for i, form in enumerate(FORMS) if form[1] == 2 or i % 4 == 0])
def test_layers_of_different_sizes_equal_masked_ones(form: Any, device: str) -> None:
    module, _ = _made(form, device)
    tags = [f"l{i}{s}" for i in range(module.num_layers) for s in ("", "_reverse")[: 1 + module.bidirectional]]
    tag = tags[len(tags) // 2]
    masked, removed = nn.ModuleDict({"rnn": module}), nn.ModuleDict({"rnn": _made(form, device)[0]})
    removed.load_state_dict(masked.state_dict())
    dropped = _drop(module, tag, [0, 2, 5])
    _masked(masked, dropped)
    remove(removed, dropped)
    stack: Any = removed["rnn"]
    assert isinstance(stack, RecurrentStack) == (len(tags) > 1 or "proj_size" in form[0][1])
    at = tags.index(tag)
    stays = torch.tensor([1, 3, 4])
    projected = bool(getattr(module, "proj_size", 0))
    x = torch.randn(3, 7, 5, dtype=wide(device)).to(device)
    for data in (x, x[0], pack_padded_sequence(x, torch.tensor([5, 7, 2]), batch_first=True, enforce_sorted=False)):
        batch = None if isinstance(data, Tensor) and data.ndim == 2 else 3 if module.batch_first or data is not x else 7
        state = _state(module, batch)
        hs, cs = state if isinstance(state, tuple) else (state, state)
        short = [list(part.unbind(0)) for part in (hs, cs)]
        for part in short[1:] if projected else short:  # a projected h keeps its size
            part[at] = part[at][..., stays]
        if len(tags) == 1:
            short = [list(part.unbind(0)) for part in (hs, cs)]
            for part in short[1:] if projected else short:  # a projected h keeps its size
                part[at] = part[at][..., stays]
        if len(tags) == 1:
            short = [torch.stack(part) for part in short]  # type: ignore[misc]
        for full, cut in ((None, None), (state, tuple(short) if isinstance(state, tuple) else short[0])):
            with torch.no_grad():
                want, got = module(data, full), stack(data, cut)
            out, other = (one[0].data if isinstance(one[0], PackedSequence) else one[0] for one in (want, got))
            if (
                at >= len(tags) - 1 - module.bidirectional and not projected
            ):  # a unit of the last layer leaves the output
                first = module.hidden_size * tags[at].endswith("_reverse")
                keep = torch.tensor([i for i in range(out.shape[-1]) if i - first not in (0, 2, 5)])
                out = out[..., keep]
            assert difference(out, other) <= exact(device)
            finals = [want[1], got[1]] if not isinstance(want[1], tuple) else [want[1][1], got[1][1]]
            for i, (a, b) in enumerate(zip(*finals, strict=True)):
                assert difference(a[..., stays] if i == at else a, b) <= exact(device)


def test_dropout_between_layers_acts_in_training_alone(device: str) -> None:
    stack = RecurrentStack("GRU", 5, (6, 4), dropout=0.5, batch_first=True).to(device, wide(device))
    for parameter in stack.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    x = torch.randn(3, 7, 5, dtype=wide(device)).to(device)
    assert difference(stack(x)[0], stack(x)[0]) > 1e-3
    stack.eval()
    assert difference(stack(x)[0], stack(x)[0]) == 0


def test_attributes_are_those_of_the_original(device: str) -> None:
    stack = RecurrentStack("LSTM", 5, (6, 4, 6, 6), bidirectional=True, batch_first=True, proj_sizes=(3, 3, 3, 3)).to(
        device
    )
    stack.flatten_parameters()
    assert (stack.num_layers, stack.bidirectional, stack.batch_first) == (2, True, True)
    assert (stack.hidden_size, stack.proj_size, stack.input_size) == ((6, 4, 6, 6), 3, 5)
    original = nn.LSTM(5, 6, 2, bidirectional=True, batch_first=True, proj_size=3)
    assert [n for n, _ in stack.named_parameters()] == [n for n, _ in original.named_parameters()]
    state = stack(torch.randn(2, 4, 5).to(device))[1]
    assert isinstance(state[0], Tensor) and [tuple(c.shape) for c in state[1]] == [(2, 6), (2, 4), (2, 6), (2, 6)]
    assert "hidden_sizes=(6, 4, 6, 6)" in repr(stack)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("QRNN", 5, (6,)), "mode 'QRNN'"),
        (("LSTM", 5, ()), "0 hidden sizes"),
        (("LSTM", 5, (6, 4, 3), True, False, 0.0, True), "one a layer and direction"),
        (("GRU", 5, (6,), True, False, 0.0, False, "tanh", (3,)), "of LSTM only"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecurrentStack(*arguments)


def test_inputs_that_do_not_fit_are_refused(device: str) -> None:
    stack = RecurrentStack("GRU", 5, (6, 4)).to(device)
    with pytest.raises(ValueError, match="4 dims"):
        stack(torch.zeros(1, 1, 2, 5, device=device))
    with pytest.raises(RuntimeError, match="initial states of shapes"):
        stack(torch.zeros(3, 2, 5, device=device), torch.zeros(2, 2, 6, device=device))


def test_reversing_packed_data_is_its_own_inverse(device: str) -> None:
    index = backwards(torch.tensor([4, 3, 3, 1, 1]))
    assert torch.equal(index[index], torch.arange(12))
    assert index.tolist() != list(range(12))
