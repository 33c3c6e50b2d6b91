"""Jobs: identical ones run once, an owner sees only what is theirs, what was broken off goes on to the same end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import explorer
from explorer.core.errors import SettingsError, TaskError, TrainingError
from explorer.core.recipe import Recipe
from explorer.models.subject import Subject
from explorer.models.task import Task
from explorer.recover import tensorboard
from explorer.recover.finetune import finetune
from explorer.recover.jobs import CANCELLED, DONE, FAILED, INTERRUPTED, WAITING, Job, Jobs
from explorer.recover.orders import Order
from explorer.recover.score import Scorer
from explorer.recover.settings import Settings
from explorer.recover.store import RECORD, Store, alive, hidden, process
from tests.recover.small import QUICK, RECIPE, learnable, same_weights, small

ANN, BOB = "a" * 32, "b" * 32


def order(device: str, subject: Subject | None = None, what: str = "fine-tuning", **changes: object) -> Order:
    settings = Settings(**(QUICK | {"log_every": 1} | changes))  # type: ignore[arg-type]
    return Order(what, subject or small(device), RECIPE, settings, device=device)


def until(true: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)


def over(job: Job) -> Job:
    until(lambda: job.over)
    return job


@pytest.fixture
def made(tmp_path: Path) -> Jobs:
    return Jobs(Store(tmp_path / "jobs"))


def test_a_job_ends_as_fine_tuning_does(made: Jobs, device: str) -> None:
    wanted = order(device)
    job = over(made.submit(ANN, wanted))
    tuned = finetune(small(device), RECIPE, wanted.settings, device=device)
    assert job.state == DONE and job.error is None and job.result is not None
    assert same_weights(job.result.module, tuned.module)
    assert [one.epoch for one in job.curve] == [0, 1, 2, 3] and job.done == job.total == job.steps[-1].step
    assert job.result.parent is wanted.subject and job.result.history[-1].epochs == 3


def test_identical_jobs_run_once_and_both_owners_see_it(
    made: Jobs, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    work = Order.work
    monkeypatch.setattr(Order, "work", lambda self, *args: (runs.append(self.key), work(self, *args))[1])
    subject = small(device)
    first, second = made.submit(ANN, order(device, subject)), made.submit(BOB, order(device, subject, log_every=7))
    other = made.submit(BOB, order(device, subject, seed=1))
    assert first is second and first is not other
    over(first), over(other)
    assert made.submit(BOB, order(device, subject)) is first and len(runs) == 2
    elsewhere = made.submit(BOB, order(device))  # equal weights, but who knows whether its data are equal, too
    assert over(elsewhere) is not first
    made.remove(BOB, elsewhere.id)
    made.remove(BOB, first.id)  # still Ann's
    assert first not in made.mine(BOB) and made.get(ANN, first.id) is first and made.store.bytes(first.id)
    made.submit(BOB, order(device, subject))
    assert {one.id for one in made.mine(ANN)} == {first.id} and {one.id for one in made.mine(BOB)} == {
        first.id,
        other.id,
    }


def test_strangers_see_nothing(made: Jobs, device: str, tmp_path: Path) -> None:
    job = made.submit(ANN, order(device))
    assert made.mine(BOB) == [] and made.get(BOB, job.id) is None
    made.cancel(BOB, job.id)
    made.remove(BOB, job.id)
    with pytest.raises(TrainingError, match="no job of yours"):
        made.resume(BOB, job.id, small(device))
    over(job)
    assert job.state == DONE and made.get(ANN, job.id) is job
    written = (tmp_path / "jobs" / job.id / RECORD).read_text(encoding="utf-8")
    assert ANN not in written and hidden(ANN) in written  # the folder's reader cannot become the owner


def test_cancelling_keeps_the_best_so_far_and_the_next_begins(made: Jobs, device: str) -> None:
    long, after = made.submit(ANN, order(device, epochs=500)), made.submit(ANN, order(device))
    assert after.state == WAITING
    until(lambda: len(long.curve) > 2)
    made.cancel(ANN, long.id)
    over(long), over(after)
    assert long.state == CANCELLED and after.state == DONE
    assert long.result is not None and not long.result.history[-1].complete
    seen = [one.figure.value for one in long.curve if one.best]
    assert long.result.history[-1].after["accuracy"].value >= seen[-1]


def test_cancelled_before_its_first_step_there_is_nothing_to_keep_and_it_can_begin_again(
    made: Jobs, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging, told, judge = threading.Event(), threading.Event(), Scorer.columns

    def columns(self: Scorer, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        judging.set()
        assert told.wait(90)
        return judge(self, module)

    wanted = order(device)
    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "columns", columns)
        job = made.submit(ANN, wanted)
        assert judging.wait(90)
        made.cancel(ANN, job.id)
        told.set()
        over(job)
    assert (job.state, job.result, job.made, job.error, job.curve) == (CANCELLED, None, "", None, [])
    again = over(made.resume(ANN, job.id, wanted.subject))
    assert again.state == DONE and again.made and again.done == again.total


def test_one_owner_leaving_does_not_end_it_for_the_other(made: Jobs, device: str) -> None:
    subject = small(device)
    job = made.submit(ANN, order(device, subject))
    made.submit(BOB, order(device, subject))
    made.cancel(ANN, job.id)
    assert over(job).state == DONE and made.mine(ANN) == [] and made.mine(BOB) == [job]


def test_everybodys_sample_is_the_same(device: str) -> None:
    keys = {order(device, explorer.load("vowels-rnn")).key for _ in range(2)}
    assert len(keys) == 1 and order(device, explorer.load("vowels-rnn"), seed=1).key not in keys


def test_one_that_waits_is_cancelled_without_having_run(made: Jobs, device: str) -> None:
    first, second = made.submit(ANN, order(device, epochs=500)), made.submit(ANN, order(device, seed=1))
    made.cancel(ANN, second.id)
    assert second.state == CANCELLED and second.result is None and not second.curve
    made.cancel(ANN, first.id)
    assert over(first).state == CANCELLED


def test_an_owners_share_of_the_queue(made: Jobs, device: str) -> None:
    for seed in range(3):
        made.submit(ANN, order(device, epochs=500, seed=seed))
    with pytest.raises(TrainingError, match="3 of your jobs wait or run"):
        made.submit(ANN, order(device, seed=9))
    assert made.submit(BOB, order(device, seed=9)).state == WAITING
    for one in (*made.mine(ANN), *made.mine(BOB)):
        made.cancel(ANN, one.id)
        made.cancel(BOB, one.id)
        over(one)


def test_what_cannot_be_trained_is_refused_at_once_and_leaves_no_folder(
    made: Jobs, device: str, tmp_path: Path
) -> None:
    task = Task.classification(validation=learnable(20, 1))
    with pytest.raises(TaskError, match="no train split"):
        made.submit(ANN, order(device, Subject(small(device).module, task, "no train")))
    assert made.mine(ANN) == [] and not list((tmp_path / "jobs").glob("*"))


def test_an_exception_is_one_clear_message_and_the_queue_goes_on(made: Jobs, device: str) -> None:
    plain = small(device)
    task = Task(
        splits=dict(plain.task.splits), loss=lambda outputs, targets: (outputs * float("nan")).sum(),
        score=lambda outputs, targets: {"hit": (outputs.argmax(1) == targets).float()},
    )  # fmt: skip
    subject = Subject(plain.module, task, "broken")
    job, next_one = made.submit(ANN, order(device, subject)), made.submit(ANN, order(device))
    assert over(job).state == FAILED and "loss" in str(job.error) and job.result is None
    assert over(next_one).state == DONE
    assert job.final and not next_one.final
    found = Jobs(made.store).get(ANN, job.id)
    assert found is not None and found.state == FAILED and found.final


def test_without_memory_a_job_may_go_on_another_time(made: Jobs, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as short:
        short.setattr("explorer.recover.step.Stepper._gradients", full)
        job = over(made.submit(ANN, order(device)))
    assert job.state == FAILED and not job.final
    assert over(made.resume(ANN, job.id, small(device))).state == DONE


def test_recalibration_is_a_job_too(made: Jobs, device: str) -> None:
    job = over(made.submit(ANN, order(device, what="recalibration")))
    assert job.state == DONE and job.result is not None and job.result.history[-1].what == "recalibration"
    assert job.done == job.total > 0 and [note.values["step"] for note in job.notes] == ["norms", "biases"]


def test_a_finished_job_is_opened_by_another_server(made: Jobs, device: str) -> None:
    job = over(made.submit(ANN, order(device)))
    assert job.result is not None
    later = Jobs(made.store)
    found = later.get(ANN, job.id)
    assert found is not None and found.state == DONE and found.result is None and not later.mine(BOB)
    again = later.reopen(ANN, job.id, small(device))
    assert same_weights(again.module, job.result.module) and [one.epoch for one in found.curve] == [0, 1, 2, 3]
    torch.manual_seed(1)
    other = small(device)
    with torch.no_grad():
        next(other.module.parameters()).add_(1)
    with pytest.raises(TrainingError, match="not those that the job began with"):
        Jobs(made.store).reopen(ANN, job.id, other)


def test_removed_jobs_leave_nothing(made: Jobs, device: str, tmp_path: Path) -> None:
    job = over(made.submit(ANN, order(device)))
    made.remove(ANN, job.id)
    assert made.mine(ANN) == [] and not (tmp_path / "jobs" / job.id).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 99}'])
def test_a_broken_record_is_left_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / "jobs" / "x").mkdir(parents=True)
    (tmp_path / "jobs" / "x" / RECORD).write_text(text, encoding="utf-8")
    assert Jobs(Store(tmp_path / "jobs")).mine(ANN) == []


def test_processes_are_told_apart() -> None:
    pid, began = process()
    assert alive(process()) and not alive([pid, began - 100]) and not alive(None) and not alive(["x", 1])


def test_event_files_without_the_writer_are_refused(made: Jobs, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "available", lambda: False)
    with pytest.raises(SettingsError, match="pip install tensorboard"):
        made.submit(ANN, order(device), board=True)
    assert made.mine(ANN) == []


CHILD = """
import os, signal, sys, time
from pathlib import Path
from explorer.core.training import Step
from explorer.recover.jobs import Job, Jobs
from explorer.recover.store import Store
from tests.recover.test_jobs import ANN, order

