from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.message import say
from ..probe import probe, why_no_data
from . import Cost, registry

if TYPE_CHECKING:
    from ...models.structure import Cut
    from ...models.subject import Subject


@registry.register("mac")
class Mac(Cost):
    """Over multiply-accumulates: score / MACs, so that of two equally important units the one that computes more goes first.

    A weight costs one multiply-accumulate a position: as many as a convolution has output pixels, or a recurrent layer steps. A
    unit costs those of its rows in every producer and of its columns in every consumer. Within one layer all weights cost the
    same, so it matters in a global ranking. Counted on real samples; products between activations (attention) are left out.
    Source: Molchanov et al. 2017, arXiv 1611.06440 (FLOPs regularization), here as a quotient.
    """

    title = "MAC"

    def why_not(self, subject: Subject, name: str) -> str | None:
        why = why_no_data(subject) or probe(subject).problem
        if why is not None:
            return why
        cut = subject.structure.cuts.get(name)
        cost = self.of_weight(subject, name) if cut is None else self.of_unit(subject, cut)
        return (
            None
            if cost > 0
            else say("{name} multiplies nothing that could be counted (a table that is looked up, or added)", name=name)
        )

    def of_weight(self, subject: Subject, name: str) -> float:
        return probe(subject).positions.get(name, 0.0)

    def of_unit(self, subject: Subject, cut: Cut) -> float:
        total = 0.0
        for piece in cut.slices:
            if piece.role in ("producer", "consumer") and piece.tensor in probe(subject).positions:
                weight = subject.weight(piece.tensor)
                total += (
                    weight.numel()
                    / weight.shape[piece.dim]
                    * piece.index.shape[1]
                    * probe(subject).positions[piece.tensor]
                )
        return total
