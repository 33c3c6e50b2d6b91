from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from explorer.compress.apply import compress
from explorer.core.errors import EvaluationError, ExplorerError, TaskError
from explorer.core.recipe import Recipe
from explorer.evaluate.evaluator import evaluate, stream
from explorer.models.subject import Subject
from explorer.models.task import Task, to_device


class Samples(list):
    """Map-style over a list of (inputs, target)."""


def mlp(device: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).to(device)


def random_samples(n: int = 40) -> Samples:
    torch.manual_seed(1)
    return Samples((torch.randn(4), torch.randn(2)) for _ in range(n))


def stacked(data: Samples, device: str) -> tuple[Tensor, Tensor]:
    """All inputs and targets, on the device."""
    return torch.stack([s[0] for s in data]).to(device), torch.stack([s[1] for s in data]).to(device)


def distance(outputs: Tensor, targets: Tensor) -> dict[str, Any]:
    return {"distance": (outputs - targets).norm(dim=1), "near": ((outputs - targets).norm(dim=1) < 1.5).float()}


def test_scores_are_means_over_samples_and_the_first_is_the_main_one(device: str) -> None:
    data = random_samples()
    subject = Subject(mlp(device), Task(splits={"validation": data}, score=distance))
    report = evaluate(subject, Recipe().prune("0", sparsity=0.5), device=device)
    x, y = stacked(data, device)
    with torch.no_grad():
        before, after = distance(subject.module(x), y), distance(compress(subject, report.recipe)(x), y)
    assert report.main == "distance" and list(report.metrics) == ["distance", "near"]
    for name in before:
        assert report.metrics[name] == pytest.approx(after[name].mean().item(), rel=1e-5)
        assert report.change(name).value == pytest.approx((after[name] - before[name]).mean().item(), abs=1e-6)
    moved = (after["distance"] - before["distance"]).abs()
    assert [c.index for c in report.changed][:5] == moved.argsort(descending=True).tolist()[:5]
    assert "loss" not in report.metrics and report.per_class == {}


def test_ratios_are_ratios_of_sums(device: str) -> None:
    def words(outputs: Tensor, targets: Tensor) -> dict[str, Any]:
        return {"wer": ((outputs > 0).sum(1).float(), targets.abs().ceil().sum(1))}

    data = random_samples(70)
    subject = Subject(mlp(device), Task(splits={"validation": data}, score=words, lower_is_better=["wer"]))
    x, y = stacked(data, device)
    with torch.no_grad():
        top, bottom = words(subject.module(x), y)["wer"]
    report = evaluate(subject, device=device)
    assert report.metrics["wer"] == pytest.approx((top.sum() / bottom.sum()).item(), rel=1e-6)
    assert report.metrics["wer"] != pytest.approx((top / bottom).mean().item(), rel=1e-3)
    assert report.figure("wer").low < report.metrics["wer"] < report.figure("wer").high
    assert "wer" in report.lower_is_better


