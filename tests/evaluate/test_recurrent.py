"""Steps of recurrent layers by hand are torch's recurrent layers, and what an input contributes is computed once."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from explorer.compress.resolve import resolve
from explorer.core.recipe import Recipe
from explorer.evaluate import recurrent, recurrent_pace
from explorer.evaluate.chunk import batches
from explorer.evaluate.engine import Engine
from explorer.evaluate.expand import split_stacks
from explorer.evaluate.scan import scan_of
from explorer.models.subject import Subject
from explorer.models.trace import forget_missing
from explorer.models.trial import difference
from tests.contract.nets import classification, few
from tests.evaluate.test_replay import TUNED, columns, engines, outputs, the_same

KINDS = [(nn.LSTM, {}), (nn.GRU, {}), (nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"})]


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> str:
    """The device, and steps by hand there, whatever is faster."""
    monkeypatch.setattr(recurrent_pace, "by_hand", lambda *_: True)
    return "cpu"


class Net(nn.Module):
    def __init__(self, rnn: Any) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, state: Any = None) -> Any:
        return self.rnn(x, state)


def rewritten(net: nn.Module, state: bool) -> fx.GraphModule:
    forget_missing()  # as every trace of ours does
    graph = fx.Tracer().trace(net, None if state else {"state": None})
    assert split_stacks(graph, net.get_submodule, lambda *_: True)
    rnn: Any = net.rnn
    ways = 1 + rnn.bidirectional
    narrow = ways * (rnn.input_size <= recurrent.NARROW)  # nothing is kept of the first layer's input
    kinds = [node.target for node in graph.nodes]
    assert (
        kinds.count(recurrent.straight) == narrow and kinds.count(recurrent.stepped) == rnn.num_layers * ways - narrow
    )
    return fx.GraphModule(net, graph)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_they_are_torchs(data: st.DataObject) -> None:
    kind, more = data.draw(st.sampled_from(KINDS))
    flags = {key: data.draw(st.booleans(), key) for key in ("bias", "batch_first", "bidirectional")}
    steps, n, inputs, size, layers = (data.draw(st.integers(1, most)) for most in (5, 19, 33, 35, 3))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    rnn = kind(inputs, size, layers, dropout=0.5 if layers > 1 else 0.0, **flags, **more).eval()
    x = data.draw(st.sampled_from([0.1, 1.0, 30.0])) * torch.randn(n, steps, inputs)
    x = x if flags["batch_first"] else x.transpose(0, 1)
    shape = (layers * (1 + flags["bidirectional"]), n, size)
    state: Any = (torch.randn(shape), torch.randn(shape)) if kind is nn.LSTM else torch.randn(shape)
    given_state = data.draw(st.booleans(), "state")
    args = (x, state) if given_state else (x,)
    with torch.inference_mode():
        expected, found = rnn(*args), rewritten(Net(rnn), given_state)(*args)
    assert found[0].shape == expected[0].shape
    assert difference(expected, found) <= 2e-6


@pytest.mark.parametrize(("kind", "more"), KINDS)
@pytest.mark.parametrize("back", [False, True])
@torch.inference_mode()
def test_kept_or_not_they_are_the_same_to_the_last_bit(kind: type[nn.Module], more: dict[str, Any], back: bool) -> None:
    torch.manual_seed(0)
    rnn: Any = kind(7, 33, batch_first=True, **more)
    own, other, *bias = (p.detach() for p in rnn.parameters())
    rest = (None, other, tuple(bias), rnn.mode, True, 0, back)
    for x in (torch.randn(21, 6, 7), torch.randn(6, 21, 7).transpose(0, 1), torch.randn(21, 7, 6).transpose(1, 2)):
        read = recurrent.of_input(x, own, True)
        before = read.clone()
        kept, straight = recurrent.stepped(read, *rest), recurrent.straight(x, own, True, *rest)
        copied = recurrent.stepped(read.contiguous(), *rest)  # as batches are put together
        assert difference(kept, straight) == difference(kept, copied) == 0
        assert torch.equal(read, before), "what is kept was written to"


@torch.inference_mode()
def test_what_is_no_number_stays_none() -> None:
    for kind, more in KINDS:
        rnn: Any = kind(3, 20, batch_first=True, **more)
        x = torch.randn(4, 5, 3)
        x[2, 3, 1] = torch.nan
        out = rewritten(Net(rnn), False)(x)[0]
        assert torch.equal(out.isnan(), rnn(x)[0].isnan()) and out.isnan().any()


@pytest.mark.parametrize("name", ["vowels-lstm", "surnames-gru", "vowels-rnn", "moby-lstm"])
def test_samples(name: str, by_hand: str) -> None:
    subject = few(name, 24, by_hand)
    pair = engines(subject, by_hand)
    graph = pair[0].runner.graph  # type: ignore[attr-defined]
    assert any(node.target in (recurrent.stepped, recurrent.straight) for node in graph.nodes)
    if name == "vowels-lstm":  # sets what it says behind a sequence's end to zero, and reads no states
        code = graph.part([], [], graph.nodes[-1].args[0]).__self__.code
        assert "scale_into(" in code and "recurrent_states" not in code
    layers = [layer.name for layer in subject.layers]
    unit = Recipe().prune(subject.groups[-1].producers[0], sparsity=0.5, granularity="unit")
    recipes = [Recipe().prune(layer, sparsity=0.5) for layer in (*layers, layers[0])]
    recipes += [unit, unit.prune(layers[1], sparsity=0.3).quantize(layers[-2], bits=4)]
    for recipe in recipes:
        the_same(pair, recipe)
    for recipe in recipes[-2:]:
        assert difference(*outputs(pair[0], recipe)) <= 1e-5


def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long the sums of products of matrices are, from here on."""
    found, real = [], torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, **how: found.append(a.shape[1]) or real(a, b, **how))
    return found


