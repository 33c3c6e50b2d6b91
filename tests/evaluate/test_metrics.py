from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from explorer.compress.apply import compress
from explorer.compress.resolve import resolve
from explorer.core.errors import EvaluationError
from explorer.core.recipe import Recipe
from explorer.evaluate.engine import engine
from explorer.evaluate.evaluator import evaluate
from explorer.evaluate.intervals import Within
from explorer.evaluate.metrics import metrics_of
from explorer.evaluate.metrics.language_model import right_tokens
from explorer.models.subject import Subject
from explorer.models.task import Task
from tests.contract.nets import MLP, CharLM, batch, few, language, regression, tiny


class Given(nn.Module):
    """Returns its inputs: the dataset decides what the outputs are."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.squeeze()


def judged(device: str, outputs: Tensor, targets: Tensor, kind: str, **more: Any) -> dict[str, float]:
    data = TensorDataset(outputs, targets)
    return dict(
        evaluate(Subject(Given().to(device), getattr(Task, kind)(validation=data, **more)), device=device).metrics
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 90), st.integers(0, 10_000))
def test_classification_equals_scikit_learn(device: str, classes: int, n: int, seed: int) -> None:
    torch.manual_seed(seed)
    logits, targets = torch.randn(n, classes), torch.randint(0, classes, (n,))
    logits[:, 0] += seed % 3  # some classes are never predicted
    found = judged(device, logits, targets, "classification")
    p, t = logits.argmax(1).numpy(), targets.numpy()
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(t, p))
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert found[name] == pytest.approx(score(t, p, average="macro", zero_division=0))
    assert found["loss"] == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-5)
    assert list(found)[0] == "accuracy"


def test_per_class_and_confusion_equal_scikit_learn(device: str) -> None:
    subject = few("vowels-rnn", device=device)
    report = evaluate(subject, Recipe().prune("*", sparsity=0.6), device=device)
    x, y = batch(subject, 48)
    y = y.cpu()
    with torch.no_grad():
        before = subject.copy()(x).argmax(1).cpu().numpy()
        after = compress(subject, report.recipe)(x).argmax(1).cpu().numpy()
    assert (before != after).any()
    labels = list(range(9))
    for found, predicted in zip(report.confusion, (before, after), strict=True):
        assert np.array_equal(np.array(found), sk.confusion_matrix(y.numpy(), predicted, labels=labels))
    for suffix, predicted in (("_before", before), ("", after)):
        scores = sk.precision_recall_fscore_support(y.numpy(), predicted, labels=labels, zero_division=0)
        for i, one in enumerate(report.per_class.values()):
            got = [getattr(one, f"{name}{suffix}") for name in ("precision", "recall", "f1")]
            assert got == pytest.approx([scores[k][i] for k in range(3)]) and one.support == scores[3][i]
    assert report.change("accuracy").value == pytest.approx((after == y.numpy()).mean() - (before == y.numpy()).mean())
    kinds = {}
    for i in (before != after).nonzero()[0]:
        kinds[int(i)] = "now right" if after[i] == y[i] else "now wrong" if before[i] == y[i] else "wrong differently"
    assert {change.index: change.kind for change in report.changed} == kinds
    assert all((c.before, c.after, c.target) == (before[c.index], after[c.index], y[c.index]) for c in report.changed)
    assert [c.index for c in report.changed] == sorted(kinds)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(1, 3), st.integers(0, 10_000))
def test_regression_equals_scikit_learn(device: str, n: int, outputs: int, seed: int) -> None:
    torch.manual_seed(seed)
    prediction, target = torch.randn(n, outputs), torch.randn(n, outputs) * 3 + 1
    found = judged(device, prediction, target, "regression")
    p, t = prediction.double().numpy(), target.double().numpy()
    assert found["r2"] == pytest.approx(sk.r2_score(t, p), rel=1e-5, abs=1e-6)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(t, p), rel=1e-5)
    assert found["rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(t, p)), rel=1e-5)
    assert found["loss"] == pytest.approx(sk.mean_squared_error(t, p), rel=1e-5)


def test_regression_shapes_and_constant_targets(device: str) -> None:
    x = torch.randn(20, 1)
    assert judged(device, x, x[:, 0], "regression")["r2"] == 1
    assert judged(device, torch.ones(5, 1), torch.ones(5, 1), "regression")["r2"] == 1
    assert judged(device, torch.zeros(5, 1), torch.ones(5, 1), "regression")["r2"] == 0
    assert judged(device, torch.full((7, 1), 1e6), torch.full((7, 1), 1e6 + 1), "regression")["mae"] == 1
    with pytest.raises(EvaluationError, match="equal shapes"):
        judged(device, torch.randn(8, 2), torch.randn(8, 1), "regression")


def test_language_model_figures_by_hand(device: str) -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], [[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]]]))
    targets = torch.tensor([[0, 1], [1, -100]])
    found = judged(device, logits, targets, "language_model")
    entropy = -(math.log(0.5) + math.log(0.8) + math.log(0.2)) / 3
    assert found["cross_entropy"] == pytest.approx(entropy, rel=1e-6)
    assert found["perplexity"] == pytest.approx((1 / (0.5 * 0.8 * 0.2)) ** (1 / 3), rel=1e-6)
    assert found["next_token_accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
def test_the_first_of_equal_largest_logits_is_what_a_model_says(levels: int, device: str) -> None:
    torch.manual_seed(levels)
    logits = torch.randint(0, levels, (500, 7)).float().to(device)
    logits[3:5] = -torch.inf
    targets = torch.randint(0, 7, (500,)).to(device)
    targets[::9] = -100
    first = torch.from_numpy(logits.cpu().numpy().argmax(1)).to(device)
    assert torch.equal(right_tokens(logits, targets), (first == targets) & (targets != -100))


def test_language_model_ignores_what_is_marked(device: str) -> None:
    subject = Subject(CharLM().to(device), language(ignored=3), "lm")
    x, y = batch(subject, 16)
    with torch.no_grad():
        logits = subject.module(x)
    report = evaluate(subject, device=device)
    assert report.metrics["cross_entropy"] == pytest.approx(
        F.cross_entropy(logits.flatten(0, 1), y.flatten()).item(), rel=1e-6
    )
    hits = (logits.argmax(-1) == y)[y != -100]
    assert report.metrics["next_token_accuracy"] == pytest.approx(hits.float().mean().item())
    assert (
        report.figure("perplexity").low is None and report.figure("cross_entropy").low < report.metrics["cross_entropy"]
    )


@pytest.mark.parametrize("target", [11, 999, -1, -101])
def test_tokens_out_of_range(target: int, device: str) -> None:
    subject = Subject(CharLM().to(device), language(), "lm")
    subject.task.splits["validation"].tensors[1][3, 2] = target
    with pytest.raises(EvaluationError, match=f"{target}.*11"):
        evaluate(subject, device=device)


@pytest.mark.parametrize("target", [3, 77, -1, -100])
def test_classes_out_of_range(target: int, device: str) -> None:
    subject = tiny(device=device)
    subject.task.splits["validation"].tensors[1][5] = target
    with pytest.raises(EvaluationError, match=f"{target}.*3 classes"):
        evaluate(subject, device=device)


@pytest.mark.parametrize("target", [0.5, float("nan")])
def test_targets_that_are_no_classes(target: float, device: str) -> None:
    inputs, targets = torch.randn(40, 6), torch.ones(40)
    task = Task.classification(validation=TensorDataset(inputs, targets))
    assert evaluate(Subject(MLP().to(device), task, "floats"), device=device).total == 40
    targets[7] = target
    task = Task.classification(validation=TensorDataset(inputs, targets))
    with pytest.raises(EvaluationError, match=f"a target is {target}; accepted: whole numbers from 0 to 2"):
        evaluate(Subject(MLP().to(device), task, "floats"), device=device)


def test_targets_that_are_no_numbers(device: str) -> None:
    task = regression((6,))
    task.dataset("validation").tensors[1][9] = torch.inf
    with pytest.raises(EvaluationError, match="a target is inf; accepted: finite numbers"):
        evaluate(Subject(MLP((6, 4, 1)).to(device), task, "targets"), device=device)


def test_changed_of_a_regression_is_the_largest_first(device: str) -> None:
    subject = few("bikes-mlp", device=device)
    report = evaluate(subject, Recipe().prune("*", sparsity=0.5), device=device)
    x, y = batch(subject, 48)
    with torch.no_grad():
        before, after = subject.copy()(x)[:, 0].cpu(), compress(subject, report.recipe)(x)[:, 0].cpu()
    y = y.cpu()
    gaps = (after - before).abs()
    assert [c.index for c in report.changed] == gaps.argsort(descending=True).tolist()
    first = report.changed[0]
    assert first.kind == "changed" and first.target == y[first.index].item()
    assert (first.before, first.after) == pytest.approx(
        (before[first.index].item(), after[first.index].item()), rel=1e-5
    )
    assert report.change("mae").value == pytest.approx(
        ((after - y[:, 0]).abs() - (before - y[:, 0]).abs()).mean().item(), rel=1e-4
    )
    assert report.per_class == {} and report.confusion == ()


def test_nothing_changes_without_a_recipe(device: str) -> None:
    for name in ("vowels-rnn", "bikes-mlp"):
        report = evaluate(few(name, device=device), device=device)
        assert report.changed == () and all(figure.value == 0 for figure in report.changes.values())
        assert all(figure.kind == "measured" and figure.n == 48 for figure in report.figures.values())


def test_every_metric_has_its_paired_change(device: str) -> None:
    for subject in (tiny(device=device), Subject(CharLM().to(device), language()), tiny_regression(device)):
        layer = subject.layers[0].name
        report = evaluate(subject, Recipe().prune(layer, sparsity=0.7), device=device)
        base = evaluate(subject, device=device)
        assert report.changes.keys() == report.figures.keys()
        for name, figure in report.changes.items():
            assert figure.value == pytest.approx(report.metrics[name] - base.metrics[name], abs=1e-6), name
            assert figure.low is None or figure.low <= figure.value <= figure.high


def tiny_regression(device: str) -> Subject:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).to(device)
    return Subject(module, regression((4,), 2), "regression")


def test_a_batch_loss_of_ones_own_has_no_interval(device: str) -> None:
    """One value a batch repeated for each sample would look far too certain."""

    def smooth(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=0.1)

    subject = tiny(loss=smooth, device=device)
    report = evaluate(subject, Recipe().prune("fc.0", sparsity=0.5), device=device)
    x, y = batch(subject)
    with torch.no_grad():
        expected = smooth(subject.module(x), y).item()
    assert evaluate(subject, device=device).metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert report.figure("loss").low is None and report.change("loss").low is None
    assert evaluate(tiny(device=device), device=device).figure("loss").low is not None


def test_names_of_classes(device: str) -> None:
    report = evaluate(tiny(classes=3, device=device), device=device)
    assert list(report.per_class) == ["0", "1", "2"]
    subject = tiny(device=device)
    named = Task.classification(validation=subject.task.dataset("validation"), classes=["a", "b", "c"])
    assert list(evaluate(Subject(subject.module, named), device=device).per_class) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("kind", "outputs", "targets"),
    [
        ("classification", torch.randn(8, 3, 2), torch.zeros(8, dtype=torch.long)),
        ("classification", torch.randn(8), torch.zeros(8, dtype=torch.long)),
        ("regression", torch.randn(8, 2, 2), torch.randn(8, 4)),
        ("language_model", torch.randn(8, 3), torch.zeros(8, 3, dtype=torch.long)),
        ("language_model", torch.randn(8, 4, 5), torch.zeros(8, 3, dtype=torch.long)),
    ],
)
def test_outputs_of_a_wrong_shape_say_so(kind: str, outputs: Tensor, targets: Tensor, device: str) -> None:
    with pytest.raises(EvaluationError, match="accepted"):
        judged(device, outputs, targets, kind)


def test_unknown_kinds_are_judged_by_their_own_score() -> None:
    assert type(metrics_of("custom")).__name__ == "Custom"


@pytest.mark.parametrize("name", ["fashion-mlp", "bikes-mlp", "moby-lstm"])
def test_the_main_metric_alone_is_what_figures_and_changes_say(name: str, device: str) -> None:
    subject = few(name, device=device)
    run, recipe = engine(subject, torch.device(device)), Recipe().prune("*", sparsity=0.7)
    tables = []
    for one in (Recipe(), recipe):
        with run.work() as work:
            tables.append(run.ensure(resolve(subject, one), "validation", 48, work).columns(48))
    for within in (None, Within(100, 2.5)):
        main, value, change = run.metrics.main(*tables, "validation", within)
        assert value == run.metrics.figures(tables[1], "validation")[main] and main == next(iter(run.metrics.figures(tables[1], "x")))
        assert change == run.metrics.changes(*tables, "validation", within)[main]
