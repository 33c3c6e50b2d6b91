from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ...compress.plan import Plan
from ...models.calls import calls, gap
from ...models.subject import Subject
from ...models.trial import difference
from .. import beside
from ..described import SIZES, described, into_own_class, plain_tensors, weights_only
from ..files import SPEC_KEY, WEIGHTS, load_exported, read
from . import Exporter, Written, registry


@registry.register("safetensors")
class Safetensors(Exporter):
    """Weights with the model's structure, for PyTorch: opens without the code of the original.

    The tensors lie uncompressed and cannot execute anything; the metadata holds the traced graph as JSON
    (modules with their sizes after removal, operations from an allow-list). Quantized weights are stored as the
    rounded floats that were evaluated. Source: the safetensors format; torch.fx, arXiv 2112.08429.
    """

    title = "PyTorch (safetensors)"
    filename = WEIGHTS
    tolerance = 1e-6

    def __init__(self) -> None:
        self.rebuilt, self.own_class = False, ""  # whether the written file makes a module, and how another class loads it

    def write(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> Written:
        files, notes = beside.files_of(subject, plan, module)
        if files:  # the folder is one of the library that the model came from, which needs no spec
            save_file(beside.library_tensors(module), folder / WEIGHTS, {"format": "pt"})
            return Written((WEIGHTS, *beside.write(files, folder)), notes)
        weights, metadata = described(subject, module, self.tolerance)
        self.rebuilt, self.own_class = SPEC_KEY in metadata, into_own_class(weights, module)
        save_file(weights, folder / WEIGHTS, {"format": "pt"} | metadata)
        return Written((WEIGHTS,), (*weights_only(WEIGHTS, metadata), *notes))

    def verify(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> float:
        stored, metadata = read(folder)
        if SPEC_KEY in metadata:
            return gap(module, load_exported(folder), calls(subject, module, SIZES), self.tolerance)
        plain = beside.library_tensors(module) if beside.files_of(subject, plan, module)[0] else plain_tensors(module)
        return difference([*plain.values()], [stored.get(name, torch.empty(0)) for name in plain])

    def loaded(self, folder: Path) -> nn.Module:
        return load_exported(folder / WEIGHTS)

    def usage(self, subject: Subject, module: nn.Module) -> str:
        if beside.kept(subject, module):
            return (
                'import explorer\n\nsubject = explorer.load(".")  # the folder or its zip; needs transformers\n\n'
                "# with that library itself:\nimport transformers\n\n"
                f'model = transformers.{type(module).__name__}.from_pretrained(".")'
            )
        rebuilt = 'import explorer\n\nmodule = explorer.load_exported(".")  # an nn.Module in eval mode; the folder, its zip or the file\n\n'
        return (
            f"{rebuilt if self.rebuilt else ''}# with plain PyTorch and your own class, of the sizes in the file:\n"
            "from safetensors.torch import load_file\n\n"
            f'weights = load_file("{WEIGHTS}")  # {{name: tensor}}\n{self.own_class}'
        )
