"""A browser's recovered models: found again by the job that made them, after a reload or a restart, by the job's owner alone."""

from __future__ import annotations

import time

import explorer
from explorer.core.errors import LoadError
from explorer.core.message import say
from explorer.models.subject import Subject
from explorer.recover.jobs import Job, jobs

from . import models, state
from .owner import owner


class StartGone(LoadError):
    """What a job began with is not open in this session."""


def job_of(subject: Subject) -> Job | None:
    """The visitor's job that made this subject."""
    return next((job for job in jobs().mine(owner()) if job.result is subject), None)


def open_job(name: str) -> Subject:
    """What the visitor's job of that id has come to. Raises :class:`LoadError`, the same for others' jobs as for none."""
    job = jobs().get(owner(), name)
    if job is None:
        raise LoadError(say("it was recovered in another browser, or its job was removed"))
    if not job.over:
        raise LoadError(say("its job has not ended yet; the page Recover shows how far it is"))
    return result(job)


def result(job: Job) -> Subject:
    """What a job that is over has come to, from its checkpoint where this server has started since."""
    found = job.result
    if found is None:
        begun = start(job)
        return jobs().reopen(owner(), job.id, begun, session(begun))
    job.used = time.time()
    if job.sessions is not None:
        job.seen_by(state.user())
    return found


def session(subject: Subject) -> str:
    """This session, where it or its like alone brought what a model came from; "" for what everybody has."""
    return "" if models.everybodys(subject) else state.user()


def start(job: Job) -> Subject:
    """The subject that a job begins with: one that this session may open, a sample, or what another of the visitor's jobs began
    or ended with. Raises :class:`StartGone`."""
    if job.order is not None:
        return job.order.subject
    name, digest = str(job.told["subject"]), str(job.told["digest"])
    if name in explorer.samples() and (sample := models.open_subject(name)).digest == digest:
        return sample
    for one in models.own():
        if one.task.kind != "weights" and one.digest == digest:
            return one
    for other in jobs().mine(owner()):
        if other is not job and other.order is not None and other.order.subject.digest == digest:
            return other.order.subject
        if other.made == digest and other.created < job.created:
            return result(other)
    raise StartGone(
        say("{name}, from which it was recovered, is not open in this session; accepted: to open it again", name=name)
    )
