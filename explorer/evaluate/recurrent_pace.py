"""Whether steps by hand are faster than torch's kernel of a recurrent layer, measured once a process and shape."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from .recurrent import NARROW, of_input, recurrent_layer, stepped, straight

STEPS = 16  # that are measured of a longer sequence
ROUNDS = 3
LARGEST = 1 << 27  # bytes that what inputs contribute to one batch may take
GATES = {"LSTM": 4, "GRU": 3}

_known: dict[Any, bool] = {}
_lock = threading.Lock()


def by_hand(module: Any, layer: int, steps: int, inputs: int, batch: int) -> bool:
    """For one layer of an nn.LSTM, GRU or RNN, as torch's threads are set. steps, inputs: of its sequences; batch: of samples.

    Where what inputs contribute would be large beside all else that an evaluation holds, torch's kernel does not need it.
    """
    rows = GATES.get(module.mode, 1) * module.hidden_size * (1 + module.bidirectional)
    if 4 * steps * batch * rows > LARGEST:
        return False
    inputs = inputs if layer == 0 else module.hidden_size * (1 + module.bidirectional)
    shape = (module.mode, min(steps, STEPS), batch, inputs, module.hidden_size, torch.get_num_threads())
    with _lock:
        if shape not in _known:
            _known[shape] = _measure(*shape[:-1])
        return _known[shape]


@torch.inference_mode()
def _measure(mode: str, steps: int, batch: int, inputs: int, size: int) -> bool:
    """Of a weight of the input and one of the state, both dragged once: with the second, what the input contributes is there, unless it is narrow."""
    rows = size * GATES.get(mode, 1)
    x, bias = torch.full((steps, batch, inputs), 0.1), torch.zeros(rows)
    own, other = (torch.full((rows, n), 0.01) for n in (inputs, size))
    read, rest = of_input(x, own, False), (None, other, (bias, bias), mode, False, 0, False)
    works: list[Callable[[], Any]] = [
        lambda: recurrent_layer(x, None, [own, other, bias, bias], mode, True, False, False, 0),
        lambda: straight(x, own, False, *rest),
        lambda: stepped(read, *rest),
    ]
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    took = [float("inf")] * len(works)
    for turn in range(1 + ROUNDS):  # the first compiles, and chooses kernels
        for i, work in enumerate(works):
            began = clock()
            work()
            took[i] = min(took[i], clock() - began) if turn else took[i]
    return took[1] + took[1 if inputs <= NARROW else 2] < 2 * took[0]
