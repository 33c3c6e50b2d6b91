"""The bundled sample models: real data, really trained, one readable file per architecture.

>>> from sample_models import SAMPLES, build, card, data, weights_path
>>> module = build("fashion-lenet5")                     # the architecture, untrained
>>> x, y = data("fashion-lenet5").splits["test"][0]      # one prepared sample, (1, 28, 28) and a class

The table below is plain values: importing this package imports neither torch nor numpy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from sample_models.datasets import Data

__all__ = ["SAMPLES", "Sample", "build", "card", "data", "weights_path"]

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Sample:
    """One row of the table: `module` is "file:Class" in this folder, `data` a file in `datasets/`."""

    name: str
    title: str
    module: str
    data: str
    task: str  # "classification" | "regression" | "language_model"
    summary: str


# fmt: off
_TABLE = (
    Sample("fashion-mlp", "LeNet-300-100", "fashion_mlp:FashionMLP", "fashion", "classification",
           "The fully connected network on which pruning is usually introduced, telling ten kinds of clothing apart."),
    Sample("fashion-lenet5", "LeNet-5", "fashion_lenet5:FashionLeNet5", "fashion", "classification",
           "The classic small convolutional network: two convolutions hold 6 % of the weights, one linear layer 93 %."),
    Sample("fashion-resnet", "ResNet", "fashion_resnet:FashionResNet", "fashion", "classification",
           "Residual blocks with BatchNorm: skip connections tie the channels of several layers together."),
    Sample("fashion-vit", "Vision Transformer", "fashion_vit:FashionViT", "fashion", "classification",
           "Sixteen patches of an image read by four blocks of attention with four heads each."),
    Sample("vowels-rnn", "Tiny RNN", "vowels_rnn:VowelsRNN", "vowels", "classification",
           "Two recurrent layers of ten units that recognize a speaker, small enough to draw every connection."),
    Sample("vowels-lstm", "LSTM", "vowels_lstm:VowelsLSTM", "vowels", "classification",
           "Two LSTM layers of 64 units that recognize which of nine men said the two vowels."),
    Sample("surnames-gru", "Bidirectional GRU", "surnames_gru:SurnamesGRU", "surnames", "classification",
           "Reads a surname letter by letter in both directions and guesses which of 16 languages it comes from."),
    Sample("moby-lstm", "Character LSTM", "moby_lstm:MobyLSTM", "moby", "language_model",
           "A character language model of Moby-Dick: two LSTM layers predict the next letter."),
    Sample("bikes-mlp", "Regression MLP", "bikes_mlp:BikesMLP", "bikes", "regression",
           "Predicts how many bikes are rented in an hour from the time and the weather."),
)
# fmt: on

SAMPLES: Mapping[str, Sample] = MappingProxyType({sample.name: sample for sample in _TABLE})


def build(name: str) -> nn.Module:
    """Return the architecture of a sample with fresh random weights, in training mode."""
    file, _, cls = SAMPLES[name].module.partition(":")
    return getattr(import_module(f"sample_models.{file}"), cls)()


def weights_path(name: str) -> Path:
    """Return where the trained fp32 weights (safetensors, keyed as `state_dict()`) of a sample lie."""
    return HERE / "weights" / f"{SAMPLES[name].name}.safetensors"


def card(name: str) -> dict[str, Any]:
    """Return a sample's card: architecture, parameters, data, licence, training, scores on the three splits."""
    return json.loads((HERE / "cards" / f"{SAMPLES[name].name}.json").read_text(encoding="utf-8"))


def data(name: str) -> Data:
    """Return the splits of a sample's data set; samples of one data set share one object."""
    return _load(SAMPLES[name].data)


@cache
def _load(dataset: str) -> Data:
    return import_module(f"sample_models.datasets.{dataset}").load()
