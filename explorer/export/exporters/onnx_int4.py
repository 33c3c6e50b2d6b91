from __future__ import annotations

from ...core.recipe import Recipe
from ...models.subject import Subject
from ..integer.exporter import IntegerOnnx
from ..integer.recipes import int4_recipe, stated_activations
from . import registry


@registry.register("onnx-int4")
class OnnxInt4(IntegerOnnx):
    """An ONNX graph with 4-bit weights, two a byte: a sixth to an eighth of the size; made for small files, not for speed.

    The recipe plus symmetric 4-bit weights, a scale every 32 weights, wherever no quantize rule for weights holds.
    DequantizeLinear (opset 21, blocked) makes floats of them when the model runs; activations stay floats, but for
    matrix products, for which ONNX Runtime may round them itself. Codes of more bits are stored as 8-bit integers.
    Source: the ONNX specification, opset 21; Frantar et al. 2023, arXiv 2210.17323 (weights alone, in groups).
    """

    title = "ONNX, 4-bit weights"
    filename = "model.int4.onnx"
    narrow = True

    def meaning(self, subject: Subject, recipe: Recipe) -> Recipe:
        self.stated = stated_activations(subject, recipe)
        return int4_recipe(subject, recipe)
