"""Tensors as pictures: plain numpy arrays for the screen."""

from __future__ import annotations

import numpy as np

from ..models.removal import select
from ..models.subject import Subject
from .build import effective_weights
from .errors import weight_loss
from .plan import Plan

LIMIT = 256  # rows and columns drawn
GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}  # in torch's order of rows


def weight_matrix(subject: Subject, plan: Plan, name: str, limit: int = LIMIT) -> tuple[np.ndarray, np.ndarray, int]:
    """(values [rows, cols], cut bool [rows, cols], step): the tensor as a matrix, rows = axis 0.

    Larger matrices are thinned evenly: every ``step``-th row and column is shown.
    """
    original = subject.weight(name)
    weights = effective_weights(subject, plan)
    values = weights.get(name, original)
    matrix = values.reshape(values.shape[0], -1)
    step = max(1, -(-max(matrix.shape) // limit))
    cut = np.zeros(matrix[::step, ::step].shape, dtype=bool)
    if name in plan.masks:
        cut = ~plan.masks[name].reshape(matrix.shape)[::step, ::step].cpu().numpy()
    return matrix[::step, ::step].float().cpu().numpy(), cut, step


def smaller_matrix(subject: Subject, plan: Plan, name: str, limit: int = LIMIT) -> tuple[np.ndarray, np.ndarray, int]:
    """(values, zero bool, step) as :func:`weight_matrix`, of the compressed tensor: entries of removed units are gone."""
    weights = effective_weights(subject, plan)
    tensor = select(weights.get(name, subject.weight(name)), dict(plan.dropped.get(name, {})))
    whole = tensor.reshape(len(tensor), -1) if tensor.numel() else tensor.new_zeros((1, 1))  # gone whole
    step = max(1, -(-max(whole.shape) // limit))
    matrix = whole[::step, ::step].float().cpu().numpy()
    return matrix, (matrix == 0) if name in plan.masks else np.zeros(matrix.shape, dtype=bool), step


def levels(subject: Subject, plan: Plan, name: str) -> list[float] | None:
    """The values that the layer's weights may take; of the slice with the largest weight where there are several scales.

    None where it is not quantized, or has more than 256 levels (fp16, bf16).
    """
    codes = plan.codes.get(name)
    if codes is None:
        return None
    mine = plan.layers[name]
    weight = mine.remaining(mine.before_quantization(subject.weight(name)))
    return codes.levels(int(codes.slices.rows(weight).abs().amax(1).argmax()))  # a slice of zeros has scale 1


def sqnr(subject: Subject, plan: Plan, name: str) -> float | None:
    """Signal-to-quantization-noise ratio in dB of the layer's (pruned) weights; None if not quantized or empty."""
    found = weight_loss(subject, plan, name)
    return None if found is None else found.sqnr
