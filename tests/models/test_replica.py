from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

from explorer.core.errors import UnsupportedError
from explorer.models.replica import Replica, share
from tests.contract.nets import CharLM, state, unchanged


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_swapped_recurrent_weights_are_really_used(layer: type[nn.Module], bidirectional: bool, device: str) -> None:
    torch.manual_seed(0)
    module = layer(3, 4, 2, batch_first=True, bidirectional=bidirectional).to(device)
    x = torch.randn(2, 5, 3).to(device)
    replica = Replica(module, device)
    with torch.no_grad():
        plain = module(x)[0]
        assert torch.allclose(replica.module(x)[0], plain, atol=1e-7)
        for name, parameter in module.named_parameters():
            with replica.weights({name: torch.zeros_like(parameter)}) as masked:
                found = masked(x)[0]
            reference = layer(3, 4, 2, batch_first=True, bidirectional=bidirectional).to(device)
            reference.load_state_dict(module.state_dict() | {name: torch.zeros_like(parameter)})
            assert torch.allclose(found, reference(x)[0], atol=1e-7) and not torch.allclose(found, plain, atol=1e-6)
            assert torch.allclose(replica.module(x)[0], plain, atol=1e-7)


def test_weights_are_restored_after_an_exception(device: str) -> None:
    module = nn.Linear(3, 2).to(device)
    replica = Replica(module, device)
    with pytest.raises(ZeroDivisionError), replica.weights({"weight": torch.zeros(2, 3, device=device)}):
        1 / 0  # noqa: B018
    assert torch.equal(replica.module.weight, module.weight)
    with (
        pytest.raises(KeyError),
        replica.weights({"weight": torch.zeros(2, 3, device=device), "nope": torch.zeros(1, device=device)}),
    ):
        pass
    assert torch.equal(replica.module.weight, module.weight)


def test_the_original_is_never_written_to(device: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).to(device).train()
    before = state(module)
    replica = Replica(module, device)
    with replica.weights({"0.weight": torch.zeros(3, 1, 3, 3, device=device)}) as masked:
        masked.train()(torch.randn(2, 1, 5, 5).to(device))  # batch statistics are written to the copy
    assert unchanged(module, before) and module.training and module[1].training


def test_a_copy_shares_parameters_not_buffers_and_keeps_ties(device: str) -> None:
    module = CharLM(tie=True).to(device)
    copied = share(module)
    assert not copied.training and module.training
    assert copied.head.weight is copied.embedding.weight
    own = dict(module.named_parameters())
    for name, parameter in copied.named_parameters():
        assert parameter.data_ptr() == own[name].data_ptr() and parameter is not own[name]
        assert not parameter.requires_grad and own[name].requires_grad
    norm = nn.BatchNorm1d(3).to(device)
    assert share(norm).running_mean.data_ptr() != norm.running_mean.data_ptr()


def test_another_dtype_is_a_copy(device: str) -> None:
    module = nn.Linear(3, 2).to(device)
    replica = Replica(module, device, torch.bfloat16)
    assert replica.module.weight.dtype == torch.bfloat16 and module.weight.dtype == torch.float32
    with replica.weights({"weight": torch.ones(2, 3, device=device)}) as masked:
        assert masked.weight.dtype == torch.bfloat16 and masked.weight.sum() == 6


def test_threads_never_see_each_others_weights(device: str) -> None:
    module = nn.Linear(8, 1, bias=False).to(device)
    replica, wrong = Replica(module, device), []
    x = torch.ones(1, 8, device=device)

    def work(value: float) -> None:
        for _ in range(200):
            with replica.weights({"weight": torch.full((1, 8), value, device=device)}) as masked, torch.no_grad():
                if masked(x).item() != 8 * value:
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and torch.equal(replica.module.weight, module.weight)


def test_a_module_that_cannot_be_copied_says_what_to_do(device: str) -> None:
    pruned = nn.Sequential(nn.Linear(2, 2)).to(device)
    torch.nn.utils.prune.l1_unstructured(pruned[0], "weight", 0.5)
    with pytest.raises(UnsupportedError, match="Sequential cannot be copied.*accepted: .*remove"):
        share(pruned)


def test_those_who_wait_take_turns(device: str) -> None:
    """Somebody who holds the replica again and again must not starve another: a drag would wait for a full run."""
    replica = Replica(nn.Linear(2, 2), device)
    turns: list[str] = []
    started = threading.Event()

    def often() -> None:
        for _ in range(30):
            with replica.weights({}):
                turns.append("often")
                started.set()
                threading.Event().wait(0.005)  # as torch does, this lets other threads run while the replica is held

    def once() -> None:
        assert started.wait(10)
        with replica.weights({}):
            turns.append("once")

    threads = [threading.Thread(target=often), threading.Thread(target=once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert turns.index("once") <= 15, turns
