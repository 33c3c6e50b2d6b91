from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...compress.plan import Plan
from ...core.errors import ExportError, cause
from ...core.message import say
from ...models.calls import calls
from ...models.lengths import followed
from ...models.onnx_module import OnnxModule
from ...models.subject import Subject
from ...models.trace import forget_missing
from ...models.trial import difference
from ..tracing import tracing
from . import Exporter, Written, registry

SIZES = (1, 2, 5)


@registry.register("pt2")
class Pt2(Exporter):
    """The model as a torch.export program: for PyTorch without the original's code, and for its compilers.

    A graph of ATen operators with its weights; the batch size is dynamic. Loading a .pt2 file runs pickle, so open only
    files that you made or trust. Loaded again and compared at batch sizes 1, 2 and 5 before it is offered.
    Source: torch.export, PyTorch 2 (Ansel et al. 2024, doi 10.1145/3620665.3640366).
    """

    title = "torch.export"
    filename = "model.pt2"
    tolerance = 1e-5

    def write(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> Written:
        if isinstance(module, OnnxModule):
            raise ExportError(say("{subject}: it is an ONNX graph, which PyTorch cannot run; accepted: onnx, onnx-int8, onnx-int4, safetensors, packed", subject=subject.name))
        call = calls(subject, module, (3,))[0]
        batch = torch.export.Dim("batch", min=1)

        def dynamic(value: Any) -> Any:
            if isinstance(value, Tensor):
                return {0: batch} if value.ndim else None
            if isinstance(value, dict):
                return {key: dynamic(one) for key, one in value.items()}
            return type(value)(dynamic(one) for one in value) if isinstance(value, (tuple, list)) else None

        shapes = tuple(dynamic(a) for a in call.args), {key: dynamic(a) for key, a in call.kwargs.items()}
        try:
            with tracing(), torch.no_grad(), warnings.catch_warnings(), followed(module):
                warnings.simplefilter("ignore")
                named = _by_name(module, shapes)
                forget_missing()
                program = torch.export.export(copy.deepcopy(module), call.args, call.kwargs, dynamic_shapes=named)
                torch.export.save(program, folder / self.filename)
        except Exception as error:  # torch.export gives up in many ways
            raise ExportError(
                say("{subject}: torch.export cannot export it; accepted: another format ({cause})", subject=subject.name, cause=cause(error, 200))
            ) from None
        return Written((self.filename,), ("model.pt2 holds pickled data: load it only where you trust who made it.",))

    def verify(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> float:
        loaded = self.loaded(folder)
        return max(difference(call(module), call(loaded)) for call in calls(subject, module, SIZES))

    def loaded(self, folder: Path) -> nn.Module:
        program: Any = torch.export.load(
            folder / self.filename
        )  # runs pickle: only ever of a file that was just written
        return program.module()  # type: ignore[no-any-return]

    def usage(self, subject: Subject, module: nn.Module) -> str:
        call = calls(subject, module, (2,))[0]

        def zeros(value: Any) -> str:
            return f"torch.zeros({tuple(value.shape)}, dtype={value.dtype})" if isinstance(value, Tensor) else repr(value)

        given = [*map(zeros, call.args), *(f"{name}={zeros(value)}" for name, value in call.kwargs.items())]
        return (
            f'import torch\n\nmodel = torch.export.load("{self.filename}").module()\n'
            f"# your samples here, any number of them; these are two of zeros\noutputs = model({', '.join(given)})"
        )


def _by_name(module: nn.Module, shapes: tuple[tuple[Any, ...], dict[str, Any]]) -> dict[str, Any]:
    """{argument of forward: dynamic dims}."""
    import inspect

    names = [
        n
        for n, p in inspect.signature(module.forward).parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    return dict(zip(names, shapes[0], strict=False)) | shapes[1]
