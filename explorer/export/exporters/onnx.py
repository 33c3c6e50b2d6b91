from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...compress.plan import Plan
from ...core.errors import ExportError
from ...core.message import say
from ...models.calls import calls
from ...models.decisions import Decisions
from ...models.onnx_module import OnnxModule
from ...models.subject import Subject
from ...models.trial import difference, tensors
from ..described import SIZES
from ..onnx_own import named, opened, sizes
from ..onnx_own import write as write_own
from ..session import open_session
from ..tracing import exporting
from . import Exporter, Written, refuse_types, registry

HALF = 2e-2  # largest relative difference of files of 16-bit floats
LARGEST = 2 << 30  # bytes; a protobuf file holds no more


@registry.register("onnx")
class Onnx(Exporter):
    """The model as an ONNX graph, for ONNX Runtime and other engines: runs without PyTorch.

    Opset 20, the batch size is dynamic, weights are within the file. The exporter folds BatchNorm into
    convolutions. Quantized weights are stored as the rounded floats that were evaluated; recurrent layers are
    the RNN, GRU and LSTM operators. A model that came as an ONNX file keeps its own graph and opset.
    Compared in ONNX Runtime at batch sizes 1, 2 and 5 before it is offered.
    Source: the ONNX specification, opset 20.
    """

    title = "ONNX"
    filename = "model.onnx"
    tolerance = 1e-4

    def __init__(self) -> None:
        self.own = False  # whether the subject came as an ONNX file

    def write(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> Written:
        from ..onnx_graph import strip, to_onnx

        self.own = isinstance(module, OnnxModule)
        if plan.inputs:
            accepted = "onnx-int8, safetensors" if "onnx-int8" in registry else "safetensors"
            raise ExportError(
                say(
                    "{subject}: this recipe quantizes activations, which a graph of float operators would round at other places; "
                    "accepted: {accepted}, or the recipe without its activation rules",
                    subject=subject.name, accepted=accepted,
                )
            )  # fmt: skip
        if isinstance(module, OnnxModule):
            return Written(write_own(module, folder / self.filename))
        refuse_types(subject, module, self.filename, lambda dtype: dtype == torch.bfloat16)  # numpy has none, and ONNX Runtime few operators
        size = sum(p.numel() * p.element_size() for p in module.parameters())
        if size > LARGEST:
            raise ExportError(
                say(
                    "{subject}: {size:,} bytes of weights; one ONNX file holds at most {largest:,}",
                    subject=subject.name,
                    size=size,
                    largest=LARGEST,
                )
            )
        call = calls(subject, module, (2,))[0]
        with Decisions() as seen, exporting():
            call(module)
        if found := [
            *(where for where, _ in seen.made),
            *seen.numbers,
        ]:  # a trace would write down one way for all data
            raise ExportError(
                say(
                    "{subject}: its forward makes Python values of data or branches on them ({where}), and an ONNX graph would hold "
                    "those of one sample; other formats hold the weights",
                    subject=subject.name,
                    where=found[0],
                )
            )
        model = strip(to_onnx(subject, module, call))
        (folder / self.filename).write_bytes(model.SerializeToString())
        return Written((self.filename,))

    def accepted(self, module: nn.Module) -> float:
        held = module.graph.places.values() if isinstance(module, OnnxModule) else module.parameters()
        narrow = any(one.dtype.itemsize < 4 for one in held)
        return HALF if narrow else self.tolerance  # operators of 16 bits round in another order once they are merged

    def verify(self, subject: Subject, plan: Plan, module: nn.Module, folder: Path) -> float:
        if isinstance(module, OnnxModule):
            again = opened(folder / self.filename, own=True)
            made = calls(subject, module, sizes(module, SIZES))
            return max(difference(call(module), call(again)) for call in made)
        session = open_session(folder / self.filename)
        inputs = [one.name for one in session.get_inputs()]
        worst = 0.0
        for call in calls(subject, module, SIZES):
            given = call.tensors()
            found = session.run(None, {name: given[name].numpy() for name in inputs})
            worst = max(worst, difference(tensors(call(module)), [torch.from_numpy(one) for one in found]))
        return worst

    def loaded(self, folder: Path) -> nn.Module:
        return opened(folder / self.filename, self.own)

    def usage(self, subject: Subject, module: nn.Module) -> str:
        from ..onnx_graph import names

        call = calls(subject, module, (2,))[0]
        outputs = [] if isinstance(module, OnnxModule) else names(subject, module, call)[1]
        judged = outputs.index("logits") if "logits" in outputs else 0

        def plain(name: str) -> str:  # files of others call their inputs as they like
            return name if name.isidentifier() else "".join(c if c.isalnum() else "_" for c in f"input_{name}")

        def zeros(t: Tensor) -> str:
            shape, dtype = ", ".join(map(str, t.shape)), str(t.dtype).removeprefix("torch.")
            return f'numpy.zeros(({shape}{"," * (t.ndim == 1)}), "{dtype}")'

        given = named(module, call)
        feed = ", ".join(f'"{name}": {plain(name)}' for name in given)
        samples = "\n".join(f"{plain(name)} = {zeros(t)}" for name, t in given.items())
        return (
            "import numpy\nimport onnxruntime\n\n"
            f'session = onnxruntime.InferenceSession("{self.filename}")\n'
            f"# your samples here, any number of them; these are two of zeros\n{samples}\n"
            f"outputs = session.run(None, {{{feed}}})[{judged}]"
        )
