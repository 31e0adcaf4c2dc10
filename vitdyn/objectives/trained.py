"""The parts of an objective's state that are trained with the model: a predictor, prototypes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.objective import Objective


@dataclass(frozen=True)
class Trained:
    """One tensor with what an optimizer asks of correlations, so that the same optimizers move both."""

    value: Tensor

    def map(self, function: Callable[..., Tensor], *others: Trained) -> Trained:
        """Return the result of a function of this tensor and of those of others."""
        return Trained(function(self.value, *(other.value for other in others)))


def optimizer_states(objective: Objective, state: State) -> State:
    """Return what the optimizers of the objective's own parts carry before the first step: ``"part.name"``."""
    found: dict[str, Tensor] = {}
    for name, optimizer in objective.optimizers().items():
        if name not in state:
            raise invalid_value(_field(objective, name), optimizer, "must name a part of initial_state")
        found |= {f"{name}.{key}": part.value for key, part in optimizer.init(Trained(state[name])).items()}
    return found


def train_state(objective: Objective, forward: ForwardPass, step: int) -> State:
    """Return the trained parts, and what their optimizers carry, after the step of which ``forward`` is the pass.

    The gradient is that of the loss at the state and the model before the step: both move at once.
    """
    optimizers, state, moved = objective.optimizers(), forward.state, dict[str, Tensor]()
    for name, gradient in _gradients(objective, forward, list(optimizers)).items():
        # optimizers move in place, and the step's own state stays as it was
        part = Trained(state[name].clone())
        carried = {
            key.removeprefix(f"{name}."): Trained(value.clone())
            for key, value in state.items()
            if key.startswith(f"{name}.")
        }
        returned = optimizers[name].step(part, Trained(gradient), carried, step)
        if returned is not None:
            raise invalid_value(
                f"{_field(objective, name)}.step", type(returned).__name__, "must move in place, return None"
            )
        moved |= {name: part.value, **{f"{name}.{key}": value.value for key, value in carried.items()}}
    return moved


def _gradients(objective: Objective, forward: ForwardPass, names: list[str]) -> dict[str, Tensor]:
    if not names:
        return {}
    leaves = {name: forward.state[name].detach().clone().requires_grad_() for name in names}
    with torch.enable_grad():
        loss = objective.loss(replace(forward, state={**forward.state, **leaves})).sum()
    found: Any = [None] * len(names)
    if loss.requires_grad:
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    for name, gradient in zip(names, found, strict=True):
        if gradient is None:
            raise invalid_value(
                _field(objective, name), "a part without gradient", "must be a part that the loss depends on"
            )
    return dict(zip(names, found, strict=True))


def _field(objective: Objective, name: str) -> str:
    return f"{type(objective).__name__}.optimizers[{name!r}]"
