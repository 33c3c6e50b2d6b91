"""Japanese Vowels: nine men say /ae/; each utterance is 7 to 29 frames of 12 LPC cepstrum coefficients.

Kudo, Toyama, Shimbo: Multidimensional curve classification using passing-through regions, Pattern Recognition
Letters 20, 1999, https://doi.org/10.1016/S0167-8655(99)00077-X. CC BY 4.0, see data/jvowels.NOTICE.txt.
Train is the published 270; the published 370 for testing are cut into validation 150 and test 220.
"""

from __future__ import annotations

import numpy as np
import torch

from sample_models.datasets.base import FOLDER, Data, Split, stratified_split

CLASSES = tuple(f"speaker {k}" for k in range(1, 10))
LABELS = tuple(f"LPC cepstrum {k}" for k in range(1, 13))
SOURCE = "Japanese Vowels (Kudo, Toyama, Shimbo 1999), UCI Machine Learning Repository"
LICENCE = "CC BY 4.0"
SEED = 0


def load() -> Data:
    """Return 270 / 150 / 220 utterances (29, 12), zero frames after the end; no real frame is all zeros."""
    with np.load(FOLDER / "jvowels.npz", allow_pickle=False) as file:
        x, y, xt, yt = (file[key] for key in ("x", "y", "xt", "yt"))
    validation, test = stratified_split(yt, (150, 220), SEED)
    parts = {"train": (x, y), "validation": (xt[validation], yt[validation]), "test": (xt[test], yt[test])}
    splits = {
        name: Split(torch.from_numpy(frames), torch.from_numpy(speakers)) for name, (frames, speakers) in parts.items()
    }
    return Data(splits, "sequence", SOURCE, LICENCE, classes=CLASSES, labels=LABELS)
