"""How many samples a first answer looks at, and that it stops where the machine turns out to be busy."""

from __future__ import annotations

import pytest
import torch

from explorer.core.recipe import Recipe
from explorer.evaluate import evaluator
from explorer.evaluate.engine import Engine, engine
from explorer.evaluate.evaluator import evaluate, glance, look, stages
from explorer.models.subject import Subject
from tests.contract.nets import MLP, classification, tuned

LAST = Recipe().prune("fc.2", sparsity=0.5)


@pytest.fixture
def subject(device: str) -> Subject:
    torch.manual_seed(0)
    return tuned(Subject(MLP().to(device), classification((6,), n=1500), "big"))


def engine_of(subject: Subject, device: str) -> Engine:
    run = engine(subject, torch.device(device))
    run.data("validation").looks = [32, 256, 512, 1024, 1500]
    return run


def test_a_busy_machine_answers_from_fewer_samples(
    subject: Subject, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = engine_of(subject, device)
    evaluate(subject, device=device)
    monkeypatch.setattr(evaluator, "FIRST_ANSWER", 1e-9)  # over by the end of any chunk
    run.rate = 1e12  # of a machine that was idle: 1,000 samples fit
    assert stages(subject, device=device)[0] == 512
    found = glance(subject, LAST, device=device)
    assert found.n == 32 and found.figure("accuracy").n == 32 and not found.complete
    assert found.metrics == look(subject, LAST, 32, device=device).metrics
    assert look(subject, LAST, 700, device=device).n == 700  # who asks for a number gets it


def test_what_was_seen_already_is_not_taken_back(
    subject: Subject, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = engine_of(subject, device)
    look(subject, LAST, 512, device=device)
    monkeypatch.setattr(evaluator, "FIRST_ANSWER", 1e-9)
    run.rate, chunks = 1.0, run.chunks
    assert glance(subject, LAST, device=device).n == 512 and run.chunks == chunks


@pytest.mark.parametrize(("rate", "expected"), [(1_000, 256), (20_000, 1024), (1e6, 1500)])
def test_more_samples_come_in_where_that_costs_one_answer_little(
    subject: Subject, device: str, rate: float, expected: int
) -> None:
    run = engine_of(subject, device)
    look(subject, LAST, 256, device=device)
    with run.work() as work:
        group = run.job(evaluator.resolve(subject, LAST), "validation", work).group
    assert run.prefixes.extent(group) == 256
    run._rates[group], run.rate = 1e9, rate  # from kept values all would fit; the new ones have WIDEN seconds
    ask = evaluator._ready(subject, LAST, "validation", "full", device)
    with run.work() as work:
        assert ask.stages(work)[0] == expected


def test_a_whole_split_that_takes_a_moment_is_seen_at_once(subject: Subject, device: str) -> None:
    run = engine_of(subject, device)
    evaluate(subject, device=device)
    run.rate = 15_000.0  # 0.1 s for all
    few = glance(subject, LAST, device=device, whole=0.05).n
    assert few < 1500
    assert glance(subject, LAST, device=device, more=False).n == few and glance(subject, LAST, device=device, whole=60.0).complete


def test_nobody_waits_for_anothers_whole_split(subject: Subject, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = engine_of(subject, device)
    evaluate(subject, device=device)
    run.rate = 1_000.0
    monkeypatch.setattr(type(run.queue), "waiting", property(lambda self: 3))
    assert glance(subject, LAST, device=device, whole=60.0).n < 1500


def test_an_unknown_original_is_looked_at_first(subject: Subject, device: str) -> None:
    run = engine_of(subject, device)
    run.rate = 1_000.0
    assert glance(subject, LAST, device=device, whole=60.0).n < 1500
