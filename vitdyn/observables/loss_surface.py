"""The loss of the theory's layer as a function of its correlations, about one state of a run."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.landscape import Surface, Tensors
from vitdyn.models import Correlations, area_attention
from vitdyn.objectives.contract import decay_of, loss_of
from vitdyn.observables.state import ModelState


def loss_surface(state: ModelState, *, stopped: str = "frozen") -> Surface:
    """Return the objective, weight decay included, on a state's batch and masks as a function of Q of its one seed.

    Parameters are the blocks of Q without their axis of seeds; their rows are queries, and count as
    filters. What the objective carries (a teacher, a centre) stays as it is in the state. Both derivatives are exact;
    ``stopped`` is that of ``vitdyn.landscape.Surface``.
    Raises ``ValueError`` for a state of several seeds: ask for one of ``state.of_seeds``.
    """
    if state.parameters.seeds != 1:
        words = "must be of one seed: take one of state.of_seeds"
        raise invalid_value("state", f"{state.parameters.seeds} seeds", words)
    objective, forward = state.objective, state.forward

    def loss(tensors: Tensors) -> Tensor:
        correlations = Correlations(**{name: each[None] for name, each in tensors.items()})
        attention = tuple(area_attention(correlations, forward.batch, view) for view in forward.views)
        seen = replace(forward, attention=attention)
        return (loss_of(objective, seen) + decay_of(objective, correlations, seen))[0]

    blocks = {name: block[0] for name, block in state.parameters.named().items()}
    return Surface(loss, blocks, stopped=stopped)
