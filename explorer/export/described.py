"""A module as named tensors and the text that rebuilds it, or the reason why there is none: what every weight file holds."""

from __future__ import annotations

import json
from collections.abc import Collection

from torch import Tensor, nn

from ..core.errors import UnsupportedError, cause
from ..core.message import say
from ..models.calls import calls, gap
from ..models.onnx_module import OnnxModule
from ..models.subject import Subject
from .files import REASON_KEY, SPEC_KEY
from .rebuild import rebuild
from .spec import tensors, trace

SIZES = (1, 2, 5)  # batches that a rebuilt module is tried on


def described(subject: Subject, module: nn.Module, tolerance: float) -> tuple[dict[str, Tensor], dict[str, str]]:
    """({name: tensor}, metadata). The metadata hold the rebuilding spec, tried on real inputs, or why it is missing."""
    if isinstance(module, OnnxModule):
        why = say("it is an ONNX graph, which PyTorch cannot run; the ONNX file beside it, or made of it, holds the graph")
        return plain_tensors(module), {REASON_KEY: str(why)}
    try:
        made = calls(subject, module, SIZES)
        spec, weights = trace(module, made[1])
        if gap(module, rebuild(spec, weights), made, tolerance) > tolerance:
            raise UnsupportedError(say("what was traced does not compute the same at other batch sizes"))
        text = json.dumps(spec, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except Exception as error:  # a model without a faithful trace is still worth its weights
        return plain_tensors(module), {REASON_KEY: str(cause(error, 500))}
    return weights, {SPEC_KEY: text}


def weights_only(filename: str, metadata: dict[str, str]) -> tuple[str, ...]:
    """The note of a file that nothing can be rebuilt from."""
    if REASON_KEY not in metadata:
        return ()
    why = metadata[REASON_KEY]
    return (
        say(
            "{file} holds weights only, because the model could not be written as a graph: {why}",
            file=filename,
            why=why,
        ),
    )


def into_own_class(weights: Collection[str], module: nn.Module) -> str:
    """The line of a README that loads these tensors into a module of the original class."""
    if set(weights) == set(module.state_dict()):
        return "# your_module.load_state_dict(weights)"
    return "# your_module.load_state_dict(weights, strict=False)  # tied tensors are in the file once, constants of the forward, too"


def plain_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer once, each in memory of its own."""
    return {name: tensor.cpu().contiguous().clone() for name, (tensor, _) in tensors(module)[0].items()}
