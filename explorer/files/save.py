"""Weights that came without a forward pass, compressed, as one safetensors file under their own names."""

from __future__ import annotations

import json

import onnx
import safetensors.torch

from ..compress.apply import compress
from ..core.recipe import Recipe
from ..export.onnx_own import filled
from ..export.spec import tensors
from ..models.onnx_module import OnnxModule
from ..models.subject import Subject


def compressed_graph(subject: Subject, recipe: Recipe) -> bytes | None:
    """The ONNX file that a subject came as with its weights after the recipe; None for other subjects, and above 1 GB."""
    module = compress(subject, recipe)
    if (
        not isinstance(module, OnnxModule)
        or sum(t.numel() * t.element_size() for t in module.held().values()) > 1 << 30
    ):
        return None
    model = filled(module)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def compressed_weights(subject: Subject, recipe: Recipe) -> bytes:
    """A safetensors file: every parameter and buffer after the recipe, quantized ones as the rounded values; names, shapes and
    types are the original's. Its metadata holds the recipe, and for tied names the one that holds the tensor, as
    ``safetensors.torch.save_model`` writes it."""
    held, tied = tensors(compress(subject, recipe))
    plain = {name: tensor.cpu().contiguous().clone() for name, (tensor, _) in held.items()}
    return safetensors.torch.save(
        plain, {"format": "pt", "explorer.recipe": json.dumps(json.loads(recipe.to_json())), **tied}
    )
