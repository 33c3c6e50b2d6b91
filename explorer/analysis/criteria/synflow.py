from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ...core.message import say
from ...models.device import place
from ..flow_of_ones import starts_here, synaptic_flow
from . import Criterion, registry

if TYPE_CHECKING:
    from ...models.subject import Subject
    from ..look import Look


@registry.register("synflow")
class SynFlow(Criterion):
    """Synaptic flow: score(w) = |w · ∂R/∂w|, R = the sum of outputs for an input of ones when every parameter is replaced by |·|.

    R adds up the products of weights along all paths; a weight's score is the share of the flow that passes it, so no layer is
    ever emptied. It sees no data at all: only how the network is wired. Meant for linear layers and ReLU; saturating
    activations distort it. Models that read tokens start at the embedding's output, all ones, so embeddings are not scored.
    Of a unit, the sum over its rows. Scores have the weight's shape, in float64, for deep networks overflow.
    Source: Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow",
    arXiv 2006.05467, here in one round.
    """

    title = "SynFlow"
    family = "structure"

    def why_not(self, subject: Subject, name: str) -> str | None:
        cut = subject.structure.cuts.get(name)
        for layer in (name,) if cut is None else cut.group.producers:
            if starts_here(subject, layer):
                return say(
                    "{layer} reads integers, and SynFlow starts behind it, at its output; l1 or taylor would do",
                    layer=layer,
                )
        found = synaptic_flow(subject)
        if isinstance(found, str):
            return found
        missing = [layer for layer in ((name,) if cut is None else cut.group.producers) if layer not in found]
        return say("no synaptic flow reaches {layer}; l1 would do", layer=missing[0]) if missing else None

    def scores(self, subject: Subject, names: list[str], look: Look) -> dict[str, Tensor]:
        found = synaptic_flow(subject)
        assert not isinstance(found, str)
        return {name: place(found[name], subject.weight(name).device) for name in names}
