"""ONNX files that lie about their sizes, lead elsewhere, or never end. Each maker gives one file's bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HUGE = (1 << 63) - 1


def model(
    nodes: list[Any] | None = None,
    tensors: list[Any] | None = None,
    functions: list[Any] | None = None,
    outputs: tuple[str, ...] = ("y",),
) -> onnx.ModelProto:
    """y = x @ w, or other nodes beside it."""
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = helper.make_graph(
        [*(nodes or []), helper.make_node("MatMul", ["x", "w"], ["y"], "product")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "m"][: 2 if name == "y" else 1]) for name in outputs],
        [weight, *(tensors or [])],
    )  # fmt: skip
    opsets = [
        helper.make_opsetid("", 17),
        *(helper.make_opsetid(domain, 1) for domain in {one.domain for one in functions or []}),
    ]
    return helper.make_model(graph, opset_imports=opsets, functions=functions or [], ir_version=8)


def changed(edit: Callable[[onnx.ModelProto], Any]) -> bytes:
    made = model()
    edit(made)
    return bytes(made.SerializeToString())


def tensor(**fields: Any) -> Callable[[], bytes]:
    """The weight with other fields."""

    def make() -> bytes:
        def edit(made: onnx.ModelProto) -> None:
            weight = made.graph.initializer[0]
            for name, value in fields.items():
                if isinstance(value, list):
                    del getattr(weight, name)[:]
                    getattr(weight, name).extend(value)
                else:
                    setattr(weight, name, value)

        return changed(edit)

    return make


def constant(dims: list[int], data: bytes) -> Callable[[], bytes]:
    """A tensor in a node that says more than it holds."""
    value = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=dims, raw_data=data)
    return lambda: model([helper.make_node("Constant", [], ["c"], "c", value=value)]).SerializeToString()


def outside(location: str, **rows: Any) -> bytes:
    """A weight whose data lie at a place."""

    def edit(made: onnx.ModelProto) -> None:
        weight = made.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **rows}.items():
            weight.external_data.add(key=key, value=str(value))

    return changed(edit)


def asking(*steps: Any, **tensors: Any) -> bytes:
    """A graph of a few bytes that computes something large and adds its sum."""
    sizes = [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()]
    total = helper.make_node("ReduceSum", ["big"], ["z"], "sum", keepdims=0)
    return bytes(model([*steps, total], sizes, outputs=("y", "z")).SerializeToString())


def function(name: str, *calls: str) -> onnx.FunctionProto:
    nodes = [helper.make_node(call, ["a"], [f"v{i}"], domain="f") for i, call in enumerate(calls)]
    return helper.make_function(
        "f",
        name,
        ["a"],
        ["b"],
        [*nodes, helper.make_node("Relu", ["a"], ["b"])],
        [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)],
    )


def calling(*functions: onnx.FunctionProto) -> bytes:
    return bytes(
        model(
            [helper.make_node(functions[0].name, ["x"], ["q"], "call", domain="f")], functions=list(functions)
        ).SerializeToString()
    )


def nested(depth: int) -> bytes:
    """If within If within If, without a parser that would refuse to write it."""

    def field(number: int, data: bytes) -> bytes:
        size, out = len(data), bytearray([number << 3 | 2])
        while size > 127:
            out.append(size & 127 | 128)
            size >>= 7
        return bytes([*out, size]) + data

    graph = b""
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    whole = model().SerializeToString()
    return whole + field(7, graph)


def loop() -> bytes:
    """A loop that ends in 290,000 years."""
    condition, step = (
        helper.make_tensor_value_info("k", TensorProto.BOOL, []),
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
    )
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("s", "t")]
    body = helper.make_graph(
        [helper.make_node("Relu", ["s"], ["t"]), helper.make_node("Identity", ["k"], ["l"])], "body", [step, condition, value[0]],
        [helper.make_tensor_value_info("l", TensorProto.BOOL, []), value[1]],
    )  # fmt: skip
    sizes = [numpy_helper.from_array(np.array(HUGE), "times"), numpy_helper.from_array(np.array(True), "go")]
    node = helper.make_node("Loop", ["times", "go", "x"], ["big"], "loop", body=body)
    return bytes(
        model(
            [node, helper.make_node("ReduceSum", ["big"], ["z"], "sum", keepdims=0)], sizes, outputs=("y", "z")
        ).SerializeToString()
    )


# each is refused whatever the limits
REFUSED: dict[str, Callable[[], bytes]] = {
    "2^63 rows": tensor(dims=[HUGE, 3]), "2^64 entries": tensor(dims=[1 << 32, 1 << 32]), "negative": tensor(dims=[-4, -3]),
    "too few bytes": tensor(raw_data=b"1234"), "too many bytes": tensor(raw_data=bytes(480)), "no type": tensor(data_type=0), "odd type": tensor(data_type=999),
    "a thousand dims": tensor(dims=[1] * 1000), "texts": tensor(data_type=TensorProto.STRING), "2^63 in a node": constant([HUGE], b""),
    "huge in a node": constant([1 << 40], bytes(8)), "floats missing": lambda: changed(lambda m: m.graph.initializer[0].ClearField("raw_data")),
    "a function that calls itself": lambda: calling(function("F", "F")), "two that call each other": lambda: calling(function("F", "G"), function("G", "F")),
    "2^40 calls": lambda: calling(*(function(f"F{i}", f"F{i + 1}", f"F{i + 1}") for i in range(40)), function("F40")),
    "deep graphs": lambda: nested(200), "very deep graphs": lambda: nested(3000),
    "own operator": lambda: model([helper.make_node("Mine", ["x"], ["q"], domain="mine")]).SerializeToString(),
    "files of a cache": lambda: model([helper.make_node("EPContext", [], ["q"], domain="com.microsoft", ep_cache_context="/etc/passwd")]).SerializeToString(),
    "python": lambda: model([helper.make_node("PyOp", ["x"], ["q"], domain="com.microsoft")]).SerializeToString(),
    "a circle": lambda: model([helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]).SerializeToString(),
    "names twice": lambda: model([helper.make_node("Relu", ["x"], ["w"])]).SerializeToString(),
    "no graph": lambda: onnx.ModelProto(ir_version=8).SerializeToString(), "no weights": lambda: changed(lambda m: m.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3), np.int8), "w"))),
    "an unknown field": lambda: model().SerializeToString() + b"\xfa\x7f\x01a", "a group": lambda: model().SerializeToString() + b"\x3b",
    "a length beyond the file": lambda: model().SerializeToString() + b"\x3a\xff\xff\xff\xff\x07", "an endless number": lambda: model().SerializeToString() + b"\x08" + b"\xff" * 40,
}  # fmt: skip
PLACES = (
    "../secret.bin",
    "/etc/passwd",
    "a/../../secret.bin",
    "..\\secret.bin",
    "C:\\secret.bin",
    "/dev/zero",
    "",
    "a\0b",
    "x" * 5000,
)
# each is opened, or not; whatever it asks for is not given
ASKING: dict[str, Callable[[], bytes]] = {
    "ones": lambda: asking(helper.make_node("ConstantOfShape", ["s"], ["big"]), s=[1 << 40]),
    "ones by ones": lambda: asking(helper.make_node("ConstantOfShape", ["s"], ["big"]), s=[1 << 31, 1 << 31]),
    "expanded": lambda: asking(helper.make_node("Expand", ["one", "s"], ["big"]), one=np.ones(1, np.float32), s=[1 << 40]),
    "tiled": lambda: asking(helper.make_node("Tile", ["one", "s"], ["big"]), one=np.ones(1, np.float32), s=[1 << 40]),
    "ranged": lambda: asking(helper.make_node("Range", ["a", "b", "c"], ["big"]), a=np.float32(0), b=np.float32(1e15), c=np.float32(1)),
    "padded": lambda: asking(helper.make_node("Pad", ["one", "s"], ["big"]), one=np.ones(1, np.float32), s=[0, 1 << 40]),
    "computed": lambda: asking(
        helper.make_node("Mul", ["a", "a"], ["s"]), helper.make_node("ConstantOfShape", ["s"], ["big"]), a=[1 << 20]
    ),
}  # fmt: skip
EMPTY = b"\x0a\x00" * 600_000  # nodes of two bytes each, as the body of a graph
