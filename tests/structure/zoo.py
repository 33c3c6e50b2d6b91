"""Small models of many architectures with tasks, on which removal of units is tried."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from explorer.models.subject import Subject
from explorer.models.task import Task
from tests.contract.nets import classification, language, randomize
from tests.structure import nets_control as control
from tests.structure import nets_conv as conv
from tests.structure import nets_depth as depth
from tests.structure import nets_functional as functional
from tests.structure import nets_grouped as grouped
from tests.structure import nets_sequence as sequence
from tests.structure import nets_transformer as transformer


@dataclass(frozen=True)
class Case:
    """An architecture: how to make it, what it reads, and what is expected of it.

    groups: {group name: (kind, units)}. refused: {layer: part of the reason}; ``None`` for groups where the names do not
    matter. Inputs are [N, *shape], or token indices where shape is None.
    """

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...] | None
    groups: dict[str, tuple[str, int]] | None = None
    refused: dict[str, str] = field(default_factory=dict)
    kind: str = "classification"
    inputs: Callable[[], Task] | None = None  # for what is neither [N, *shape] nor token indices

    def subject(self, device: str) -> Subject:
        torch.manual_seed(0)
        module = randomize(self.make()).to(device)
        return Subject(module, self.task(), self.name)

    def task(self) -> Task:
        if self.inputs is not None:
            return self.inputs()
        if self.shape is None:
            return language(n=16) if self.kind == "language" else tokens()
        return classification(self.shape, n=16)


def tokens(n: int = 16, length: int = 6, vocabulary: int = 11) -> Task:
    """Token indices [N, T] with a class each."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, vocabulary, (n, length), generator=generator)
    data = torch.utils.data.TensorDataset(inputs, torch.arange(n) % 3)
    return Task.classification(train=data, validation=data, test=data)


def keywords(n: int = 16, length: int = 6) -> Task:
    """Inputs by name: sequences [N, T, 4] with a length and a context [N, 4] each; outputs are a dict."""
    generator = torch.Generator().manual_seed(0)
    data = []
    for i in range(n):
        tensors = {
            "sequences": torch.randn(length, 4, generator=generator),
            "context": torch.randn(4, generator=generator),
        }
        data.append(({**tensors, "lengths": torch.tensor(1 + i % length)}, i % 3))
    return Task.classification(
        train=data,
        validation=data,
        test=data,
        loss=lambda outputs, y: nn.functional.cross_entropy(outputs["logits"], y),
    )


H, C, N, W = "hidden", "channel", "neuron", "width"
BLOCK = {"embed": (W, 12), "attn": ("head", 3), "fc1": (N, 10)}
SHUFFLED = {"stem": (C, 4), "unit1.conv1": (C, 3), "unit2.conv1": (C, 3)}
HEAD = {"head.weight": "its units reach the model's output"}

