from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.compress.calibrate import chosen_samples
from explorer.core.errors import Cancelled, RecipeError, SettingsError
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.recover import recalibrate as recalibrating
from explorer.recover.finetune import finetune
from explorer.recover.recalibrate import recalibrate
from tests.contract.nets import classification
from tests.recover.small import RECIPE, learnable, small


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv1d(2, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bn(self.conv(x)).relu().mean(2))


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(10, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu())


def trained(module: nn.Module, device: str) -> Subject:
    """Statistics and outputs that mean something."""
    task = Task.classification(train=learnable(256, 1), validation=learnable(64, 2))
    return finetune(
        Subject(module.to(device), task, "normed"), epochs=6, batch=32, lr=2e-2, device=device, name="trained"
    )


def test_running_statistics_are_the_mean_over_batches(device: str) -> None:
    torch.manual_seed(0)
    subject = trained(Normed(), device)
    recipe = Recipe().prune("conv", granularity="unit", sparsity=0.25).prune("conv", sparsity=0.6)
    digest = subject.digest
    found = recalibrate(subject, recipe, steps=("norms",), samples=256, device=device)
    assert subject.digest == digest and found.parent is subject

    module = explorer.compress(subject, recipe)
    indices = chosen_samples(subject, 256)
    outputs = [module.conv(subject.task.batch("train", indices[at : at + 128])[0].to(device)) for at in (0, 128)]
    mean = torch.stack([one.mean((0, 2)) for one in outputs]).mean(0)
    var = torch.stack([one.var((0, 2)) for one in outputs]).mean(0)
    torch.testing.assert_close(found.module.bn.running_mean, mean.detach())
    torch.testing.assert_close(found.module.bn.running_var, var.detach())
    assert found.module.bn.momentum == 0.1 and not found.module.training
    entry = found.history[-1]
    (note,) = entry.notes
    assert note.values["kept"] and note.values["gap"] < note.values["gap_before"]
    assert note.values["before"] == entry.damaged["accuracy"].value
    assert (
        note.values["after"]
        == entry.after["accuracy"].value
        == explorer.evaluate(found, device=device).metrics["accuracy"]
    )
    assert torch.equal(found.weight("conv.weight"), module.conv.weight.detach())


def test_every_layers_mean_output_is_the_originals(device: str) -> None:
    torch.manual_seed(1)
    subject = Subject(Deep().to(device), classification((10,), n=200), "deep")
    recipe = Recipe().prune("first", granularity="unit", units=[3, 5]).quantize("*", bits=2)
    found = recalibrate(subject, recipe, steps=("biases",), samples=200, device=device)
    assert found.history[-1].notes[0].values["kept"]
    x = subject.task.batch("train", range(200))[0].to(device)
    kept = [i for i in range(16) if i not in (3, 5)]
    means = []
    for module, rows in ((subject.module, kept), (found.module, list(range(14)))):
        with torch.no_grad():
            first = module.first(x)
            second = module.second(first.relu())
            means.append([first[:, rows].mean(0), second.mean(0), module.head(second.relu()).mean(0)])
    for was, now in zip(*means, strict=True):
        torch.testing.assert_close(now, was, atol=1e-5, rtol=1e-4)
    bare = explorer.compress(subject, recipe)
    with torch.no_grad():
        assert not torch.allclose(bare.head(bare.second(bare.first(x).relu()).relu()).mean(0), means[0][2], atol=1e-3)


def test_a_step_that_takes_the_outputs_farther_is_not_kept(device: str) -> None:
    torch.manual_seed(0)
    subject = trained(Normed(), device)  # nothing is damaged, so there is nothing to win
    found = recalibrate(subject, Recipe(), samples=64, device=device)
    assert not any(note.values["kept"] for note in found.history[-1].notes)
    for name, value in subject.module.state_dict().items():
        assert torch.equal(value, found.module.state_dict()[name]), name


def test_recalibrated_then_fine_tuned_is_one_history(device: str) -> None:
    subject = small(device)
    recipe = Recipe().prune("*", sparsity=0.5).quantize("*", bits=4)
    first = recalibrate(subject, recipe, device=device)
    second = finetune(first, first.recipe, epochs=1, batch=32, device=device)
    assert [entry.what for entry in second.history] == ["recalibration", "fine-tuning"]
    assert second.name == "small-finetuned"
    for name in explorer.resolve(subject, recipe).masks:
        assert torch.count_nonzero(second.weight(name)[first.weight(name) == 0]) == 0


def test_what_it_needs_is_said(device: str) -> None:
    subject = small(device)
    told: list[tuple[int, int]] = []
    recalibrate(subject, Recipe(), samples=50, device=device, progress=lambda done, total: told.append((done, total)))
    assert told and all(done <= total for done, total in told)
    bare = Subject(copy.deepcopy(subject.module), Task.classification(validation=learnable(20, 2)), "bare")
    with pytest.raises(RecipeError, match="train split"):
        recalibrate(bare, Recipe(), device=device)
    with pytest.raises(SettingsError, match=r"accepted: norms, biases"):
        recalibrate(subject, Recipe(), steps=("gates",), device=device)
    with pytest.raises(Cancelled, match="nothing was changed"):
        recalibrate(subject, Recipe(), device=device, cancel=lambda: True)


def test_every_sample_is_seen_once_also_where_one_was_left_over(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalibrating, "BATCH", 16)
    work = recalibrating._Work(small(device), RECIPE, torch.device(device), 97, None, None, 2)
    assert sorted(one for batch in work.batches for one in batch) == list(range(97)) and len(work.batches[-1]) == 17