def test_what_an_input_contributes_is_kept_while_a_states_weights_are_dragged(
    by_hand: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = few("surnames-gru", 32, by_hand)  # 64 in, 96 units, 20 steps, two directions
    run = Engine(subject, torch.device(by_hand), TUNED)  # two batches
    columns(run, Recipe().prune("gru.weight_hh_l0", sparsity=0.2))
    seen = products(monkeypatch)
    columns(run, Recipe().prune("gru.weight_hh_l0", sparsity=0.3))
    assert seen == [96] * 40, "of the other direction, too, nothing ran again"
    columns(run, Recipe().prune("gru.weight_ih_l0", sparsity=0.3))  # the first of its drag
    del seen[:]
    columns(run, Recipe().prune("gru.weight_ih_l0", sparsity=0.4))
    assert sorted(seen) == [64] * 40 + [96] * 40


def test_a_scan_computes_what_an_input_contributes_once(by_hand: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = few("surnames-gru", 32, by_hand)
    run = Engine(subject, torch.device(by_hand), TUNED)

    def scan(*sparsities: float) -> None:
        plans = [resolve(subject, Recipe().prune("gru.weight_hh_l0", sparsity=one)) for one in sparsities]
        with run.work() as work:
            assert list(scan_of(run, resolve(subject, Recipe()), plans, "validation", None).steps(work)) == [32]

    scan(0.1)  # compared with the module, and the base itself evaluated
    seen = products(monkeypatch)
    scan(0.2, 0.4, 0.6)
    assert seen.count(64) == 2 * 40, "in two batches once a direction and step, for all points together"
    assert seen.count(96) == 40 + 3 * 40, "of the direction that no point changes once"


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_only_what_fits_is_computed_by_hand() -> None:
    def seen(rnn: nn.Module, *calls: Any) -> dict[str, Any]:
        net = Net(rnn)
        return recurrent.watched(net, lambda: [net(x) for x in calls])[1]

    x, packed = torch.randn(4, 5, 3), nn.utils.rnn.pack_sequence([torch.randn(2, 3), torch.randn(1, 3)])
    assert seen(nn.LSTM(3, 2, batch_first=True), x) == {"rnn": (5, 3)} and seen(nn.GRU(3, 2), x) == {"rnn": (4, 3)}
    assert seen(nn.GRU(3, 2), packed) == seen(nn.GRU(3, 2), x, packed) == seen(nn.GRU(3, 2), x[0]) == {}
    assert seen(nn.LSTM(3, 2, proj_size=1), x) == seen(nn.GRU(3, 2).double(), x.double()) == {}


def test_packed_sequences_stay_torchs(by_hand: str) -> None:
    class Packs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(6, 5, 2, batch_first=True), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            lengths = torch.full((x.shape[0],), 3)
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.head(self.rnn(packed)[1][0][-1])

    torch.manual_seed(0)
    subject = Subject(Packs(), classification((4, 6)), "packs")
    pair = engines(subject, by_hand)
    for recipe in (Recipe().prune("rnn.weight_hh_l0", sparsity=0.5), Recipe().prune("head", sparsity=0.5)):
        the_same(pair, recipe)
        assert difference(*outputs(pair[0], recipe)) <= 1e-5


@pytest.mark.parametrize("slow", ["straight", "recurrent_layer"])
def test_what_was_measured_to_be_faster_is_taken_and_measured_once(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [], getattr(recurrent_pace, slow)

    def slowly(*args: Any) -> Any:
        calls.append(args)
        time.sleep(0.01)
        torch.randn(300, 300) @ torch.randn(300, 300)  # what sleeps takes no time of a thread
        return real(*args)

    monkeypatch.setattr(recurrent_pace, slow, slowly)
    monkeypatch.setattr(recurrent_pace, "_known", {})
    rnn = nn.GRU(2, 3)
    assert recurrent_pace.by_hand(rnn, 0, 4, 2, 2) is (slow == "recurrent_layer")
    assert len(calls) == 1 + recurrent_pace.ROUNDS
    recurrent_pace.by_hand(rnn, 0, 4, 2, 2)
    assert len(calls) == 1 + recurrent_pace.ROUNDS


def test_what_inputs_contribute_is_not_kept_where_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent_pace, "_measure", lambda *_: True)
    monkeypatch.setattr(recurrent_pace, "_known", {})
    rnn = nn.LSTM(8, 64, bidirectional=True)  # 2 KB a step and sample
    assert recurrent_pace.by_hand(rnn, 0, 512, 8, 128) and not recurrent_pace.by_hand(rnn, 0, 513, 8, 128)


def test_a_small_rest_goes_with_the_last_batch() -> None:
    assert batches(150, 128) == ((0, 150),) and batches(64, 64) == ((0, 64),) and batches(5, 64) == ((0, 5),)
    assert batches(160, 128) == ((0, 128), (128, 160)) and batches(140, 64) == ((0, 64), (64, 140))
