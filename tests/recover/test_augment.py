"""Pictures are shifted and mirrored, each by itself; the label, the seed's promise and the teacher's view stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from explorer.core.errors import SettingsError, TrainingError
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.recover.augment import ShiftFlip
from explorer.recover.distill import distill
from explorer.recover.finetune import finetune, train
from explorer.recover.loop import Training
from explorer.recover.settings import Settings
from tests.recover.small import RECIPE, same_weights, small


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """Pixel by pixel: what moves out is lost, zeros move in."""
    out = torch.zeros_like(image)
    height, width = image.shape[-2:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                out[:, row, column] = image[:, row - down, column - right]
    return out


def test_each_image_is_one_of_its_shifts_mirrored_or_not(device: str) -> None:
    images = torch.rand(60, 2, 4, 5, generator=torch.Generator().manual_seed(0)).to(device)
    torch.manual_seed(1)
    found = ShiftFlip(1)(images)
    steps = set()
    for before, after in zip(images, found, strict=True):
        ways = {
            (flip, down, right): shifted(before.flip(-1) if flip else before, down, right)
            for flip in (False, True) for down in (-1, 0, 1) for right in (-1, 0, 1)
        }  # fmt: skip
        (way,) = [name for name, image in ways.items() if torch.equal(image, after)]
        steps.add(way)
    assert len(steps) > 12  # of 18, drawn for each image
    torch.manual_seed(1)
    assert torch.equal(ShiftFlip(1)(images.cpu()).to(device), found)
    assert torch.equal(ShiftFlip(0, flip=False)(images), images)
    assert ShiftFlip()(images).shape == images.shape


def test_what_it_cannot_do_is_said(device: str) -> None:
    for bad in ({"pixels": -1}, {"pixels": 1.5}, {"flip": 1}):
        with pytest.raises(SettingsError, match=next(iter(bad))):
            ShiftFlip(**bad)
    with pytest.raises(TrainingError, match=r"takes images \(B, C, H, W\), not \(16, 2, 12\)"):
        finetune(small(device), Recipe(), epochs=1, batch=16, augment=ShiftFlip(), device=device)


def noisy(inputs: Tensor) -> Tensor:
    return inputs + 0.1 * torch.randn(inputs.shape).to(inputs.device)


def test_training_sees_it_judging_does_not_and_a_seed_promises_the_same(tmp_path: Path) -> None:
    settings = Settings(epochs=2, batch=16, lr=2e-2, checkpoint_seconds=0.0)
    seen: list[int] = []

    def watched(inputs: Tensor) -> Tensor:
        seen.append(len(inputs))
        return noisy(inputs)

    found = finetune(small(), RECIPE, settings, augment=watched, device="cpu")
    assert seen == 2 * [16, 16, 16, 16, 16, 17]  # every training sample once an epoch, no other
    assert same_weights(found.module, finetune(small(), RECIPE, settings, augment=noisy, device="cpu").module)
    plain = finetune(small(), RECIPE, settings, device="cpu")
    assert not same_weights(found.module, plain.module)
    assert (
        found.history[-1].settings["augment"] == {"name": watched.__qualname__}
        and "augment" not in plain.history[-1].settings
    )
    file = tmp_path / "checkpoint.pt"
    how = dict(settings=settings, device="cpu", checkpoint=file)
    for event in Training(small(), RECIPE, augment=noisy, **how).events():
        if getattr(event, "step", 0) > 7:
            break  # as a crash
    with pytest.raises(TrainingError, match="another subject, recipe or settings"):
        next(Training(small(), RECIPE, **how).events())
    assert same_weights(train(Training(small(), RECIPE, augment=noisy, **how)).module, found.module)


def test_the_teacher_sees_what_the_student_sees(device: str) -> None:
    subject = small(device)
    inputs: dict[bool, list[Tensor]] = {False: [], True: []}

    def forward(module: torch.nn.Module, x: Tensor) -> Tensor:
        inputs[module.training].append(x.clone())
        return module(x)

    task = Task.classification(**dict(subject.task.splits), forward=forward)
    subject = Subject(subject.module, task, "small")
    inputs[False].clear()
    distill(subject, RECIPE, epochs=1, batch=97, augment=noisy, compare=False, device=device)
    (student,) = inputs[True]
    assert any(one.shape == student.shape and torch.equal(one, student) for one in inputs[False])
