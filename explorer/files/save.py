"""Weights that came without a forward pass, compressed, as one safetensors file under their own names."""

from __future__ import annotations

import json

import safetensors.torch

from ..compress.apply import compress
from ..core.recipe import Recipe
from ..export.spec import tensors
from ..models.subject import Subject


def compressed_weights(subject: Subject, recipe: Recipe) -> bytes:
    """A safetensors file: every parameter and buffer after the recipe, quantized ones as the rounded values; names, shapes and
    types are the original's. Its metadata holds the recipe, and for tied names the one that holds the tensor, as
    ``safetensors.torch.save_model`` writes it."""
    held, tied = tensors(compress(subject, recipe))
    plain = {name: tensor.cpu().contiguous().clone() for name, (tensor, _) in held.items()}
    return safetensors.torch.save(
        plain, {"format": "pt", "explorer.recipe": json.dumps(json.loads(recipe.to_json())), **tied}
    )
