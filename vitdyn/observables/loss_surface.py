"""The loss of a model as a function of its parameters, about one state of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.landscape import Surface, Tensors
from vitdyn.models import Parameters
from vitdyn.objectives.contract import decay_of, loss_of
from vitdyn.objectives.forward import ForwardPass, layer_attender
from vitdyn.objectives.model_pass import model_pass
from vitdyn.observables.state import ModelState


def loss_surface(
    state: ModelState, *, stopped: str = "frozen", dtype: torch.dtype = torch.float64
) -> Surface:
    """Return the objective, weight decay included, on a state's batch and masks as a function of its one seed's model.

    Parameters are the model's tensors without their axis of seeds. Of the theory's layer they are the blocks of Q,
    whose rows are queries, and count as filters; of a ``Transformer`` the first axis is that of layers. The loss
    is evaluated in ``dtype``, whatever the run's precision. What the objective carries (a teacher, a centre) stays as
    it is in the state. Both derivatives are exact; ``stopped`` is that of ``vitdyn.landscape.Surface``.

    Raises ``ValueError`` for a state of several seeds: ask for one of ``state.of_seeds``.
    """
    if state.parameters.seeds != 1:
        words = "must be of one seed: take one of state.of_seeds"
        raise invalid_value("state", f"{state.parameters.seeds} seeds", words)
    objective, see = state.objective, _seen_in(state, dtype)

    def loss(tensors: Tensors) -> Tensor:
        parameters = state.parameters.rebuilt({name: each[None] for name, each in tensors.items()})
        seen = see(parameters)
        return (loss_of(objective, seen) + decay_of(objective, parameters, seen))[0]

    blocks = {name: block[0].to(dtype) for name, block in state.parameters.named().items()}
    return Surface(loss, blocks, stopped=stopped)


def _seen_in(state: ModelState, dtype: torch.dtype) -> Callable[[Parameters], ForwardPass]:
    """Return what sees a state's batch and views, in a precision, through other parameters of its model."""

    def cast(each: Tensor) -> Tensor:
        return each.to(dtype) if each.is_floating_point() else each

    forward, batch = state.forward, state.batch.map(cast)
    carried = {name: cast(each) for name, each in forward.state.items()}
    if not forward.has_closed_forms:
        return lambda parameters: model_pass(state.model, parameters, batch, forward.views, carried)

    attend = layer_attender(batch, forward.views)
    recast = replace(forward, batch=batch, state=carried, attend=attend)

    def see(correlations: Parameters) -> ForwardPass:
        attention = tuple(attend(correlations, view) for view in range(len(forward.views)))
        return replace(recast, attention=attention)

    return see
