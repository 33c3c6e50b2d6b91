from __future__ import annotations

from typing import TYPE_CHECKING

from . import Cost, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject


@registry.register("byte")
class Byte(Cost):
    """Over bytes: score / bytes, so that of two equally important units the one that takes more memory goes first.

    A unit takes the bytes of all that is removed with it: its rows, its biases and normalization, and the columns that read it.
    All single weights take the same, so their ranking is that of the criterion itself. Counted from shapes, in the model's own
    precision. Source: memory as the constraint in Hoefler et al. 2021, "Sparsity in Deep Learning", arXiv 2102.00554.
    """

    title = "byte"

    def of_weight(self, subject: Subject, name: str) -> float:
        return float(subject.weight(name).element_size())

    def of_unit(self, subject: Subject, cut: Cut) -> float:
        tensors = dict(subject.module.named_parameters(remove_duplicate=False)) | dict(subject.module.named_buffers())
        total = 0.0
        for piece in cut.slices:
            tensor = tensors.get(piece.tensor)
            if tensor is not None and tensor.ndim:
                total += tensor.numel() / tensor.shape[piece.dim] * piece.index.shape[1] * tensor.element_size()
        return total
