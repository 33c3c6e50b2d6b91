from __future__ import annotations

from dataclasses import dataclass

from . import Schedule, registry


@registry.register("one-shot")
@dataclass(frozen=True)
class OneShot(Schedule):
    """All is pruned at once, before training; masks and removed units are held to the end.

    The plain way: prune, then retrain what is left. Source: Han et al. 2015, arXiv 1506.02626, section 3 (one round of it).
    """

    title = "one-shot"
