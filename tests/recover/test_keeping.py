"""What is kept of jobs that are over, for whom and for how long."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch

from explorer.core.errors import TrainingError
from explorer.recover import keeping
from explorer.recover.jobs import DONE, Jobs
from explorer.recover.store import CHECKPOINT, Store
from tests.recover.small import same_weights, small
from tests.recover.test_jobs import ANN, BOB, order, over

QUICKEST = {"epochs": 1}


@pytest.fixture
def made(tmp_path: Path) -> Jobs:
    return Jobs(Store(tmp_path / "jobs"))


def test_what_a_session_brought_leaves_with_it_and_comes_back_with_the_same_file(made: Jobs, device: str) -> None:
    upload = small(device)
    job = over(made.submit(ANN, order(device, upload, **QUICKEST), session="tab"))
    assert job.state == DONE and job.result is not None and job.order is not None
    first = {name: tensor.clone() for name, tensor in job.result.module.state_dict().items()}
    held, data = weakref.ref(upload.module), weakref.ref(upload.task.splits["train"])
    made.leave("another tab")
    assert job.result is not None
    del upload
    made.leave("tab")
    assert job.result is None and job.order is None and made.mine(ANN) == [job] and not made.mine(BOB)
    gc.collect()
    assert held() is None and data() is None  # neither weights nor data stay in this process
    assert (made.store.folder(job.id) / CHECKPOINT).exists()
    another = small(device)
    with torch.no_grad():
        next(another.module.parameters()).add_(1)
    with pytest.raises(TrainingError, match="not those that the job began with"):
        made.reopen(ANN, job.id, another)
    again = made.reopen(ANN, job.id, small(device), "tomorrow")
    assert all((again.module.state_dict()[name] == tensor).all() for name, tensor in first.items())
    made.leave("tomorrow")
    assert job.result is None


def test_a_job_that_outlives_its_session_ends_and_keeps_nothing_in_memory(made: Jobs, device: str) -> None:
    job = made.submit(ANN, order(device, small(device), epochs=3), session="tab")
    made.leave("tab")
    over(job)
    assert job.state == DONE and job.result is None and job.order is None and job.made
    assert same_weights(
        made.reopen(ANN, job.id, small(device), "later").module, made.reopen(ANN, job.id, small(device)).module
    )


def test_an_equal_order_is_another_job_once_the_first_was_let_go(made: Jobs, device: str) -> None:
    """Its key names data by its place in memory, where a stranger's may lie by now."""
    wanted = order(device, small(device), **QUICKEST)
    job = over(made.submit(ANN, wanted, session="tab"))
    assert made.submit(ANN, wanted, session="tab") is job
    made.leave("tab")
    assert over(made.submit(BOB, wanted, session="his")) is not job and not made.get(BOB, job.id)


def test_memory_is_bounded_for_all_owners_together(made: Jobs, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [over(made.submit(owner, order(device, seed=i, **QUICKEST))) for i, owner in enumerate((ANN, BOB, ANN))]
    assert all(job.result is not None for job in jobs)
    monkeypatch.setattr(keeping, "MEMORY", 2 * keeping.held(jobs[0]))
    jobs[0].used += 1000  # somebody looked at it just now
    made.reopen(ANN, jobs[2].id, small(device))
    assert [job.result is not None for job in jobs] == [True, False, True]
    assert made.reopen(BOB, jobs[1].id, small(device)) is jobs[1].result


def test_an_owners_share_of_the_disk(made: Jobs, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = over(made.submit(ANN, order(device, seed=0, **QUICKEST)))
    other = over(made.submit(BOB, order(device, seed=5, **QUICKEST)))
    monkeypatch.setattr(keeping, "DISK", int(1.5 * made.store.bytes(first.id)))
    jobs = [over(made.submit(ANN, order(device, seed=i, **QUICKEST))) for i in (1, 2)]
    last = over(made.submit(ANN, order(device, seed=3, **QUICKEST)))
    assert last in made.mine(ANN) and first not in made.mine(ANN) and jobs[1] in made.mine(ANN)
    assert not (made.store.root / first.id).exists() and made.mine(BOB) == [other]
