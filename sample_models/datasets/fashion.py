"""Fashion-MNIST: 70,000 grey images of clothing, 28 x 28, ten classes.

Xiao, Rasul, Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms,
2017, https://arxiv.org/abs/1708.07747. MIT licence, see data/fmnist.NOTICE.txt.
Test is the published 10,000; validation is 10,000 of the published 60,000, 1,000 a class.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sample_models.datasets.base import FOLDER, Data, Split, stratified_split

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SOURCE = "Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), 28 x 28 grey images of clothing"
LICENCE = "MIT, (c) 2017 Zalando SE"
SEED = 0


def prepare(pixels: Tensor) -> Tensor:
    """uint8 pixels (..., 28, 28) -> float32 in [0, 1], (..., 1, 28, 28)."""
    return pixels.unsqueeze(-3).float() / 255


def load() -> Data:
    """Return 50,000 / 10,000 / 10,000 images; pixels stay uint8 in memory (55 MB)."""
    with np.load(FOLDER / "fmnist.npz", allow_pickle=False) as file:
        x, y, xt, yt = (file[key] for key in ("x", "y", "xt", "yt"))
    validation, train = stratified_split(y, (10_000, 50_000), SEED)
    parts = {"train": (x[train], y[train]), "validation": (x[validation], y[validation]), "test": (xt, yt)}
    splits = {
        name: Split(torch.from_numpy(images), torch.from_numpy(labels).long(), prepare)
        for name, (images, labels) in parts.items()
    }
    return Data(splits, "image", SOURCE, LICENCE, classes=CLASSES)
