"""Multiply-accumulates of one sample, counted on the meta device. Never a wrong 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ..core.errors import cause
from ..core.message import say
from ..models.onnx_module import OnnxModule
from ..models.removal import remove
from ..models.replica import share
from ..models.subject import Subject
from ..models.task import to_device

BETWEEN = ("aten.bmm", "aten.baddbmm", "aten._scaled_dot_product")  # with a weight torch multiplies by mm and addmm


@dataclass(frozen=True)
class Macs:
    """total: FLOPs // 2 at batch 1, or None with the reason. modules: {module FQN: its own, without its children's}.

    between: of these, products of two activations (attention's scores, and their softmax with the values), which no weight enters.
    """

    total: int | None
    modules: Mapping[str, int]
    reason: str = ""
    between: Mapping[str, int] = field(default_factory=dict)


def _floating_to_meta(value: Any) -> Any:
    """Floating tensors on meta, integer vectors (lengths) left on the CPU."""
    if isinstance(value, Tensor):
        return value.to("meta") if value.is_floating_point() or value.ndim != 1 else value.cpu()
    if isinstance(value, dict):
        return {key: _floating_to_meta(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_floating_to_meta(one) for one in value)
    return value


@contextmanager
def no_fused_kernels() -> Iterator[None]:
    """Fused attention and recurrent kernels hide their products from the counter."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.backends.mkldnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


_known: dict[Any, Any] = {}  # {an operation and the layout of what it is given: that of what it returns}
KNOWN = 20_000  # at most


class _Remembered(TorchDispatchMode):
    """On meta an operation computes a layout alone, in a millisecond of Python: what it once returned is made again at once.

    A drag over units counts a deep model anew at every event, and nearly all of its layers have had these shapes before.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        key = None if _writes(func) else _layout((func, args, tuple(sorted(kwargs.items()))))
        if key is None:
            return func(*args, **kwargs)
        if key not in _known:
            found = func(*args, **kwargs)
            several = found if type(found) is tuple else (found,)
            if not all(type(one) is Tensor and one.is_meta for one in several):
                return found
            if len(_known) >= KNOWN:
                _known.clear()
            _known[key] = type(found), [(tuple(one.shape), one.stride(), one.dtype) for one in several]
            return found
        kind, layouts = _known[key]
        made = tuple(torch.empty_strided(shape, stride, dtype=dtype, device="meta") for shape, stride, dtype in layouts)
        return made if kind is tuple else made[0]


@cache
def _writes(func: Any) -> bool:
    """Whether an operation writes into what it is given, or returns a view of it; or is no plain operation."""
    schema = getattr(func, "_schema", None)
    return schema is None or any(one.alias_info is not None for one in (*schema.arguments, *schema.returns))


def _layout(value: Any) -> Any:
    """What a value is as a key: a tensor on meta by its layout; None for what cannot be one."""
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.stride(), value.dtype) if value.is_meta and type(value) in (Tensor, nn.Parameter) else None
    if isinstance(value, (tuple, list)):
        parts = [_layout(one) for one in value]
        return None if None in parts else (type(value), *parts)
    try:
        hash(value)
    except TypeError:
        return None
    return type(value), value


class _Innermost:
    """Says which module of ``root`` is running. torch's own tracker hooks every module of the process, so that what
    other threads run meanwhile would enter the count."""

    def __init__(self, root: nn.Module) -> None:
        self.root, self._running, self._hooks = root, [], []  # type: ignore[var-annotated]

    @property
    def parents(self) -> set[str]:
        return {"Global", *(f".{name}" for name in self._running[-1:])}

    def __enter__(self) -> None:
        for name, child in self.root.named_modules():
            enter = child.register_forward_pre_hook(partial(self._enter, name))
            leave = child.register_forward_hook(self._leave, always_call=True)
            self._hooks += [enter, leave]

    def _enter(self, name: str, *_: object) -> None:
        self._running.append(name)

    def _leave(self, *_: object) -> None:
        self._running.pop()

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _run(subject: Subject, module: nn.Module, inputs: Any) -> Macs:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _Innermost(module)  # type: ignore[assignment]
    with torch.no_grad(), _Remembered(), counter:
        subject.task.forward(module, inputs)
    found = {name.removeprefix("."): ops for name, ops in counter.get_flop_counts().items() if name != "Global"}
    modules = {name: sum(ops.values()) // 2 for name, ops in found.items()}
    pairs = {name: sum(n for op, n in ops.items() if str(op).startswith(BETWEEN)) // 2 for name, ops in found.items()}
    return Macs(counter.get_total_flops() // 2, modules, between={name: n for name, n in pairs.items() if n})


def count(subject: Subject, dropped: Mapping[str, Mapping[int, Tensor]]) -> Macs:
    """MACs after removing ``dropped``; cached by structure."""
    key = tuple(sorted((t, d, tuple(i.tolist())) for t, dims in dropped.items() for d, i in dims.items()))
    return subject.memo.get(("macs", key), lambda: _count(subject, dropped))


def _count(subject: Subject, dropped: Mapping[str, Mapping[int, Tensor]]) -> Macs:
    if subject.task.kind == "weights":
        return Macs(None, {}, subject.task.why)
    if isinstance(subject.module, OnnxModule):
        from .onnx_macs import in_graph

        return in_graph(subject, subject.module)

    def fresh() -> nn.Module:
        module = share(subject.module)
        if dropped:
            remove(module, {name: dict(dims) for name, dims in dropped.items()})
        return module

    one = to_device(subject.task.example(1), "cpu")
    attempts = (
        (say("on meta"), lambda: (fresh().to("meta"), to_device(one, "meta"))),
        (say("on meta with lengths on the CPU"), lambda: (fresh().to("meta"), _floating_to_meta(one))),
        (say("on the CPU"), lambda: (fresh().to("cpu"), one)),
    )
    reason = ""
    for where, prepare in attempts:
        try:
            module, inputs = prepare()
            with ExitStack() as stack:
                if where == "on the CPU":
                    stack.enter_context(no_fused_kernels())
                found = _run(subject, module, inputs)
            if found.total:
                return found
            reason = say("{where}: counted no product", where=where)
        except Exception as error:  # any model may come here; the evaluation must not fail for a count
            reason = say("{where}: {cause}", where=where, cause=cause(error, 160))
    return Macs(None, {}, reason)
