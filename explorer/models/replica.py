"""A structural copy of a module that shares the original's weights, into which other weights can be swapped."""

from __future__ import annotations

import copy
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import UnsupportedError, cause
from ..core.message import say
from .device import place
from .layered import PIECE, Layered
from .layout import to_channels_last
from .norms import over_survivors
from .sites import rounded

PLAIN = (bool, int, float, str, type(None))
LARGE = 1 << 30  # bytes of weights from which on changed ones are made layer by layer, each when it is about to run


def share(module: nn.Module) -> nn.Module:
    """Copy the structure of ``module`` in eval mode; parameters are new objects over the *same storage*.

    Buffers are copied, since a forward pass may write to them. Tied parameters stay tied. Raises
    :class:`UnsupportedError` for a module that ``copy.deepcopy`` cannot copy.
    """
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        # not detach(), which shares the count of writes: cuDNN lays out the weights of a copy, and the original's count would move
        memo[id(parameter)] = nn.Parameter(parameter.data, requires_grad=False)
    buffers = [buffer for buffer in module.buffers() if type(buffer) is Tensor and buffer.layout == torch.strided]
    uses = Counter(buffer.untyped_storage().data_ptr() for buffer in buffers)
    for buffer in buffers:  # several times faster than deepcopy, which keeps account of storages that tensors have in common
        if uses[buffer.untyped_storage().data_ptr()] == 1:
            memo[id(buffer)] = buffer.detach().clone()
    for part in list(module.modules()):  # a dozen tables of hooks a module, nearly all empty: most of the time that copying takes
        made = _plain_copy(part, memo)
        memo |= {id(part): made} if made is not None else {id(table): type(table)() for table in part.__dict__.values() if type(table) in (dict, OrderedDict) and not table}
    try:
        return copy.deepcopy(module, memo).eval()
    except Exception as error:  # a weight computed from others, a lock, an open file
        raise UnsupportedError(
            say(
                "{type} cannot be copied ({cause}); accepted: a module that copy.deepcopy copies; make computed weights "
                "permanent first (torch.nn.utils.prune.remove, remove_weight_norm)",
                type=type(module).__name__,
                cause=cause(error, 120),
            )
        ) from error


def _plain_copy(part: nn.Module, memo: Mapping[int, object]) -> nn.Module | None:
    """A layer of torch.nn that has nothing but tensors, which ``memo`` has, numbers, and empty tables; None for others."""
    if not type(part).__module__.startswith("torch.nn.modules") or part._modules:
        return None
    made: dict[str, object] = {}
    for key, value in part.__dict__.items():
        kind: Any = type(value)
        if kind in (dict, OrderedDict):
            if not {id(one) for one in value.values() if one is not None} <= memo.keys():
                return None
            made[key] = kind((name, None if one is None else memo[id(one)]) for name, one in value.items())
        elif kind in (list, tuple, set) and all(type(one) in PLAIN for one in value):
            made[key] = kind(value)
        elif kind in PLAIN:
            made[key] = value
        else:
            return None
    copied = object.__new__(type(part))
    copied.__dict__.update(made)
    return copied


class FairLock:
    """A reentrant lock that is handed to whoever has waited longest; threading's may go to the same thread for ever."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._owner: int | None = None
        self._depth = 0
        self._line: deque[tuple[int, threading.Lock]] = deque()

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._mutex:
            if self._owner in (None, me):
                self._owner, self._depth = me, self._depth + 1
                return
            gate = threading.Lock()
            gate.acquire()
            self._line.append((me, gate))
        gate.acquire()  # let go by the one before, who has made us the owner

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            self._depth -= 1
            if self._depth:
                return
            self._owner = None
            if self._line:
                self._owner, gate = self._line.popleft()
                self._depth = 1
                gate.release()


class Replica:
    """Runs a module with some of its weights replaced, without touching the original.

    One thread at a time: ``weights`` holds a lock. device and dtype other than the original's cost one copy of the
    weights, shared by everybody who uses this replica; channels_last one of the weights of convolutions. Changed weights of a
    module of more than ``large`` bytes are looked up when the layer that holds them runs, and let go behind it.
    """

    def __init__(
        self,
        module: nn.Module,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
        large: int | None = None,
    ) -> None:
        self.device, self.dtype, self.channels_last = torch.device(device), dtype, channels_last
        self.module = share(module)._apply(self.convert)
        self._parameters = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        self._base = {name: parameter.data for name, parameter in self._parameters.items()}
        self.lock = FairLock()
        self.layered = (
            Layered(self.module, self._parameters)
            if weight_bytes(module) > (LARGE if large is None else large)
            else None
        )
        self.piece = PIECE if large is None else min(PIECE, large)

    def convert(self, tensor: Tensor) -> Tensor:
        """A weight in this replica's device, dtype and layout."""
        tensor = place(tensor, self.device, self.dtype)
        return to_channels_last(tensor) if self.channels_last and tensor.ndim == 4 else tensor

    @property
    def names(self) -> Mapping[str, nn.Parameter]:
        """The parameters by name; tied ones once."""
        return self._parameters

    @contextmanager
    def weights(
        self,
        replaced: Mapping[str, Tensor],
        norms: Mapping[str, Tensor] | None = None,
        inputs: Mapping[str, nn.Module] | None = None,
    ) -> Iterator[nn.Module]:
        """Within the block the module computes with ``replaced`` {FQN of a parameter or buffer: tensor of its shape}.

        norms: {FQN of a norm: indices of removed units}; its statistics are taken over the others. inputs: {weight FQN:
        module applied to what the weight multiplies}.

        ``Parameter.data`` is swapped rather than the attribute, so that recurrent modules, which keep a list of
        their weights, see the change too.
        """
        turns = {name: partial(self._made, replaced, name) for name in replaced if self._takes_turns(name)}
        with self.lock:
            try:
                for name in replaced:
                    if name not in turns:
                        self._parameters[name].data = self._made(replaced, name)
                if norms or inputs or self.layered is not None:
                    roundings = {name: one.to(self.device) for name, one in (inputs or {}).items()}
                    with over_survivors(self.module, norms or {}), rounded(self.module, roundings), self._lent(turns):
                        yield self.module
                else:  # the usual case, many times a second
                    yield self.module
            finally:
                for name in replaced:
                    self._parameters[name].data = self._base[name]

    def _made(self, replaced: Mapping[str, Tensor], name: str) -> Tensor:
        return self.convert(replaced[name])

    def _takes_turns(self, name: str) -> bool:
        """Whether a weight is there for its layer alone: norms, which are small, are read by hooks, too."""
        base = self._base.get(name)
        if self.layered is None or base is None or base.ndim < 2 or name in self.layered.fixed:
            return False
        return base.numel() * base.element_size() >= self.piece

    def _lent(self, turns: Mapping[str, Callable[[], Tensor]]) -> AbstractContextManager[None]:
        return nullcontext() if self.layered is None else self.layered.lent(turns)


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters."""
    return sum(p.numel() * p.element_size() for p in module.parameters())
