"""Models of several inputs: each gets columns of its own, and the figures are those of the data in memory."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.core.errors import LoadError, TaskError
from explorer.evaluate.answers import show
from explorer.files.data import Source, read_data
from explorer.files.limits import OWN
from explorer.files.mapping import Mapping, task_of
from explorer.files.mapping_json import fitted, from_json, to_json
from explorer.files.parts import Wanted, propose_parts, wanted
from explorer.files.propose import propose
from explorer.files.sanity import check

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest


class Words(nn.Module):
    """Token indices, which of them count, and two numbers beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.Embedding(20, 8), nn.Linear(10, 3)

    def forward(self, ids: Tensor, mask: Tensor, meta: Tensor | None = None) -> Tensor:
        mean = (self.rows(ids) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.head(torch.cat([mean, torch.zeros(len(ids), 2).to(mean) if meta is None else meta], 1))


class Seen(nn.Module):
    """A picture and what is known of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 + 2, 3)

    def forward(self, picture: Tensor, about: Tensor) -> Tensor:
        return self.head(torch.cat([self.conv(picture).relu().mean((2, 3)), about], 1))


def arrays(path: Path, n: int = 60) -> Path:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 20, (n, 7))
    np.savez(
        path, ids=ids, mask=np.arange(7) <= rng.integers(1, 7, (n, 1)), meta=rng.standard_normal((n, 2)).astype(np.float32) * 10,
        y=np.arange(n) % 3, picture=rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8), about_age=rng.standard_normal(n), about_size=np.arange(n),
    )  # fmt: skip
    return path


def test_what_a_forward_takes(device: str) -> None:
    assert wanted(Words().to(device)) == (Wanted("ids"), Wanted("mask"), Wanted("meta", needed=False))
    assert wanted(nn.Sequential(nn.Linear(2, 2)).to(device)) == (Wanted("input"),)
    assert [one.needed for one in wanted(nn.LSTM(2, 2).to(device))] == [True, False]

    class Anything(nn.Module):
        def forward(self, *args: Tensor, **more: Tensor) -> None: ...

    assert wanted(Anything()) == ()


def test_each_input_from_columns_of_its_own(tmp_path: Path, device: str) -> None:
    torch.manual_seed(0)
    module = Words().to(device)
    source = read_data(arrays(tmp_path / "d.npz"), OWN)
    guess = propose_parts(source, wanted(module), replace(propose(source), target="y", kind="classification"))
    parts = dict(guess.parts)
    assert {name: (one.inputs, one.dtype) for name, one in parts.items()} == {
        "ids": (("ids",), "int64"), "mask": (("mask",), "bool"), "meta": (("meta",), "float32"),
    }  # fmt: skip
    parts["meta"] = replace(parts["meta"], mean=(1.0, 2.0), std=(10.0, 5.0))
    mapping = replace(guess, parts=tuple(parts.items()), validation=0.5)
    subject = explorer.Subject(module, task_of(source, mapping))
    assert {len(subject.task.splits[s]) for s in ("train", "validation", "test")} == {18, 30, 12}
    report = explorer.evaluate(subject, device=device)
    data = np.load(tmp_path / "d.npz")
    right = 0
    for i in range(30):
        inputs, target = subject.task.dataset("validation")[i]
        row = next(r for r in range(60) if (data["ids"][r] == inputs["ids"].numpy()).all() and data["y"][r] == target)
        meta = torch.tensor((data["meta"][row] - [1, 2]) / [10, 5], dtype=torch.float32)
        assert torch.allclose(inputs["meta"], meta, atol=1e-6) and inputs["mask"].dtype == torch.bool
        one = [torch.tensor(data[name][row : row + 1], device=device) for name in ("ids", "mask")]
        with torch.no_grad():
            right += int(module(*one, meta[None].to(device)).argmax() == target)
    assert report.metrics["accuracy"] == pytest.approx(right / 30)
    without = replace(mapping, parts=tuple(one for one in mapping.parts if one[0] != "meta"))
    assert set(task_of(source, without).dataset("validation")[0][0]) == {"ids", "mask"}
    assert check(explorer.Subject(module, task_of(source, without)), device).figure.n
    assert task_of(source, replace(without, kind="agreement", target=None)).kind == "agreement"


def test_a_picture_and_numbers_are_shown(tmp_path: Path, device: str) -> None:
    source = read_data(arrays(tmp_path / "d.npz"), OWN)
    mapping = propose_parts(source, wanted(Seen()), replace(propose(source), target="y", kind="classification"))
    parts = dict(mapping.parts)
    assert parts["picture"].scale == 1 / 255 and parts["about"].inputs == ("about_age", "about_size")
    parts["about"] = replace(parts["about"], dtype="float32")
    subject = explorer.Subject(Seen().to(device), task_of(source, replace(mapping, parts=tuple(parts.items()))))
    assert any("input about of the model: inputs run from" in hint for hint in check(subject, device).hints)
    shown = show(subject, "validation", 0)
    assert shown.kind == "image" and shown.value.shape == (8, 8, 3)
    assert (
        explorer.evaluate(
            subject, explorer.Recipe().prune("conv", granularity="unit", sparsity=0.5), device=device
        ).metrics["loss"]
        > 0
    )
    about = task_of(source, replace(mapping, parts=(("about", parts["about"]),)))
    assert set(show(explorer.Subject(Seen(), replace_forward(about)), "validation", 0).value) == {"about"}


def replace_forward(task: explorer.Task) -> explorer.Task:
    """A task of the same samples that needs no module."""
    return explorer.Task.classification(
        validation=task.dataset("validation"),
        display=task.display,
        decode=task.decode,
        forward=lambda module, x: x["about"].float(),
    )


def test_a_table_and_a_shape_that_the_file_states() -> None:
    source = Source(
        "table", {"words": np.asarray(["ab", "c"]), "a": np.arange(2.0), "b": np.arange(2.0), "y": np.arange(2)}
    )
    guess = propose_parts(source, (Wanted("text"), Wanted("features", "float32", (1, 2))), propose(source))
    assert [(name, one.inputs, one.dtype, one.shape) for name, one in guess.parts] == [
        ("text", ("words",), "int64", ()), ("features", ("a", "b"), "float32", (1, 2)),
    ]  # fmt: skip
    inputs = task_of(source, replace(guess, validation=0.5)).dataset("validation")[0][0]
    assert inputs["text"].tolist()[:3] in ([97, 98, 0], [99, 0, 0]) and inputs["features"].shape == (1, 2)


def test_what_is_wrong_names_the_input(tmp_path: Path) -> None:
    source = read_data(arrays(tmp_path / "d.npz"), OWN)
    good = Mapping((), "y", parts=(("ids", Mapping(("ids",), dtype="int64")),))
    for part, said in [
        (Mapping(()), "input ids of the model: no input column"), (Mapping(("nope",)), "input ids of the model: no column 'nope'"),
        (Mapping(("ids",), shape=(2, 2)), r"cannot become \(2, 2\)"), (Mapping(("ids",), std=(0.0,)), "other than 0"),
    ]:  # fmt: skip
        with pytest.raises(TaskError, match=said):
            task_of(source, replace(good, parts=(("ids", part),)))


def test_a_saved_mapping_comes_back_as_it_was() -> None:
    one = Mapping(("a", "列"), "y", "regression", (2, 3), "float32", 1 / 255, (0.5, 0.25), (1.0, 2.0), 12, 0.3, 0.1, 7)
    several = replace(one, inputs=(), parts=(("x", one), ("mask", Mapping(("m",), dtype="bool"))))
    assert from_json(to_json(one)) == one and from_json(to_json(several).encode()) == several
    kept = fitted(several, ["a", "m"], ("mask", "x", "z"))
    assert dict(kept.parts)["x"].inputs == ("a",) and kept.target is None and not fitted(several, [], ()).parts


@pytest.mark.parametrize(
    "change",
    [{"inputs": "a"}, {"kind": "odd"}, {"kind": []}, {"shape": [0]}, {"shape": [1.5]}, {"dtype": "object"}, {"scale": float("nan")}, {"std": [0]},
     {"std": []}, {"length": 10**9}, {"parts": [["x", 3]]}, {"parts": [["x", {"inputs": ["a"], "parts": [["x", {"inputs": []}]]}]]}, {"more": 1}, {"seed": True}],
)  # fmt: skip
def test_a_saved_mapping_of_a_stranger(change: dict[str, Any]) -> None:
    good = json.loads(to_json(Mapping(("a",), "y")))
    assert from_json(json.dumps(good)) == Mapping(("a",), "y")
    with pytest.raises(LoadError, match="mapping"):
        from_json(json.dumps(good | change))


def onnx_of_two(path: Path) -> nn.Module:
    torch.manual_seed(0)
    module, buffer = Words().eval(), io.BytesIO()
    given = (torch.zeros(2, 7, dtype=torch.int64), torch.ones(2, 7), torch.zeros(2, 2))
    names = ["ids", "mask", "meta"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, given, buffer, dynamo=False, input_names=names, dynamic_axes={name: {0: "n"} for name in names}
        )
    path.write_bytes(buffer.getvalue())
    return module


FORM = """
from pathlib import Path
import streamlit as st
import explorer
from explorer.files.data import read_data
from explorer.files.limits import OWN
from explorer.files.parts import wanted
from explorer.files.mapping import task_of
from explorer.ui.panels import data_form
folder = Path({folder!r})
found = explorer.load(folder / "m.onnx")
source = read_data(folder / "d.npz", OWN)
mapping = st.session_state["mapping"] = data_form.mapping(source, "0123456789", None, wanted(found.module))
task = task_of(source, mapping)
subject = explorer.Subject(found.module, task)
data_form.looks(subject)
st.session_state["figures"] = dict(explorer.evaluate(subject).metrics)
"""


def test_an_onnx_file_of_three_inputs_through_the_form(tmp_path: Path, device: str) -> None:
    from streamlit.testing.v1 import AppTest

    module = onnx_of_two(tmp_path / "m.onnx")
    data = np.load(arrays(tmp_path / "d.npz"))
    assert [(one.name, one.dtype) for one in wanted(explorer.load(tmp_path / "m.onnx").module)] == [
        ("ids", "int64"), ("mask", "float32"), ("meta", "float32"),
    ]  # fmt: skip
    page = AppTest.from_string(FORM.format(folder=str(tmp_path)), default_timeout=60).run()
    fails(page)
    assert page.toggle[0].value and [one.value for one in page.multiselect] == [["ids"], ["mask"], ["meta"]]
    target, kind = (next(one for one in page.selectbox if one.label == label) for label in ("Target", "Target is"))
    target.set_value("y")
    kind.set_value("classification").run()
    fails(page)
    [one for one in page.text_input if one.label == "Std"][2].set_value("10").run()
    fails(page)
    assert [one.disabled for one in page.text_input if one.label == "Times"] == [True, False, False]
    assert any("ids 7, mask 7, meta 2" in one.value for one in page.caption)
    task = task_of(read_data(tmp_path / "d.npz", OWN), page.session_state["mapping"])
    one = explorer.Subject(module.to(device), task)
    assert page.session_state["figures"] == pytest.approx(dict(explorer.evaluate(one, device=device).metrics), rel=1e-4)
    first = one.task.dataset("validation")[0][0]["meta"]
    assert any(np.allclose(first.numpy(), row / 10, atol=1e-6) for row in data["meta"])


def fails(page: AppTest) -> None:
    assert not page.exception and not page.error, [one.message for one in page.exception] + [
        one.value for one in page.error
    ]
