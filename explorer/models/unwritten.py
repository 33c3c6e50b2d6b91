"""A forward that writes to its own weights is stopped before it does: copies share them with the module that somebody gave."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..core.errors import UnsupportedError
from ..core.message import say


class WritesError(UnsupportedError):
    """A forward was about to write to a weight."""


class Unwritten(TorchDispatchMode):
    """Within the block, operations on the parameters of ``module`` that write to them raise :class:`WritesError` instead."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        places = {one.untyped_storage().data_ptr(): name for name, one in module.named_parameters() if type(one.data) is Tensor}
        self._names = {place: name for place, name in places.items() if place}  # none where a tensor has no memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._look(args[i] if i < len(args) else kwargs.get(argument.name))
        return func(*args, **kwargs)

    def _look(self, written: Any) -> None:
        for one in written if isinstance(written, (list, tuple)) else (written,):
            name = self._names.get(one.untyped_storage().data_ptr()) if type(one) in (Tensor, nn.Parameter) else None
            if name is not None:
                raise WritesError(
                    say(
                        "{weight}: the model's forward writes to it, which would change the module that was given; accepted: a forward that leaves its "
                        "weights as they are, for instance with them clamped or normalized once and for all",
                        weight=name,
                    )
                )
