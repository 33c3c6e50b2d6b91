from __future__ import annotations

from ...core.recipe import Recipe
from ...models.subject import Subject
from ..integer.exporter import IntegerOnnx
from ..integer.recipes import int8_recipe, stated_activations
from . import registry


@registry.register("onnx-int8")
class OnnxInt8(IntegerOnnx):
    """An ONNX graph that multiplies 8-bit integers: about a quarter of the size, often faster on a CPU.

    The recipe plus 8-bit weights and activations wherever no quantize rule holds. Convolutions: inputs rounded with
    scales calibrated on the train split (QuantizeLinear and DequantizeLinear), BatchNorm merged into the weights' scales.
    Linear and LSTM layers: inputs rounded by the range of each batch, at run time. GRU and RNN: weights alone. Offered
    where its predictions agree with the simulation, which is the evaluation of exactly that recipe.
    Source: Jacob et al. 2018, arXiv 1712.05877; the ONNX specification, opset 20; ONNX Runtime's DynamicQuantizeLSTM.
    """

    title = "ONNX, 8-bit integers"
    filename = "model.int8.onnx"

    def meaning(self, subject: Subject, recipe: Recipe) -> Recipe:
        self.stated = stated_activations(subject, recipe)
        return int8_recipe(subject, recipe)
