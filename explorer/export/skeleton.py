"""The unoptimized ONNX graph of a plan: weights still under their own names; torch.onnx runs once a structure."""

from __future__ import annotations

import onnx
import onnx.numpy_helper
from torch import nn

from ..compress.plan import Plan
from ..models.calls import calls
from ..models.onnx_module import OnnxModule
from ..models.subject import Subject
from .onnx_graph import strip, to_onnx
from .onnx_own import AXES_OPSET, with_weights


def skeleton(subject: Subject, plan: Plan, module: nn.Module, least: int = AXES_OPSET) -> onnx.ModelProto:
    """A new graph with the tensors of ``module``, which is the plan applied; a file's own is of opset ``least`` or newer.

    Raises :class:`ExportError`.
    """
    if isinstance(module, OnnxModule):
        return with_weights(module, least)
    cut = tuple(sorted((t, d, tuple(i.tolist())) for t, dims in plan.dropped.items() for d, i in dims.items()))

    def make() -> bytes:
        call = calls(subject, module, (2,))[0]
        return bytes(strip(to_onnx(subject, module, call, optimize=False)).SerializeToString())

    model = onnx.load_from_string(subject.memo.get(("graph", subject.version, cut), make))
    held = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    for one in model.graph.initializer:
        if one.name in held and tuple(one.dims) == tuple(held[one.name].shape):
            fresh = held[one.name].detach().cpu().contiguous().numpy()
            one.CopyFrom(onnx.numpy_helper.from_array(fresh, one.name))
    return model


def tidy(model: onnx.ModelProto, weights: set[str]) -> None:
    """Fold the arithmetic on shapes. Weights are folded already, so layers keep their nodes, BatchNorm included."""
    from onnxscript import optimizer

    tidied = onnx.ModelProto()
    tidied.CopyFrom(model)
    try:
        if any(node.op_type == "BatchNormalization" for node in model.graph.node):
            optimizer.fold_constants(tidied)  # the whole optimizer would merge it into the convolution
            optimizer.remove_unused_nodes(tidied)
        else:
            tidied = optimizer.optimize(tidied)
    except Exception:  # a graph with a few more nodes is still right
        return
    read = {name for node in tidied.graph.node for name in node.input}
    if weights.intersection(name for node in model.graph.node for name in node.input) <= read:
        model.CopyFrom(tidied)
