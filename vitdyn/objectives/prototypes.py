"""Objectives of clusters: prototypes that are drawn per seed, trained or fixed, and no more of them than samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitdyn._errors import invalid_value, require_integer, require_real
from vitdyn.data import PatchLayout
from vitdyn.models import Parameters
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.objective import Objective
from vitdyn.objectives.parts import Descent, unit_vectors
from vitdyn.objectives.stacked import unstack
from vitdyn.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class WithPrototypes(Objective):
    """An objective with K_p prototypes, random unit vectors at first, of each seed its own.

    ``prototype_rate`` is the rate of the plain descent that trains them; at 0 they stay where they are.
    """

    prototypes: int = field(default=8, metadata={"help": "K_p, how many clusters."})
    prototype_rate: float = field(
        default=0.1, metadata={"help": "Learning rate of the prototypes; 0: fixed."}
    )

    def require_prototypes(self) -> None:
        """Raise unless there are two prototypes or more, and their learning rate is a number of 0 or more."""
        require_integer("prototypes", self.prototypes, at_least=2, at_most=10**6)
        require_real("prototype_rate", self.prototype_rate, low=0.0, high=1e6)

    def check(self, layout: PatchLayout, samples: int) -> None:
        """Raise ``ValueError`` where the ratio masks no patch or all, or a batch cannot fill the clusters."""
        super().check(layout, samples)
        if self.prototypes > samples:
            words = f"no balance gives each a sample: at most {samples}, the samples of a batch"
            raise invalid_value("prototypes", self.prototypes, words)

    def initial_state(self, correlations: Parameters, streams: Streams) -> State:
        """Return the prototypes."""
        carried = super().initial_state(correlations, streams)
        return {**carried, "prototypes": unit_vectors(correlations, streams, self.prototypes)}

    def update_state(self, forward: ForwardPass, correlations: Parameters) -> State:
        """Return the prototypes as they are: where they are trained, training moves them."""
        carried = super().update_state(forward, correlations)
        return {**carried, "prototypes": forward.state["prototypes"]}

    def optimizers(self) -> Mapping[str, Descent]:
        """Return how prototypes are trained: not at all where the rate is 0, which saves their gradient."""
        if not any(one.prototype_rate for one in unstack(self)):
            return {}
        return {"prototypes": Descent(self, lambda one: one.prototype_rate)}