CASES = [
    Case("mlp", conv.mlp, (6,), {"0": (N, 8), "2": (N, 6)}),
    Case("cnn with batch norm and sigmoid", conv.cnn, (2, 8, 8), {"0": (C, 6), "3": (C, 4)}),
    Case(
        "depthwise-separable",
        conv.DepthwiseSeparable,
        (2, 8, 8),
        {"stem": (C, 6), "point1": (C, 8), "point2": (C, 6)},
        HEAD,
    ),
    Case("depthwise with a multiplier", grouped.DepthwiseMultiplier, (2, 8, 8), {"stem": (C, 4), "fc": (N, 6)}, HEAD),
    Case(
        "transposed depthwise with a multiplier",
        lambda: grouped.DepthwiseMultiplier(True),
        (2, 8, 8),
        {"stem": (C, 4), "fc": (N, 6)},
        HEAD,
    ),
    Case("grouped convolution", grouped.Grouped, (2, 8, 8), {"a": (C, 4), "b": (C, 6), "c": (C, 6)}, HEAD),
    Case("grouped and transposed", grouped.GroupedImage, (2, 8, 8), {"a": (C, 4), "b": (C, 3)}, HEAD),
    Case("resnext-like", grouped.ResNeXt, (2, 8, 8), {"stem": (C, 6), "conv1": (C, 8)}, HEAD),
    Case(
        "resnext-like, few groups",
        lambda: grouped.ResNeXt(2, 8),
        (2, 8, 8),
        {"stem": (C, 6), "conv1": (C, 8), "conv2": (C, 8)},
        HEAD,
    ),
    Case("shufflenet-like", grouped.ShuffleNet, (2, 8, 8), SHUFFLED, HEAD),
    Case("shufflenet-like, nn.ChannelShuffle", lambda: grouped.ShuffleNet("module"), (2, 8, 8), SHUFFLED, HEAD),
    Case("shufflenet v2-like", grouped.SplitShuffle, (2, 8, 8), {"stem": (C, 4), "conv1": (C, 4)}, HEAD),
    Case(
        "shufflenet v2-like, channel_shuffle",
        lambda: grouped.SplitShuffle("function"),
        (2, 8, 8),
        {"stem": (C, 4), "conv1": (C, 4)},
        HEAD,
    ),
    Case(
        "dense concatenation", conv.DenseNet, (2, 8, 8), {"stem": (C, 4), "a": (C, 3), "b": (C, 3), "c": (C, 5)}, HEAD
    ),
    Case("residual", conv.Residual, (2, 8, 8), {"stem": (C, 6), "a": (C, 5)}, HEAD),
    Case("u-net skip", conv.UNet, (1, 8, 8), {"down1": (C, 4), "down2": (C, 6), "up": (C, 4), "mix": (C, 5)}),
    Case("squeeze and excite", conv.SqueezeExcite, (2, 8, 8), {"conv": (C, 6), "squeeze": (N, 4)}, HEAD),
    Case("conv1d", conv.Conv1dNet, (3, 10), {"a": (C, 6), "b": (C, 5)}, HEAD),
    Case("conv3d", conv.Conv3dNet, (1, 4, 6, 6), {"a": (C, 4), "b": (C, 5)}, HEAD),
    Case("instance norm", conv.InstanceNormNet, (2, 8, 8), {"a": (C, 6)}, HEAD),
    Case("flatten after adaptive pooling", conv.AdaptiveFlatten, (2, 9, 9), {"a": (C, 6), "fc": (N, 8)}, HEAD),
    Case("a module called twice", conv.CalledTwice, (6,), {"embed": (N, 6)}, HEAD),
    Case("a module called twice, apart", conv.CalledApart, (6,), {"a": (N, 6), "shared": (N, 5)}, HEAD),
    Case("a list with an unused layer", conv.UnusedLayer, (6,), {"layers.0": (N, 6), "layers.2": (N, 6)}),
    Case("halves read by different layers", conv.Halves, (6,), {"a#2": (N, 6)}, {"left.weight": "output"}),
    Case("gated linear unit", conv.Gated, (6,), {"both": (N, 5)}, HEAD),
    Case("pixel shuffle", conv.Shuffle, (1, 6, 6), {"a": (C, 2), "b": (C, 4)}, HEAD),
    Case("functional layers", conv.Functional, (6,), {"a": (N, 8), "b": (N, 5)}),
    Case("products with parameters", functional.Products, (6,), {"a": (N, 8), "b": (N, 5), "c": (N, 7)}),
    Case("einsum", functional.Einsum, (5, 4), {"q": ("head", 3), "v": (C, 4), "out": (C, 12)}),
    Case(
        "functions on parameters",
        functional.Functional,
        (2, 8, 8),
        {"filters": (C, 3), "grouped": (C, 4), "gate": (C, 5), "head": (N, 3)},
    ),
    Case("conv -> lstm -> linear", sequence.ConvLSTM, (3, 10), {"conv": (C, 6), "lstm.l0": (H, 5)}, HEAD),
    Case("encoder-decoder gru with a shared state", sequence.EncoderDecoder, (6, 4), {"encoder.l0": (H, 6)}, HEAD),
    Case("lstm cell in a loop", sequence.Cells, (5, 4), {"cell": (H, 6)}, HEAD),
    Case("gru cell in a loop", lambda: sequence.Cells("GRU"), (5, 4), {"cell": (H, 6)}, HEAD),
    Case("mean over time", sequence.MeanOverTime, (6, 4), {"gru.l0": (H, 6)}, HEAD),
    Case("final states joined", sequence.FinalStates, (6, 4), {"lstm.l0": (H, 5), "lstm.l0_reverse": (H, 5)}, HEAD),
    Case("gru on a batch of windows", sequence.TimeFirst, (6, 4), {"embed": (N, 5), "gru.l0": (H, 6)}, HEAD),
    Case(
        "tied-embedding language model",
        lambda: sequence.Tied(),
        None,
        {"embedding": (W, 6), "lstm.l0": (H, 8)},
        {},
        "language",
    ),
    Case(
        "untied language model",
        lambda: sequence.Untied(),
        None,
        {"embedding": (W, 6), "lstm.l0": (H, 8)},
        HEAD,
        "language",
    ),
    Case("fused qkv, reshape and unbind", lambda: transformer.Encoder("unbind"), (5, 4), BLOCK, HEAD),
    Case("fused qkv, chunk", lambda: transformer.Encoder("chunk"), (5, 4), BLOCK, HEAD),
    Case("separate q, k, v with matmul", lambda: transformer.Encoder("matmul"), (5, 4), BLOCK, HEAD),
    Case("separate q, k, v with a mask", lambda: transformer.Encoder("masked"), (5, 4), BLOCK, HEAD),
    Case(
        "nn.TransformerEncoderLayer",
        transformer.ModuleEncoder,
        (5, 4),
        {"embed": (W, 12), "encoder.self_attn": ("head", 3), "encoder.linear1": (N, 10)},
        HEAD,
    ),
    Case(
        "decoder with cross attention",
        transformer.CrossDecoder,
        (5, 4),
        {**BLOCK, "memory": (N, 8), "cross": ("head", 3)},
        HEAD,
    ),
    Case(
        "nn.TransformerDecoder",
        lambda: depth.Modules(True, decoder=True),
        (5, 4),
        {"embed": (W, 12)}
        | {f"decoder.layers.{i}.{name}": ("head", 2) for i in (0, 1) for name in ("self_attn", "multihead_attn")}
        | {f"decoder.layers.{i}.linear1": (N, 10) for i in (0, 1)},
        HEAD,
    ),
    Case(
        "nn.Transformer",
        depth.Seq2Seq,
        (5, 4),
        {"embed": (W, 12)}
        | {f"both.{at}": ("head", 2) for at in ("encoder.layers.0.self_attn", "decoder.layers.0.self_attn", "decoder.layers.0.multihead_attn")}
        | {f"both.{at}.layers.0.linear1": (N, 10) for at in ("encoder", "decoder")},
        HEAD,
    ),
    Case("grouped queries", lambda: transformer.Encoder("grouped"), (5, 4), BLOCK, HEAD),
    Case(
        "equal heads in all layers", transformer.EqualHeads, (5, 4), {"embed": (W, 12), "layers.0": ("head", 3)}, HEAD
    ),
    Case("group norm", conv.GroupNormNet, (2, 8, 8), {"a": (C, 2), "fc": (N, 5)}, HEAD),
    Case("layer norm", conv.LayerNormNet, (6,), {"a": (N, 8), "fc": (N, 5)}, HEAD),
]

