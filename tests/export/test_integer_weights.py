"""Weights as integers: ONNX Runtime makes the values of them that the codes mean, in every layout of scales."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from explorer.compress.quantizers import registry as quantizers
from explorer.compress.slices import Slices, slices_of
from explorer.export.integer import normalization
from explorer.export.integer.weights import Weight, layout, stored
from explorer.export.steps import steps_of

SHAPES = {
    "tensor": (np.ones((1, 1)), (6, 10)),
    "rows": (np.arange(1, 7.0)[:, None], (6, 10)),
    "columns": (np.arange(1, 11.0)[None], (6, 10)),
    "channels of a convolution": (np.arange(1, 7.0)[:, None, None, None], (6, 2, 3, 3)),
    "gates of two directions": (np.arange(1, 9.0).reshape(2, 4, 1), (2, 4, 5)),
    "groups along rows": (np.arange(1, 13.0).reshape(6, 2).repeat(5, 1), (6, 10)),
    "groups along columns": (np.arange(1, 21.0).reshape(2, 10).repeat(5, 0), (10, 10)),
    "groups over two axes": (np.arange(1, 13.0).reshape(6, 2).repeat(9, 1).reshape(6, 2, 3, 3), (6, 2, 3, 3)),
}


def run(
    initializers: list[onnx.TensorProto], nodes: list[onnx.NodeProto], name: str, dims: int = 2, opset: int = 21
) -> np.ndarray:
    """What ONNX Runtime computes for the value ``name``."""
    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * dims)
    graph = helper.make_graph(nodes, "g", [], [value], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {})[0]


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(("low", "high", "narrow"), [(-127, 127, False), (0, 255, False), (-7, 7, True), (0, 15, True)])
def test_every_layout_of_scales_is_restored(kind: str, low: int, high: int, narrow: bool) -> None:
    scale, shape = SHAPES[kind]
    rng = np.random.default_rng(0)
    code = rng.integers(low, high + 1, shape).astype(np.float32)
    scale = np.broadcast_to(scale * 0.01, shape).astype(np.float32)
    zero = np.zeros(shape, np.float32) if low < 0 else np.floor(scale / scale.max() * high).astype(np.float32)
    block = {"groups over two axes": 9}.get(kind, 5)
    weight = Weight(code, zero, scale, low, high, True, block)
    made = stored("w", weight, narrow)
    assert made is not None
    found = run(*made, "w", len(shape))
    assert found.shape == shape
    np.testing.assert_allclose(found, (code - zero) * scale, rtol=1e-6)
    bits = 4 if narrow else 8
    assert sum(len(one.raw_data) for one in made[0] if one.name == "w_codes") == -(-code.size * bits // 8)


def test_scales_that_onnx_cannot_lay_out_stay_floats() -> None:
    rng = np.random.default_rng(0)
    scale = rng.random((6, 10)).astype(np.float32)
    weight = Weight(np.ones((6, 10), np.float32), np.zeros((6, 10), np.float32), scale, -127, 127, True, 5)
    assert layout(weight) is None and stored("w", weight, False) is None


@pytest.mark.parametrize("name", sorted(quantizers))
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_every_quantizer_comes_back_or_is_refused(name: str, granularity: str, device: str) -> None:
    entry = quantizers[name]
    if granularity not in entry.granularities:
        pytest.skip(f"{name} has no {granularity}")
    torch.manual_seed(0)
    weight = torch.randn(12, 40) * (torch.rand(12, 40) < 0.7)
    weight = weight.to(device)
    slices = slices_of("w", "linear", (12, 40), 0, granularity, 10 if granularity == "group" else None)
    refused = 0
    for bits in entry.bits:
        codes = entry().fit(weight, bits, entry.schemes[-1], slices)
        steps = steps_of(codes, weight)
        expected = codes.fake_quantize(weight).cpu()
        if steps is None:
            refused += 1
            continue
        arrays = [
            np.broadcast_to(part.float().cpu().numpy(), weight.shape) for part in (steps.code, steps.zero, steps.scale)
        ]
        np.testing.assert_allclose((arrays[0] - arrays[1]) * arrays[2], expected.numpy(), rtol=1e-6, atol=1e-12)
        made = stored("w", Weight(*arrays, steps.low, steps.high, steps.whole, codes.slices.size), bits <= 4)
        if made is not None:
            np.testing.assert_allclose(run(*made, "w"), expected.numpy(), rtol=1e-6, atol=1e-12)
        else:
            refused += 1
    assert refused < len(entry.bits) or name.startswith(("kmeans", "fp16", "bf16")) or granularity == "group"
    if name in ("minmax", "percentile", "mse", "entropy"):
        assert refused == 0


def test_a_batch_normalization_goes_into_the_scales(device: str) -> None:
    """Also a negative one, which turns the codes around, with and without a zero point."""
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 4, 3).to(device), torch.nn.BatchNorm2d(4).to(device)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.5, -0.5, 0.1, -2.0]))
        norm.bias.copy_(torch.randn(4))
        norm.running_mean.copy_(torch.randn(4))
        norm.running_var.copy_(torch.rand(4) + 0.5)
    for scheme in ("symmetric", "affine"):
        codes = quantizers["minmax"]().fit(conv.weight.detach(), 8, scheme, Slices())
        steps = steps_of(codes, conv.weight.detach())
        arrays = [
            np.array(np.broadcast_to(p.float().cpu().numpy(), conv.weight.shape))
            for p in (steps.code, steps.zero, steps.scale)
        ]
        coded = Weight(*arrays, steps.low, steps.high, True)
        held = {"w": coded.value, "b": conv.bias} | {
            k: getattr(norm, k) for k in ("weight", "bias", "running_mean", "running_var")
        }
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["x", "w", "b"], ["y"]),
                helper.make_node("BatchNormalization", ["y", "weight", "bias", "running_mean", "running_var"], ["z"]),
            ],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 4, 6, 6])],
            [numpy_helper.from_array(np.asarray(torch.as_tensor(v).detach().cpu()), k) for k, v in held.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        factors: dict[str, np.ndarray] = {}
        normalization.merge(model, factors.__setitem__)
        assert [node.op_type for node in model.graph.node] == ["Conv"]
        merged = coded.times(factors["w"])
        assert (merged.scale > 0).all() and merged.code.min() >= merged.low and merged.code.max() <= merged.high
        assert (merged.code == np.round(merged.code)).all()
        made = stored("w", merged, False)
        for one in [one for one in model.graph.initializer if one.name == "w"]:
            model.graph.initializer.remove(one)
        model.graph.initializer.extend(made[0])
        nodes = [*made[1], *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        x = torch.randn(2, 3, 8, 8)
        found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x.numpy()})[0]
        with torch.no_grad():
            rounded = torch.nn.functional.conv2d(x.to(device), codes.fake_quantize(conv.weight), conv.bias)
            np.testing.assert_allclose(found, norm.eval()(rounded).cpu().numpy(), rtol=1e-4, atol=1e-5)