def test_a_loss_of_ones_own_is_a_mean_over_samples_without_an_interval(device: str) -> None:
    data = random_samples(100)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().mean()

    subject = Subject(mlp(device), Task(splits={"validation": data}, score=distance, loss=loss))
    report = evaluate(subject, Recipe().prune("0", sparsity=0.5), device=device)
    x, y = stacked(data, device)
    with torch.no_grad():
        expected = loss(compress(subject, report.recipe)(x), y).item()
    assert report.metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert report.figure("loss").low is None and report.change("loss").low is None
    assert report.figure("distance").low is not None


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(3, 2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.a(left) + self.b(right)


class Both(NamedTuple):
    left: Tensor
    right: Tensor


@pytest.mark.parametrize("form", ["tuple", "dict", "namedtuple"])
def test_inputs_of_several_tensors(form: str, device: str) -> None:
    torch.manual_seed(0)
    made = {"tuple": lambda a, b: (a, b), "dict": lambda a, b: {"left": a, "right": b}, "namedtuple": Both}[form]
    pairs = [(torch.randn(4), torch.randn(3), torch.randn(2)) for _ in range(50)]
    data = Samples((made(a, b), t) for a, b, t in pairs)
    subject = Subject(Pair().to(device), Task(splits={"validation": data}, score=distance))
    a, b, t = (torch.stack(one).to(device) for one in zip(*pairs, strict=True))
    with torch.no_grad():
        expected = distance(subject.module(a, b), t)["distance"].mean().item()
    assert evaluate(subject, device=device).metrics["distance"] == pytest.approx(expected, rel=1e-5)
    assert [layer.name for layer in subject.layers] == ["a.weight", "b.weight"]
    compress(subject, Recipe().prune("a", sparsity=0.5))
    assert evaluate(subject, device=device).macs == 4 * 2 + 3 * 2


def test_nested_targets(device: str) -> None:
    def score(outputs: Tensor, targets: dict[str, Tensor]) -> dict[str, Any]:
        return {"hit": (outputs[:, 0] > targets["a"]).float() * targets["b"][0]}

    data = Samples((torch.randn(4), {"a": torch.randn(()), "b": (torch.ones(()), 3)}) for _ in range(45))
    report = evaluate(Subject(mlp(device), Task(splits={"validation": data}, score=score)), device=device)
    assert 0 < report.metrics["hit"] < 1 and report.n == 45


def test_text_targets_are_not_cut_into_letters(device: str) -> None:
    names = [f"name number {i}" for i in range(75)]
    seen: list[str] = []

    def score(outputs: Tensor, targets: list[str]) -> dict[str, Any]:
        seen.extend(targets)
        return {"length": torch.tensor([float(len(t)) for t in targets])}

    data = Samples((torch.randn(4), name) for name in names)
    report = evaluate(Subject(mlp(device), Task(splits={"validation": data}, score=score)), device=device)
    assert sorted(seen) == sorted(names)
    assert report.metrics["length"] == pytest.approx(sum(map(len, names)) / 75)


class Speech(nn.Module):
    """Variable lengths: padded frames and their lengths, as a recurrent network with packing wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(frames, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][0])


def padded(samples: list[Any]) -> tuple[Any, Any]:
    frames = nn.utils.rnn.pad_sequence([x for x, _ in samples], batch_first=True)
    lengths = torch.tensor([len(x) for x, _ in samples])
    tokens = torch.cat([t for _, t in samples])  # concatenated, as a CTC loss takes them
    return (frames, lengths), (tokens, torch.tensor([len(t) for _, t in samples]))


def test_variable_lengths_with_a_collate_of_ones_own(device: str) -> None:
    torch.manual_seed(0)
    data = Samples((torch.randn(2 + i % 7, 3), torch.randint(0, 4, (1 + i % 3,))) for i in range(70))

    def score(outputs: Tensor, targets: tuple[Tensor, Tensor]) -> dict[str, Any]:
        tokens, lengths = targets
        right = torch.stack(
            [
                (part == guess).sum()
                for part, guess in zip(tokens.split(lengths.tolist()), outputs.argmax(1), strict=True)
            ]
        )
        return {"token accuracy": (right.float(), lengths.float())}

    task = Task(splits={"validation": data}, score=score, collate=padded)
    subject = Subject(Speech().to(device), task)
    report = evaluate(subject, Recipe().prune("rnn", sparsity=0.3).quantize("head", bits=4), device=device)
    assert report.n == 70 and 0 <= report.metrics["token accuracy"] <= 1
    (x, lengths), targets = to_device(padded(list(data)), device)
    with torch.no_grad():
        top, bottom = score(compress(subject, report.recipe)(x, lengths), targets)["token accuracy"]
    assert report.metrics["token accuracy"] == pytest.approx((top.sum() / bottom.sum()).item())
    assert report.macs is None or report.macs > 0
    assert [r.n for r in stream(subject, device=device)][-1] == 70


def test_a_forward_of_ones_own(device: str) -> None:
    data = random_samples()
    task = Task(splits={"validation": data}, score=distance, forward=lambda module, x: module(x * 2) / 2)
    subject = Subject(mlp(device), task)
    x, y = stacked(data, device)
    with torch.no_grad():
        expected = distance(subject.module(x * 2) / 2, y)["distance"].mean().item()
    assert evaluate(subject, device=device).metrics["distance"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda o, t: {"a": torch.tensor(1.0)}, "one value a sample"),
        (lambda o, t: {"a": o}, "one value a sample"),
        (lambda o, t: {"a": o[:-1, 0]}, "one value a sample"),
        (lambda o, t: {"a": (o[:, 0], o[:, 0], o[:, 0])}, "pair"),
        (lambda o, t: {"a": (o[:, 0], torch.tensor(3.0))}, "one value a sample"),
        (lambda o, t: {"a": o[:, 0] * torch.nan}, "NaN"),
        (lambda o, t: {"a": o[:, 0] / 0}, "NaN or infinity"),
        (lambda o, t: {}, "no metric"),
        (lambda o, t: {3: o[:, 0]}, "names a metric 3; accepted: a text"),
        (lambda o, t: {"a/": o[:, 0]}, "names a metric 'a/'; accepted: a text"),
        (lambda o, t: o[:, 0], "score"),
        (lambda o, t: None, "score"),
        (lambda o, t: {"a": "x"}, "score"),
        (lambda o, t: {"a": o["logits"]}, "score"),
        (lambda o, t: 1 / 0, "score"),
    ],
)
def test_bad_scores_say_what_would_be_accepted(score: Any, message: str, device: str) -> None:
    subject = Subject(mlp(device), Task(splits={"validation": random_samples()}, score=score), "bad")
    with pytest.raises(EvaluationError, match=message) as caught:
        evaluate(subject, device=device)
    assert str(caught.value).startswith("bad: ") and "validation" in str(caught.value)


def test_outputs_of_nan_are_blamed_on_the_module_and_not_on_the_score(device: str) -> None:
    class Nan(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * torch.nan

    subject = Subject(Nan(4, 2).to(device), Task(splits={"validation": random_samples()}, score=distance), "bad")
    with pytest.raises(EvaluationError, match=r"bad: the output holds NaN, first at sample \d+ of validation"):
        evaluate(subject, device=device)


def test_tasks_that_cannot_be() -> None:
    data = [(0.0, 1.0)] * 40
    with pytest.raises(TaskError, match="score="):
        Task(splits={"validation": data})
    with pytest.raises(TaskError, match="validation"):
        Task(splits={"train": data}, score=distance)
    with pytest.raises(TaskError, match="validation"):
        Task.classification(validation=None)
    with pytest.raises(TaskError, match="'train' is empty"):
        Task(splits={"validation": data, "train": []}, score=distance)
    with pytest.raises(TaskError, match="splits=None; accepted: "):
        Task(splits=None, score=distance)  # type: ignore[arg-type]
    for name in ("score", "loss", "forward", "collate"):
        with pytest.raises(TaskError, match=f"{name}=3; accepted: a function"):
            Task(**{"splits": {"validation": data}, "score": distance, name: 3})
    for wrong in (iter(data), 3, (x for x in data)):
        with pytest.raises(TaskError, match="map-style"):
            Task(splits={"validation": wrong}, score=distance)
    with pytest.raises(TaskError, match="accepted: image"):
        Task(splits={"validation": data}, score=distance, display="film")


def test_a_missing_split_is_named(device: str) -> None:
    subject = Subject(mlp(device), Task(splits={"validation": random_samples()}, score=distance))
    with pytest.raises(TaskError, match="no split 'tset'"):
        evaluate(subject, split="tset", device=device)
    with pytest.raises(TaskError, match="no split 'test'"):
        evaluate(subject, split="test", device=device)


@pytest.mark.parametrize(
    "sample", [torch.randn(4), 3, (torch.randn(4),), (torch.randn(4), torch.randn(2), 3), (torch.randn(4), None), None]
)
def test_samples_that_are_no_pair(sample: Any, device: str) -> None:
    subject = Subject(mlp(device), Task(splits={"validation": Samples([sample] * 40)}, score=distance))
    with pytest.raises(TaskError, match="validation"):
        evaluate(subject, device=device)


def test_a_dataset_that_raises_is_named(device: str) -> None:
    class Broken(Samples):
        def __getitem__(self, i: Any) -> Any:
            raise OSError("disk gone")

    subject = Subject(mlp(device), Task(splits={"validation": Broken(random_samples())}, score=distance))
    with pytest.raises(ExplorerError, match="validation.*disk gone"):
        evaluate(subject, device=device)
