"""Tensors as pictures: plain numpy arrays for the screen."""

from __future__ import annotations

import numpy as np

from ..models.removal import select
from ..models.subject import Subject
from .apply import effective_weights
from .plan import Plan

LIMIT = 256  # rows and columns drawn
GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}  # in torch's order of rows


def weight_matrix(subject: Subject, plan: Plan, name: str, limit: int = LIMIT) -> tuple[np.ndarray, np.ndarray, int]:
    """(values [rows, cols], cut bool [rows, cols], step): the tensor as a matrix, rows = axis 0.

    Larger matrices are thinned evenly: every ``step``-th row and column is shown.
    """
    original = subject.weight(name)
    weights = effective_weights(subject, plan)
    values = weights.get(name, original).float().cpu().numpy()
    matrix = values.reshape(values.shape[0], -1)
    step = max(1, -(-max(matrix.shape) // limit))
    cut = np.zeros(matrix.shape, dtype=bool)
    if name in plan.masks:
        cut = ~plan.masks[name].cpu().numpy().reshape(matrix.shape)
    return matrix[::step, ::step], cut[::step, ::step], step


def smaller_matrix(subject: Subject, plan: Plan, name: str, limit: int = LIMIT) -> tuple[np.ndarray, np.ndarray, int]:
    """(values, zero bool, step) as :func:`weight_matrix`, of the compressed tensor: entries of removed units are gone."""
    weights = effective_weights(subject, plan)
    tensor = select(weights.get(name, subject.weight(name)), dict(plan.dropped.get(name, {}))).float().cpu()
    matrix = tensor.reshape(len(tensor), -1).numpy()
    step = max(1, -(-max(matrix.shape) // limit))
    matrix = matrix[::step, ::step]
    return matrix, (matrix == 0) if name in plan.masks else np.zeros(matrix.shape, dtype=bool), step


def levels(subject: Subject, plan: Plan, name: str) -> list[float] | None:
    """The values that the layer's weights may take; of the widest channel where there are several scales."""
    codes = plan.codes.get(name)
    if codes is None:
        return None
    if codes.axis is None:
        return codes.levels()
    weight = plan.layers[name].before_quantization(subject.weight(name))
    reach = weight.abs().movedim(codes.axis, 0).flatten(1).amax(1)  # [channels]; a channel of zeros has scale 1
    return codes.levels(int(reach.argmax()))


def sqnr(subject: Subject, plan: Plan, name: str) -> float | None:
    """Signal-to-quantization-noise ratio in dB of the layer's (pruned) weights; None if not quantized or empty."""
    mine = plan.layers.get(name)
    if mine is None or mine.codes is None:
        return None
    before = mine.before_quantization(subject.weight(name)).cpu().double()
    noise = (before - effective_weights(subject, plan)[name].cpu().double()).square().sum().item()
    signal = before.square().sum().item()
    return None if signal == 0 else float("inf") if noise == 0 else 10 * float(np.log10(signal / noise))
