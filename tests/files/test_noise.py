"""Noise instead of data: it runs, it is seeded, and it says what it is."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import explorer
from explorer.files.noise import WARNING, Noise
from explorer.files.parts import wanted
from tests.contract.nets import MLP, CharLM, randomize


def test_agreement_on_noise_moves_with_the_model(device: str) -> None:
    net = randomize(MLP(widths=(6, 8, 4))).to(device)
    subject = explorer.Subject(net, explorer.noise_task((6,), samples=64), "noise")
    same = explorer.evaluate(subject, device=device)
    assert same.metrics["agreement"] == 1.0 and same.n == 64
    cut = explorer.evaluate(subject, explorer.Recipe().prune("*", sparsity=0.9), device=device)
    assert cut.metrics["cosine"] < same.metrics["cosine"]
    x, y = subject.task.batch("validation", range(64))[0], explorer.noise_task((6,), samples=64).splits["validation"].inputs
    assert torch.equal(x, y) and abs(float(x.mean())) < 0.2 and 0.8 < float(x.std()) < 1.2
    assert not torch.equal(x, subject.task.batch("train", range(64))[0])
    assert "say nothing about accuracy" in WARNING


def test_tokens(device: str) -> None:
    task = explorer.noise_task((12,), samples=32, vocabulary=9)
    tokens = task.splits["validation"].inputs
    assert tokens.dtype == torch.int64 and tokens.min() >= 0 and tokens.max() == 8 and tokens.shape == (32, 12)
    subject = explorer.Subject(CharLM().to(device), task, "tokens")
    assert explorer.evaluate(subject, device=device).metrics["agreement"] == 1.0


@pytest.mark.parametrize(
    "wrong", [{"shape": (0,)}, {"shape": (-1, 2)}, {"shape": (2.5,)}, {"shape": (1 << 20, 1 << 10)}, {"shape": (3,), "samples": 0}, {"shape": (True,)}]
)
def test_what_is_no_shape(wrong: dict[str, object]) -> None:
    with pytest.raises(explorer.TaskError, match="accepted: whole numbers above 0"):
        explorer.noise_task(**wrong)  # type: ignore[arg-type]


class Two(nn.Module):
    """Words in one table, their kinds in another and their places in a third, and numbers beside them."""

    def __init__(self, shift: int = 2) -> None:
        super().__init__()
        self.shift = shift
        self.words, self.kinds, self.places = nn.Embedding(20, 8), nn.Embedding(3, 8), nn.Parameter(torch.randn(1, 7, 8))
        self.head = nn.Linear(8 + 2, 5)

    def forward(self, ids: Tensor, kinds: Tensor, mask: Tensor, meta: Tensor) -> Tensor:
        x = self.words(ids + self.shift if self.shift else ids) + functional.embedding(kinds.reshape(-1, 7), self.kinds.weight) + self.places
        return self.head(torch.cat([(x * mask[..., None]).sum(1), meta], 1))


TWO = {"ids": Noise((7,), "tokens"), "kinds": Noise((7,), "tokens"), "mask": Noise((7,), "ones"), "meta": Noise((2,))}


def test_each_input_by_its_own_shape_and_in_the_range_of_its_table(device: str) -> None:
    torch.manual_seed(0)
    module = Two().eval().to(device)
    task = explorer.noise_task(TWO, samples=400, module=module)
    x = task.batch("validation", range(400))[0]
    assert {name: (tuple(one.shape), one.dtype) for name, one in x.items()} == {
        "ids": ((400, 7), torch.int64), "kinds": ((400, 7), torch.int64), "mask": ((400, 7), torch.int64), "meta": ((400, 2), torch.float32),
    }  # fmt: skip
    assert (x["ids"].min(), x["ids"].max()) == (0, 17) and (x["kinds"].min(), x["kinds"].max()) == (0, 2)  # two rows are for others
    subject = explorer.Subject(module, task, "two")
    assert explorer.evaluate(subject, device=device).metrics["agreement"] == 1.0
    assert explorer.evaluate(subject, explorer.Recipe().prune("*", sparsity=0.9), device=device).metrics["cosine"] < 1
    ordered = explorer.noise_task([*TWO.values()], samples=9, module=module)
    assert explorer.evaluate(explorer.Subject(module, ordered), device=device).n == 9
    assert not torch.equal(task.batch("train", range(9))[0]["meta"], x["meta"][:9].cpu())


def test_an_onnx_graph_of_several_inputs_says_their_ranges(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Two(0).eval(), (torch.zeros(3, 7).long(), torch.zeros(3, 7).long(), torch.ones(3, 7), torch.randn(3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, x, tmp_path / "m.onnx", dynamo=False, opset_version=17, input_names=[*TWO], output_names=["y"],
            dynamic_axes={name: {0: "n"} for name in [*TWO, "y"]},
        )  # fmt: skip
    loaded = explorer.load(tmp_path / "m.onnx").module
    assert [(one.name, one.dtype, one.shape) for one in wanted(loaded)] == [
        ("ids", "int64", (7,)), ("kinds", "int64", (7,)), ("mask", "float32", (7,)), ("meta", "float32", (2,)),
    ]  # fmt: skip
    task = explorer.noise_task(TWO, samples=400, module=loaded)
    x = task.batch("validation", range(400))[0]
    assert (x["ids"].max(), x["kinds"].max()) == (19, 2)
    subject = explorer.Subject(loaded, task, "two")
    assert explorer.evaluate(subject).metrics["agreement"] == 1.0
    assert explorer.evaluate(subject, explorer.Recipe().prune("*", sparsity=0.9)).metrics["cosine"] < 1


def test_tokens_of_no_known_range_and_inputs_that_do_not_fit(device: str) -> None:
    with pytest.raises(explorer.TaskError, match="input ids: tokens that no table"):
        explorer.noise_task(TWO)
    with pytest.raises(explorer.TaskError, match=r"input 0: tokens that no table"):
        explorer.noise_task(Noise((6,), "tokens"), module=nn.Identity())
    with pytest.raises(explorer.TaskError, match="the model fails on a sample of such inputs"):
        explorer.noise_task({"ids": TWO["ids"]}, module=Two().to(device))
    with pytest.raises(explorer.TaskError, match=r"input ids: tuple; accepted: explorer\.Noise"):
        explorer.noise_task({"ids": (7,)})  # type: ignore[dict-item]


FORM = """
import torch, streamlit as st
import explorer
from explorer.ui.panels import noise_form
from tests.files.test_noise import Two

torch.manual_seed(0)
subject = explorer.Subject(Two().eval(), explorer.Task.weights_only())
st.session_state["made"] = noise_form.task(subject)
"""


def test_the_form_asks_for_each_input() -> None:
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_string(FORM, default_timeout=60).run()
    assert not page.exception and page.session_state["made"] is None
    assert [one.label for one in page.text_input] == [f"Shape of a sample of {name}" for name in TWO]
    assert [one.value for one in page.selectbox] == ["tokens", "normal", "ones", "normal"]
    page.selectbox[1].set_value("tokens")
    for field, one in zip(page.text_input, TWO.values(), strict=True):
        field.set_value(" × ".join(map(str, one.shape)))
    page.run()
    assert not page.exception and not page.error
    torch.manual_seed(0)
    expected = explorer.noise_task(TWO, module=Two().eval()).batch("validation", range(20))[0]
    found = page.session_state["made"].batch("validation", range(20))[0]
    assert all(torch.equal(found[name], expected[name]) for name in TWO)
    page.text_input[0].set_value("5").run()
    assert "the model fails on a sample of such inputs" in page.error[0].value
