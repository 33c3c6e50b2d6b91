"""A weight in an ONNX graph as integers and the nodes that make floats of them again.

DequantizeLinear has one scale, one an index of an axis, or one a block along an axis; whatever scales are laid out
otherwise (gates of two directions, groups over several axes) is stored as a matrix that a Reshape follows. Few values
that no grid holds (codebooks, powers of two) are gathered from a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INT4_OPSET = 21


@dataclass(frozen=True, eq=False)
class Weight:
    """value = (code - zero) * scale, arrays of the tensor's shape. code: whole numbers in low .. high where whole."""

    code: np.ndarray
    zero: np.ndarray
    scale: np.ndarray
    low: int
    high: int
    whole: bool
    block: int | None = None  # entries that share a scale, where that is known

    @property
    def value(self) -> np.ndarray:
        """float32."""
        found: np.ndarray = ((self.code - self.zero) * self.scale).astype(np.float32)
        return found

    def times(self, factor: np.ndarray) -> Weight:
        """With the scale multiplied by ``factor``, broadcast; codes change their sign with it, so that scales stay positive."""
        flip = np.broadcast_to(factor < 0, self.code.shape)
        code = np.where(flip, self.low + self.high - self.code if self.zero.any() else -self.code, self.code)
        zero = np.where(flip, self.low + self.high - self.zero if self.zero.any() else -self.zero, self.zero)
        low, high = (
            (min(self.low, -self.high), max(self.high, -self.low)) if not self.zero.any() else (self.low, self.high)
        )
        return Weight(code, zero, self.scale * np.abs(factor), low, high, self.whole, self.block)


@dataclass(frozen=True)
class Layout:
    """matrix: the shape that codes are stored in. scale, zero: their parameters. axis, block: as DequantizeLinear's."""

    matrix: tuple[int, ...]
    scale: np.ndarray
    zero: np.ndarray
    axis: int | None
    block: int | None


def layout(weight: Weight) -> Layout | None:
    """How DequantizeLinear can say the scales; None where it cannot."""
    shape, pair = weight.code.shape, np.stack([weight.scale, weight.zero])
    if _repeats(pair, pair[(slice(None), *[slice(0, 1)] * len(shape))]):
        return Layout(shape, pair[0].flat[0], pair[1].flat[0], None, None)
    for axis in range(len(shape)):
        first = pair[(slice(None), *(slice(None) if d == axis else slice(0, 1) for d in range(len(shape))))]
        if _repeats(pair, first):
            return Layout(shape, first[0].reshape(-1), first[1].reshape(-1), axis, None)
    for split in range(1, len(shape)):
        matrix = math.prod(shape[:split]), math.prod(shape[split:])
        flat = pair.reshape(2, *matrix)
        if _repeats(flat, flat[:, :, :1]):
            return Layout(matrix, flat[0, :, 0], flat[1, :, 0], 0, None)
        for axis in (1, 0) if weight.block else ():
            assert weight.block is not None
            picked = flat[:, :, :: weight.block] if axis else flat[:, :: weight.block]
            if _repeats(flat, picked.repeat(weight.block, axis + 1)[:, : matrix[0], : matrix[1]]):
                return Layout(matrix, picked[0], picked[1], axis, weight.block)
    return None


def _repeats(whole: np.ndarray, part: np.ndarray) -> bool:
    return bool((whole == part).all())


def stored(name: str, weight: Weight, narrow: bool) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]] | None:
    """(initializers, nodes) that make the value ``name``; None where floats are all that can say it.

    narrow: codes of at most 4 bits as INT4 or UINT4, two a byte, which need opset 21.
    """
    if not weight.whole:
        return _gathered(name, weight)
    found = layout(weight)
    kind = _type(weight, narrow)
    if found is None or kind is None:
        return None
    code, zero = weight.code.astype(np.int64), found.zero.astype(np.int64)
    made = [
        _integers(f"{name}_codes", code.reshape(found.matrix), kind),
        numpy_helper.from_array(np.asarray(found.scale, np.float32), f"{name}_scale"),
    ]
    if zero.any():
        made.append(_integers(f"{name}_zero", zero, kind))
    parameters: dict[str, Any] = {"axis": found.axis} if found.axis is not None else {}
    if found.block:
        parameters["block_size"] = found.block
    shaped = found.matrix != weight.code.shape
    out = f"{name}_matrix" if shaped else name
    nodes = [
        helper.make_node("DequantizeLinear", [one.name for one in made], [out], f"{name}_dequantize", **parameters)
    ]
    if shaped:
        made.append(numpy_helper.from_array(np.array(weight.code.shape, np.int64), f"{name}_shape"))
        nodes.append(helper.make_node("Reshape", [out, made[-1].name], [name], f"{name}_reshape"))
    return made, nodes


def _type(weight: Weight, narrow: bool) -> int | None:
    if narrow and -8 <= weight.low and weight.high <= 7:
        return TensorProto.INT4
    if narrow and 0 <= weight.low and weight.high <= 15:
        return TensorProto.UINT4
    if -128 <= weight.low and weight.high <= 127:
        return TensorProto.INT8
    return TensorProto.UINT8 if 0 <= weight.low and weight.high <= 255 else None


def _integers(name: str, values: np.ndarray, kind: int) -> onnx.TensorProto:
    if kind in (TensorProto.INT4, TensorProto.UINT4):
        flat = values.reshape(-1) & 15
        flat = np.concatenate([flat, np.zeros(len(flat) % 2, flat.dtype)])
        packed = (flat[0::2] | flat[1::2] << 4).astype(np.uint8)  # the first entry in the low half
        return TensorProto(name=name, data_type=kind, dims=values.shape, raw_data=packed.tobytes())
    return numpy_helper.from_array(values.astype(np.int8 if kind == TensorProto.INT8 else np.uint8), name)


def _gathered(name: str, weight: Weight) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]] | None:
    """At most 256 values, and what multiplies them: value = table[code] * scale."""
    table, code = np.unique(weight.code, return_inverse=True)
    found = layout(weight)
    if len(table) > 256 or found is None or found.block or found.matrix != weight.code.shape or weight.zero.any():
        return None
    made = [
        numpy_helper.from_array(table.astype(np.float32), f"{name}_table"),
        numpy_helper.from_array(code.reshape(weight.code.shape).astype(np.uint8), f"{name}_codes"),
    ]
    if found.axis is None:
        made[0] = numpy_helper.from_array((table * found.scale).astype(np.float32), f"{name}_table")
        out = name
    else:
        shape = [1] * weight.code.ndim
        shape[found.axis] = -1
        made.append(numpy_helper.from_array(found.scale.reshape(shape).astype(np.float32), f"{name}_scale"))
        out = f"{name}_steps"
    nodes = [
        helper.make_node("Cast", [f"{name}_codes"], [f"{name}_index"], f"{name}_cast", to=TensorProto.INT32),
        helper.make_node("Gather", [f"{name}_table", f"{name}_index"], [out], f"{name}_gather"),
    ]
    if out != name:
        nodes.append(helper.make_node("Mul", [out, f"{name}_scale"], [name], f"{name}_multiply"))
    return made, nodes
