"""Replay by the order of calls: leaf modules called before anything that changed is read return what they returned last time.

Exact for any forward that does the same whenever it is given the same, whatever Python it is made of: before the first read
of a changed weight nothing can know of the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..core.message import say
from ..models.memo import nbytes
from ..models.replica import Replica
from ..models.task import Task
from ..models.trial import tensors
from .runners import Finish, Part, Ranges, Runner, Session, batch, counting_versions


class _Tape:
    """One pass. Recording: outputs of leaf calls until a changed name is read. Replaying: gives them back."""

    def __init__(self, changed: frozenset[str], last: _Tape | None = None) -> None:
        self.changed = changed
        self.replays = last is not None
        self.outputs: list[Any] = last.outputs if last is not None else []
        self.versions: list[tuple[Tensor, int]] = last.versions if last is not None else []
        self.count = 0
        self.open = True  # nothing changed was read yet
        self.inside = 0
        self.mode: TorchFunctionMode | None = None

    def note(self, names: Iterable[str]) -> None:
        """Names are about to be read."""
        if not self.changed.isdisjoint(names):
            self.open = False

    def untouched(self) -> bool:
        """Whether nothing was written into what was recorded."""
        return all(tensor._version == version for tensor, version in self.versions)


class _Reads(TorchFunctionMode):
    """Tells a tape which parameters and buffers the operations of a forward are given."""

    def __init__(self, tape: _Tape, names: Mapping[int, str]) -> None:
        super().__init__()
        self.tape, self.names = tape, names
        tape.mode = self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.tape.open:
            self.tape.note(self._found([*args, *(kwargs or {}).values()]))
        return func(*args, **(kwargs or {}))

    def _found(self, values: Iterable[Any]) -> Iterable[str]:
        for value in values:
            if isinstance(value, Tensor) and id(value) in self.names:
                yield self.names[id(value)]
            elif isinstance(value, (tuple, list)):
                yield from self._found(value)


class OrderRunner(Runner):
    """See this file's docstring."""

    tier = "order of calls"

    def __init__(self, replica: Replica, task: Task, reason: str = "") -> None:
        super().__init__(replica, task, reason)
        self._tape: _Tape | None = None
        self.names = {id(one): name for name, one in replica.names.items()}
        for name, child in replica.module.named_modules():
            if _leaf(child):
                own = {self.names[id(p)] for p in (*child.parameters(), *child.buffers())}
                own |= {f"{name}.{inner}" if inner else name for inner, _ in child.named_modules()}
                self._wrap(child, frozenset(own))
        self.hooked = {name for name, child in replica.module.named_modules() if _leaf(child)}

    def _wrap(self, child: nn.Module, own: frozenset[str]) -> None:
        given = child.__dict__.get("forward")

        def forward(*args: Any, **kwargs: Any) -> Any:  # of the class that it is now: one that rounds its inputs is another
            return given(*args, **kwargs) if given is not None else type(child).forward(child, *args, **kwargs)

        def replayed(*args: Any, **kwargs: Any) -> Any:
            tape = self._tape
            if tape is None or tape.inside:
                return forward(*args, **kwargs)
            index = tape.count
            tape.count += 1
            if tape.replays and index < len(tape.outputs):
                return tape.outputs[index]
            tape.note(own)
            tape.inside += 1
            mode = tape.mode
            if mode is not None:  # within, torch would leave its fused kernels while somebody listens
                mode.__exit__(None, None, None)
            try:
                out = forward(*args, **kwargs)
            finally:
                tape.inside -= 1
                if mode is not None:
                    mode.__enter__()
            if not tape.replays and tape.open:
                tape.outputs.append(out)
                tape.versions += [(t, t._version) for t in tensors(out)]
            return out

        child.forward = replayed  # type: ignore[method-assign]

    def part(self, names: Iterable[str]) -> Part:
        changed = frozenset(names)
        return Part(changed, changed, len(changed))

    def supports(self, names: Iterable[str]) -> bool:
        return all(name in self.replica.names or name in self.hooked for name in names)

    def run(self, which: Part | None, inputs: Any, ranges: Ranges, session: Session, finish: Finish, kept: Any) -> Any:
        if which is None:
            return super().run(which, inputs, ranges, session, finish, kept)
        tapes: list[_Tape] = []
        held = 0
        for i, (start, stop) in enumerate(ranges):
            given = self.given(batch(inputs, ranges, start, stop))
            with session() as module:
                tape = _Tape(which.names, None if kept is None else kept[i])
                self._tape = tape
                try:
                    if kept is not None:
                        outputs = self.task.forward(module, given)
                    else:
                        with counting_versions(), _Reads(tape, self.names):
                            outputs = self.task.forward(module, given)
                finally:
                    self._tape = tape.mode = None
                finish(start, stop, outputs)
                if not tape.untouched():
                    self.unsafe = say("its forward writes into what a layer returned")
                held += nbytes(tape.outputs)
                tapes = [*tapes, tape] if held <= self.room else []
        return None if self.unsafe or held > self.room else tapes


def _leaf(module: nn.Module) -> bool:
    """Modules that are run as one: those without children, and torch's own that are no containers."""
    containers = (
        nn.Sequential,
        nn.ModuleList,
        nn.ModuleDict,
        nn.TransformerEncoder,
        nn.TransformerDecoder,
        nn.Transformer,
    )
    if isinstance(module, containers):
        return False
    return not list(module.children()) or type(module).__module__.startswith("torch.nn")
