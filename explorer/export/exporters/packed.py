from __future__ import annotations

from pathlib import Path

from torch import nn

from ...compress.plan import Plan
from ...models.calls import calls, gap
from ...models.subject import Subject
from ...models.trial import difference
from ..described import SIZES, described, into_own_class, plain_tensors, weights_only
from ..files import PACKED, SPEC_KEY, load_exported, read_packed
from ..packing.container import dumps
from ..packing.plan import hints
from . import Exporter, Written, registry


@registry.register("packed")
class Packed(Exporter):
    """The smallest file: Deep Compression for storage. To be unpacked into PyTorch, where it takes its full size again.

    For each tensor the positions of its non-zero entries (a bitmap or distances, whichever is smaller) and their codes
    with scales, or codes of a table of values, or the values themselves; each Huffman-coded (DEFLATE), LZMA-coded or
    plain. Restores every bit of the compressed model; holds no code and no pickle.
    Source: Han, Mao, Dally 2016, Deep Compression, arXiv 1510.00149.
    """

    title = "packed"
    filename = PACKED
    tolerance = 1e-6

    def __init__(self) -> None:
        self.rebuilt, self.own_class = False, ""  # whether the written file makes a module, and how another class loads it

    def write(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> Written:
        weights, metadata = described(subject, module, self.tolerance)
        self.rebuilt, self.own_class = SPEC_KEY in metadata, into_own_class(weights, module)
        (folder / PACKED).write_bytes(dumps(weights, metadata, hints(subject, plan)))
        return Written((PACKED,), weights_only(PACKED, metadata))

    def verify(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> float:
        stored, metadata = read_packed(folder)
        plain = plain_tensors(module)
        left = [stored.pop(name, None) for name in plain]
        worst = float("inf") if any(one is None for one in left) else difference([*plain.values()], left)
        if SPEC_KEY in metadata:
            worst = max(
                worst, gap(module, load_exported(folder / PACKED), calls(subject, module, SIZES), self.tolerance)
            )
        return worst

    def loaded(self, folder: Path) -> nn.Module:
        return load_exported(folder / PACKED)

    def usage(self, subject: Subject, module: nn.Module) -> str:
        rebuilt = f'module = explorer.load_exported("{PACKED}")  # an nn.Module in eval mode'
        return (
            "import explorer\n\n"
            f'weights = explorer.load_packed("{PACKED}")  # {{name: tensor}}, every bit as it was\n'
            f"{rebuilt if self.rebuilt else self.own_class}"
        )
