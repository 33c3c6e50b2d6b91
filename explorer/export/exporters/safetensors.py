from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ...compress.plan import Plan
from ...core.errors import UnsupportedError, cause
from ...core.message import say
from ...models.calls import calls, gap
from ...models.subject import Subject
from ...models.trial import difference
from ..files import REASON_KEY, SPEC_KEY, WEIGHTS, load_exported, read
from ..rebuild import rebuild
from ..spec import tensors, trace
from . import Exporter, Written, registry

SIZES = (1, 2, 5)


@registry.register("safetensors")
class Safetensors(Exporter):
    """Weights with the model's structure, for PyTorch: opens without the code of the original.

    The tensors lie uncompressed and cannot execute anything; the metadata holds the traced graph as JSON
    (modules with their sizes after removal, operations from an allow-list). Quantized weights are stored as the
    rounded fp32 values that were evaluated. Source: the safetensors format; torch.fx, arXiv 2112.08429.
    """

    title = "PyTorch (safetensors)"
    filename = WEIGHTS
    tolerance = 1e-6

    def write(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> Written:
        metadata: dict[str, str] = {"format": "pt"}
        notes: tuple[str, ...] = ()
        try:
            made = calls(subject, module, SIZES)
            spec, weights = trace(module, made[1])
            again = rebuild(spec, weights)
            if gap(module, again, made, self.tolerance) > self.tolerance:
                raise UnsupportedError(say("what was traced does not compute the same at other batch sizes"))
            metadata[SPEC_KEY] = json.dumps(spec, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        except Exception as error:  # a model without a faithful trace is still worth its weights
            why = cause(error, 500)
            metadata[REASON_KEY] = str(why)
            notes = (
                say(
                    "{file} holds weights only, because the model could not be written as a graph: {why}",
                    file=WEIGHTS,
                    why=why,
                ),
            )
            weights = _plain(module)
        save_file(weights, folder / WEIGHTS, metadata)
        return Written((WEIGHTS,), notes)

    def verify(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> float:
        stored, metadata = read(folder)
        if SPEC_KEY in metadata:
            return gap(module, load_exported(folder), calls(subject, module, SIZES), self.tolerance)
        plain = _plain(module)
        return difference([*plain.values()], [stored.get(name, torch.empty(0)) for name in plain])

    def usage(self, subject: Subject, module: nn.Module) -> str:
        return (
            "import explorer\n\n"
            'module = explorer.load_exported(".")  # an nn.Module in eval mode; the folder, its zip or the file\n\n'
            "# with plain PyTorch and your own class, of the sizes in the file:\n"
            "from safetensors.torch import load_file\n\n"
            f'weights = load_file("{WEIGHTS}")  # {{name: tensor}}\n'
            "# your_module.load_state_dict(weights)"
        )


def _plain(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer once, each in memory of its own."""
    return {name: tensor.cpu().contiguous().clone() for name, (tensor, _) in tensors(module)[0].items()}
