"""Architectures with blocks that can be removed whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tests.structure import nets_conv as conv
from tests.structure import nets_depth as depth
from tests.structure import nets_grouped as grouped
from tests.structure import nets_transformer as transformer
from tests.structure.zoo import Case


@dataclass(frozen=True)
class Deep(Case):
    """blocks: {name of a removable block: the modules that stand for it}."""

    blocks: tuple[tuple[str, str], ...] = ()


def deep(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...], **blocks: str) -> Deep:
    return Deep(name, make, shape, blocks=tuple((one.replace("__", "."), modules) for one, modules in blocks.items()))


def _basic(prefix: str, n: int) -> str:
    return " ".join(f"{prefix}{kind}{i}" for i in range(1, n + 1) for kind in ("conv", "bn"))


def _stage(i: int) -> str:
    return _basic(f"stages.{i}.", 3)


ATTENTION, FEED_FORWARD = "norm1 attn", "norm2 fc1 fc2"
DEPTH = [
    deep("residual", conv.Residual, (2, 8, 8), a="a bn1 b bn2"),
    deep(
        "resnet with a projection",
        depth.ResNet,
        (2, 9, 9),
        stages__0=_stage(0),
        stages__1=_stage(1),
        stages__2=_stage(2),
    ),
    deep("resnext-like", grouped.ResNeXt, (2, 8, 8), conv1=_basic("", 3)),
    deep(
        "shufflenet-like",
        grouped.ShuffleNet,
        (2, 8, 8),
        unit1="unit1.conv1 unit1.bn1 unit1.depth unit1.bn2 unit1.conv3 unit1.bn3",
        unit2="unit2.conv1 unit2.bn1 unit2.depth unit2.bn2 unit2.conv3 unit2.bn3",
    ),
    deep("pre-norm transformer", lambda: transformer.Encoder("chunk"), (5, 4), attn=ATTENTION, fc1=FEED_FORWARD),
    deep("post-norm transformer", depth.PostNorm, (5, 4), attn="attn drop", fc1="fc1 fc2"),
    deep("attention beside a feed-forward network", depth.Parallel, (5, 4), attn="attn", fc1="fc1 fc2"),
    deep("attention in the forward itself", depth.Inline, (5, 4), qkv="norm qkv out"),
    deep(
        "decoder with cross attention",
        transformer.CrossDecoder,
        (5, 4),
        attn="attn",
        memory="memory cross",
        fc1="fc1 fc2",
    ),
    deep(
        "nn.TransformerEncoder, norm first",
        lambda: depth.Modules(True),
        (5, 4),
        encoder__layers__0__self_attn="encoder.layers.0.self_attn encoder.layers.0.norm1",
        encoder__layers__0__linear1="encoder.layers.0.linear1 encoder.layers.0.linear2 encoder.layers.0.norm2",
        encoder__layers__1__self_attn="encoder.layers.1.self_attn encoder.layers.1.norm1",
        encoder__layers__1__linear1="encoder.layers.1.linear1 encoder.layers.1.linear2 encoder.layers.1.norm2",
    ),
    deep(
        "nn.TransformerEncoder, norm last",
        lambda: depth.Modules(False),
        (5, 4),
        encoder__layers__0__self_attn="encoder.layers.0.self_attn",
        encoder__layers__0__linear1="encoder.layers.0.linear1 encoder.layers.0.linear2",
        encoder__layers__1__self_attn="encoder.layers.1.self_attn",
        encoder__layers__1__linear1="encoder.layers.1.linear1 encoder.layers.1.linear2",
    ),
    deep(
        "nn.TransformerDecoder, norm first",
        lambda: depth.Modules(True, decoder=True),
        (5, 4),
        **{
            f"decoder__layers__{i}__{name}": " ".join(f"decoder.layers.{i}.{module}" for module in modules.split())
            for i in (0, 1)
            for name, modules in (
                ("self_attn", "norm1 self_attn dropout1"),
                ("multihead_attn", "norm2 multihead_attn dropout2"),
                ("linear1", "norm3 linear1 dropout linear2 dropout3"),
            )
        },
    ),
    deep(
        "nn.Transformer",
        depth.Seq2Seq,
        (5, 4),
        # only the first attention on the memory reads the encoder: it goes along
        both__decoder__layers__0__multihead_attn="both.encoder both.decoder.layers.0.multihead_attn both.decoder.layers.0.dropout2",
        both__encoder__layers__0__self_attn="both.encoder.layers.0.self_attn",
        both__encoder__layers__0__linear1="both.encoder.layers.0.linear1 both.encoder.layers.0.linear2",
        **{
            f"both__decoder__layers__0__{name}": " ".join(
                f"both.decoder.layers.0.{module}" for module in modules.split()
            )
            for name, modules in (
                ("self_attn", "self_attn dropout1"),
                ("linear1", "linear1 dropout linear2 dropout3"),
            )
        },
    ),
    deep("convnext-like", depth.ConvNeXt, (2, 8, 8), depth="depth norm fc1 fc2", mix="mix"),
    deep("residual recurrent layers", depth.ResidualLSTM, (5, 4), first="first", second="second", third="third"),
    deep("a residual within a residual", depth.Nested, (6,), a="a c d b", c="c d"),
]
