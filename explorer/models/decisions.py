"""What a forward decides by its data: ``if x.sum() > 0``. Noticed, and on demand decided the other way."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_TORCH, _HERE = (os.path.dirname(file) + os.sep for file in (torch.__file__, __file__))
_LIBRARIES = (_TORCH, _HERE)  # here: the modules that take the place of torch's own
_BETWEEN = (__file__, f"{_HERE}record.py", f"{_TORCH}overrides.py", f"{_TORCH}_tensor.py")
# what depends on a tensor's kind and shape alone
METADATA = frozenset(
    "__get__ __len__ __hash__ __repr__ __format__ size dim ndimension numel nelement stride storage_offset data_ptr element_size type "
    "get_device is_floating_point is_complex is_contiguous is_inference is_conj is_neg is_signed is_pinned is_shared is_same_size "
    "is_tensor is_storage result_type can_cast has_names dense_dim sparse_dim __reduce_ex__ __deepcopy__".split()
)


class Decisions(TorchFunctionMode):
    """Notes in order how tensors turn into True or False outside of torch's own code.

    forced: outcomes of the first of them, whatever the data say; the others are the data's own.
    made: [(where: file and line, outcome)] of what was decided. numbers: where floating data became a number. Numbers that ``.item()`` takes out of floating tensors are watched, too:
    comparing them is a decision.
    """

    def __init__(self, forced: Sequence[bool] = ()) -> None:
        super().__init__()
        self.forced = tuple(forced)
        self.made: list[tuple[str, bool]] = []
        self.numbers: list[str] = []

    def decide(self, outcome: bool, where: str) -> bool:
        if len(self.made) < len(self.forced):
            outcome = self.forced[len(self.made)]
        self.made.append((where, outcome))
        return outcome

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        return self.python_value(func, args, value) if isinstance(value, (bool, float)) else value

    def python_value(self, func: Any, args: Any, value: bool | float) -> Any:
        """What a function made of tensors, as the forward gets it."""
        name = getattr(func, "__name__", "")
        if name in METADATA or not any(isinstance(one, Tensor) for one in args) or (where := caller()) is None:
            return value
        if isinstance(value, bool):
            return self.decide(value, where)
        self.numbers.append(where)
        return Watched(value, self) if name == "item" else value


def caller() -> str | None:
    """File and line of the code that called torch; None where a layer of torch, or one in its place, did."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename in _BETWEEN:
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(_LIBRARIES):
        return None
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


class Watched(float):
    """A number out of a tensor: comparisons are decisions, and arithmetic keeps watching."""

    judge: Decisions

    def __new__(cls, value: float, judge: Decisions) -> Watched:
        made = super().__new__(cls, value)
        made.judge = judge
        return made

    def __bool__(self) -> bool:
        return self.judge.decide(float(self) != 0, caller() or "")

    __hash__ = float.__hash__


def _compared(name: str) -> Callable[[Watched, Any], Any]:
    def compare(self: Watched, other: Any) -> Any:
        found = getattr(float, name)(self, other)
        return self.judge.decide(found, caller() or "") if isinstance(found, bool) else found

    return compare


def _computed(name: str) -> Callable[..., Any]:
    def compute(self: Watched, *other: Any) -> Any:
        found = getattr(float, name)(self, *other)
        return Watched(found, self.judge) if type(found) is float else found

    return compute


for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Watched, f"__{_name}__", _compared(f"__{_name}__"))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Watched, f"__{_name}__", _computed(f"__{_name}__"))
    setattr(Watched, f"__r{_name}__", _computed(f"__r{_name}__"))
for _name in ("neg", "pos", "abs"):
    setattr(Watched, f"__{_name}__", _computed(f"__{_name}__"))
