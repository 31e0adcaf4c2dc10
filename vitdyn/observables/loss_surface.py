"""The loss of the theory's layer as a function of its correlations, about one state of a run."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.landscape import Surface, Tensors
from vitdyn.models import Correlations, Parameters, area_attention
from vitdyn.objectives.contract import decay_of, loss_of
from vitdyn.objectives.forward import ForwardPass
from vitdyn.observables.state import ModelState


def loss_surface(
    state: ModelState, *, stopped: str = "frozen", dtype: torch.dtype = torch.float64
) -> Surface:
    """Return the objective, weight decay included, on a state's batch and masks as a function of Q of its one seed.

    Parameters are the blocks of Q without their axis of seeds; their rows are queries, and count as filters. The loss
    is evaluated in ``dtype``, whatever the run's precision. What the objective carries (a teacher, a centre) stays as
    it is in the state. Both derivatives are exact; ``stopped`` is that of ``vitdyn.landscape.Surface``.

    Raises ``ValueError`` for a state of several seeds: ask for one of ``state.of_seeds``.
    """
    if state.parameters.seeds != 1:
        words = "must be of one seed: take one of state.of_seeds"
        raise invalid_value("state", f"{state.parameters.seeds} seeds", words)
    objective, forward = state.objective, _in_precision(state.forward, dtype)

    def loss(tensors: Tensors) -> Tensor:
        correlations = Correlations(**{name: each[None] for name, each in tensors.items()})
        attention = tuple(area_attention(correlations, forward.batch, view) for view in forward.views)
        seen = replace(forward, attention=attention)
        return (loss_of(objective, seen) + decay_of(objective, correlations, seen))[0]

    blocks = {name: block[0].to(dtype) for name, block in state.parameters.named().items()}
    return Surface(loss, blocks, stopped=stopped)


def _in_precision(forward: ForwardPass, dtype: torch.dtype) -> ForwardPass:
    """Return a forward pass whose batch, carried state and attention to a teacher are of a precision."""
    batch = replace(forward.batch, latents=forward.batch.latents.to(dtype))
    carried = {
        name: each.to(dtype) if each.is_floating_point() else each for name, each in forward.state.items()
    }

    def attend(correlations: Parameters, view: int | None) -> Tensor:
        assert isinstance(correlations, Correlations)
        visible = torch.ones_like(forward.views[0]) if view is None else forward.views[view]
        return area_attention(correlations, batch, visible)

    return replace(forward, batch=batch, state=carried, attend=attend)