tell = Job.tell

def until_nine(job, event):
    tell(job, event)
    if isinstance(event, Step) and event.step == 9:
        os.kill(os.getpid(), signal.SIGKILL)

Job.tell = until_nine
Jobs(Store(Path(sys.argv[1]))).submit(ANN, order(sys.argv[2], checkpoint_seconds=0.0))
time.sleep(120)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_a_killed_server_s_job_goes_on_to_the_same_figures(tmp_path: Path, device: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # sums would differ in their last bits
    command = [sys.executable, "-c", CHILD, str(tmp_path), device]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=110)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    made = Jobs(Store(tmp_path))
    (job,) = made.mine(ANN)
    told = json.loads((tmp_path / job.id / RECORD).read_text(encoding="utf-8"))
    assert job.state == INTERRUPTED and told["state"] == "running"
    found = made.stand(job)
    assert found is not None and (found.epoch, found.epochs, found.step, found.steps) == (2, 3, 8, 18)
    assert [one.epoch for one in job.curve] == [0, 1]  # what it had come to is shown again
    made.resume(ANN, job.id, small(device))
    assert over(job).state == DONE and job.result is not None and job.stood is None
    assert job.steps[0].step == 9  # of 18: in the middle of an epoch, from the checkpoint after the eighth
    straight = finetune(small(device), RECIPE, order(device).settings, device=device)
    assert job.result.history[-1].after == straight.history[-1].after
    assert Recipe.from_json(job.told["recipe"]) == RECIPE
    if device == "cpu":  # elsewhere sums may be done in any order
        assert same_weights(job.result.module, straight.module)