TWO = {"a": (N, 8), "right": (N, 5)}
UNTRACEABLE = [
    Case("branch on the length", control.BySize, (5, 4), {**{f"lstm.l{i}{s}": (H, 6) for i in (0, 1) for s in ("", "_reverse")}, "fc": (N, 5)}, HEAD),
    Case("branch on the length, long", control.BySize, (12, 4), None, HEAD),
    Case("lstm cell in a loop of any length", lambda: control.LoopedCell("LSTM"), (5, 4), {"cell": (H, 6)}, HEAD),
    Case("gru cell in a loop of any length", lambda: control.LoopedCell("GRU"), (5, 4), {"cell": (H, 6)}, HEAD),
    Case("rnn cell in a loop of any length", lambda: control.LoopedCell("RNN"), (5, 4), {"cell": (H, 6)}, HEAD),
    Case("branch on data", control.ByData, (6,), TWO, HEAD),
    Case("branch on data that mixes units", lambda: control.ByData("softmax"), (6,), {"a": (N, 8)}, {"left.weight": "softmax"}),
    Case("branch on a number that no sample takes", lambda: control.ByData("item"), (6,), {**TWO, "a": (N, 4)}, HEAD),
    Case("branch on a number that is lost", lambda: control.ByData("float"), (6,), {}, {"a.weight": "plain numbers", "left.weight": "plain"}),
    Case("branch on the units", lambda: control.ByData("units"), (6,), {"right": (N, 5)}, {"a.weight": "all runs over its units"}),
    Case("branch that no sample takes", lambda: control.ByData("rare"), (6,), {"right": (N, 5)}, {"a.weight": "fails once units are removed"}),
    Case("checks on data", lambda: control.ByData("checked"), (6,), TWO, HEAD),
    Case("layer that no sample reaches", control.Unused, (5, 4), {"block.fc1": (N, 7)}, {"embed.weight": "long.weight"}),
    Case("early exit", control.EarlyExit, (5, 4), {**BLOCK, "block.self_attn": ("head", 3), "block.linear1": (N, 9)}, HEAD),
    Case("keywords, packed sequences, a state", control.Packed, None, {"start": (N, 6)}, HEAD, inputs=keywords),
]  # fmt: skip


def recurrent() -> Iterator[Case]:
    """Every way in which a recurrent layer can be made."""
    kinds = ("LSTM", "GRU", "RNN")
    for kind, layers, both, bias, first in itertools.product(
        kinds, (1, 2, 3), (False, True), (True, False), (True, False)
    ):
        for proj in (0, 3) if kind == "LSTM" else (0,):
            settings = [
                f"{layers} layers",
                *["bidirectional"] * both,
                *["no bias"] * (not bias),
                *["time first"] * (not first),
            ]
            name = ", ".join([f"{kind.lower()}", *settings, *[f"proj_size {proj}"] * bool(proj)])

            def make(
                kind: str = kind,
                layers: int = layers,
                both: bool = both,
                bias: bool = bias,
                first: bool = first,
                proj: int = proj,
            ) -> nn.Module:
                return sequence.Stacked(kind, layers, both, bias, first, proj)

            tags = [f"rnn.l{i}{s}" for i in range(layers) for s in ("", "_reverse")[: 1 + both]]
            groups = {tag: (H, 6) for tag in tags}
            yield Case(name, make, (5, 4), None if proj else groups, HEAD)


RECURRENT = list(recurrent())
