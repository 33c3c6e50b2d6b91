"""What torch's Transformer containers compute, without the checks of sizes and masks that torch.fx cannot follow."""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import Tensor, nn


def _decode(
    self: nn.TransformerDecoder, tgt: Tensor, memory: Tensor, tgt_mask: Any = None, memory_mask: Any = None,
    tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None, tgt_is_causal: Any = None, memory_is_causal: bool = False,
) -> Tensor:  # fmt: skip
    """nn.TransformerDecoder.forward; that a mask is causal is a hint to its kernels, which is left out."""
    masks = {"tgt_mask": tgt_mask, "memory_mask": memory_mask}
    masks |= {"tgt_key_padding_mask": tgt_key_padding_mask, "memory_key_padding_mask": memory_key_padding_mask}
    for layer in self.layers:
        tgt = layer(tgt, memory, **masks)
    return tgt if self.norm is None else self.norm(tgt)


def _transform(
    self: nn.Transformer, src: Tensor, tgt: Tensor, src_mask: Any = None, tgt_mask: Any = None, memory_mask: Any = None,
    src_key_padding_mask: Any = None, tgt_key_padding_mask: Any = None, memory_key_padding_mask: Any = None,
    src_is_causal: Any = None, tgt_is_causal: Any = None, memory_is_causal: bool = False,
) -> Any:  # fmt: skip
    memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask)
    masks = {"tgt_mask": tgt_mask, "memory_mask": memory_mask}
    masks |= {"tgt_key_padding_mask": tgt_key_padding_mask, "memory_key_padding_mask": memory_key_padding_mask}
    return self.decoder(tgt, memory, **masks)


PLAIN = {nn.TransformerDecoder: _decode, nn.Transformer: _transform}


def simplify(module: nn.Module) -> None:
    """Give the Transformer containers within a copy a forward that can be traced into."""
    for child in module.modules():
        if type(child) in PLAIN:
            child.forward = MethodType(PLAIN[type(child)], child)  # type: ignore[arg-type,method-assign,index]
