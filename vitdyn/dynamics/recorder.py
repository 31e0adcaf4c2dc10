"""What is recorded of seeds that train together: at a frame on an evaluation batch, at each step on its own batch."""

from __future__ import annotations

import torch
from torch import Tensor

from vitdyn.dynamics.gradient import Workspaces, forward_pass, loss_gradient
from vitdyn.dynamics.grid import ReplicaBatch
from vitdyn.dynamics.group import Group
from vitdyn.dynamics.joint_batches import JointSource
from vitdyn.models import Parameters
from vitdyn.objectives.forward import ForwardPass
from vitdyn.observables import ModelState
from vitdyn.observables.observable import observe


def frame_of(group: Group, source: JointSource, workspaces: Workspaces) -> dict[str, Tensor]:
    """Return what a frame holds of each seed, by name."""
    rows = group.rows
    batch, views = source.evaluation(group.step)
    parts = []
    for own, span in rows.observed:

        def take(tensor: Tensor, span: slice = span, whole: bool = own is rows) -> Tensor:
            # a part is a copy: some sums depend on where in memory an array begins
            return tensor if whole else tensor[span].clone()

        shown = batch.map(take, seeds=own.seeds)
        parameters = group.correlations.map(take)
        forward = forward_pass(
            parameters,
            shown,
            tuple(take(view) for view in views),
            {name: take(value) for name, value in group.objective_state.items()},
            workspaces,
            model=rows.common.trained_model,
        )
        state = _state(own, parameters, forward, group.step, None)
        parts.append(observe(state, [each for each in rows.common.recorded if not each.each_step]))
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def record_step(group: Group, gradient: Parameters, forward: ForwardPass) -> None:
    """Write into a group's ``series`` what is recorded at each step, before its correlations follow ``gradient``."""
    if group.series:
        state = _state(group.rows, group.correlations, forward, group.step, gradient)
        each_step = [each for each in group.rows.common.recorded if each.each_step]
        for name, values in observe(state, each_step).items():
            group.series[name][:, group.step] = values


def _state(
    rows: ReplicaBatch,
    parameters: Parameters,
    forward: ForwardPass,
    step: int,
    gradient: Parameters | None,
) -> ModelState:
    def found() -> Parameters:
        given = rows.objective, forward.batch, forward.views, forward.state
        if gradient is not None:
            return gradient
        return loss_gradient(parameters, *given, model=rows.common.trained_model)[0]

    owners = tuple((training.generator, training.objective) for training in rows.trainings)
    return ModelState(parameters, rows.objective, forward, step, found, owners, rows.common.trained_model)
