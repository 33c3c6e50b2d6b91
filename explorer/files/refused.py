"""Formats that are not opened: why, and the three lines that convert them safely on their owner's machine."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import LoadError
from ..core.message import Message, say
from . import kinds

SAVE_STATE = """model = ...  # your class, with its weights loaded as you always do
from safetensors.torch import save_model
save_model(model, "model.safetensors")"""

LINES = {
    "pickle": """import torch; from safetensors.torch import save_model
model = torch.load("model.pt", weights_only=False)  # runs the file's code: on your own machine, if you trust who made it
save_model(model, "model.safetensors")""",
    "torchscript": """import torch; from safetensors.torch import save_model
model = torch.jit.load("model.pt")  # on your own machine, if you trust who made it
save_model(model, "model.safetensors")""",
    "keras": """import keras; from safetensors.numpy import save_file
model = keras.saving.load_model("model.keras", safe_mode=True)
save_file({w.path.replace("/", "."): w.numpy() for w in model.weights}, "weights.safetensors")""",
    "tensorflow": """import tensorflow; from safetensors.numpy import save_file
model = tensorflow.saved_model.load("FOLDER")
save_file({v.name.replace("/", "."): v.numpy() for v in model.variables}, "weights.safetensors")""",
    "gguf": """import gguf, torch; from safetensors.torch import save_file  # pip install gguf
tensors = {t.name: torch.tensor(gguf.quants.dequantize(t.data, t.tensor_type)) for t in gguf.GGUFReader("model.gguf").tensors}
save_file(tensors, "model.safetensors")""",
    "archive": """import tarfile
tarfile.open("model.tar").extractall("model", filter="data")
# open the safetensors or ONNX file within the folder""",
    "numpy": """import numpy, torch; from safetensors.torch import save_file
arrays = numpy.load("weights.npz", allow_pickle=False)
save_file({name: torch.from_numpy(arrays[name]) for name in arrays}, "model.safetensors")""",
    "huggingface": """from transformers import AutoModel
model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)  # runs its code: on your own machine, if you trust who made it
explorer.open_app(explorer.Subject(model, task))  # or open its .safetensors file: weights only""",
    "unknown": SAVE_STATE,
}
ACCEPTED = say(
    "an export of this package (folder, zip or .safetensors), a Hugging Face model (folder or zip), .safetensors, .pt2, .onnx, "
    "or a state dict saved by torch.save"
)


def refusal(path: Path | str, lines: str, why: Message) -> LoadError:
    """The error for a file that is not opened. ``error.lines``: Python that converts it."""
    error = LoadError(
        say(
            "{path}: {why}. Convert it on your own machine, then open the result:\n{lines}",
            path=path,
            why=why,
            lines=LINES[lines],
        )
    )
    error.lines = LINES[lines]  # type: ignore[attr-defined]
    return error


REFUSED: dict[str, tuple[str, Message]] = {  # kind: (key of LINES, why)
    kinds.TORCHSCRIPT: (
        "torchscript",
        say("it is a TorchScript archive, which carries code and whose layers cannot be looked at; refused"),
    ),
    kinds.PICKLE: ("pickle", say("it is a pickle, which runs code when it is loaded; refused")),
    kinds.KERAS: ("keras", say("it is a Keras model; only PyTorch models are opened")),
    kinds.HDF5: ("keras", say("it is an HDF5 file (Keras); only PyTorch models are opened")),
    kinds.TENSORFLOW: ("tensorflow", say("it is a TensorFlow model; only PyTorch models are opened")),
    kinds.TFLITE: ("unknown", say("it is a TensorFlow Lite model; only PyTorch models are opened")),
    kinds.GGUF: ("gguf", say("it is a GGUF file; its weights are packed for another engine")),
    kinds.TAR: ("archive", say("it is a tar archive; it is not unpacked here")),
    kinds.NUMPY: ("numpy", say("it holds NumPy arrays, which are taken as data and not as a model")),
}
UNKNOWN = ("unknown", say("it is of no known format; accepted: {accepted}", accepted=ACCEPTED))


def refuse_kind(path: Path, kind: str) -> LoadError:
    """The error for a kind of file that no reader opens."""
    if kind == kinds.EMPTY:
        return LoadError(say("{path}: the zip is empty; accepted: {accepted}", path=path, accepted=ACCEPTED))
    return refusal(path, *REFUSED.get(kind, UNKNOWN))
