"""The bundled sample models as subjects."""

from __future__ import annotations

import threading
from functools import cache

from ..core.errors import LoadError, near
from ..core.message import say
from .subject import Subject
from .task import Task

_lock = threading.Lock()


def samples() -> tuple[str, ...]:
    """Names of the bundled sample models."""
    import sample_models

    return tuple(sample_models.SAMPLES)


def load(name: str) -> Subject:
    """A bundled sample model by name; repeated calls give the same subject. Raises :class:`LoadError`."""
    if name not in samples():
        raise LoadError(say("no sample model {name!r}; {hint}", name=name, hint=near(str(name), samples())))
    with _lock:  # two sessions that open the same sample share one subject
        return _load(name)


@cache
def _load(name: str) -> Subject:
    from safetensors.torch import load_file

    import sample_models

    sample = sample_models.SAMPLES[name]
    module = sample_models.build(name)
    module.load_state_dict(load_file(sample_models.weights_path(name)))
    data = sample_models.data(name)
    make = {
        "classification": Task.classification,
        "regression": Task.regression,
        "language_model": Task.language_model,
    }[sample.task]
    more = {"classes": data.classes} if sample.task == "classification" else {}
    task = make(
        **data.splits, display=data.display, decode=data.decode, encode=data.encode, labels=data.labels, **more
    )
    return Subject(module.eval(), task, name, card=sample_models.card(name))
