"""What moves a group of seeds on: the host step by step, or a GPU by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitdyn.data import PatchBatch
from vitdyn.dynamics.batches import Views
from vitdyn.dynamics.captured import CudaGraphStepper
from vitdyn.dynamics.device_batches import DeviceBatches
from vitdyn.dynamics.divergence import noted_bad_values
from vitdyn.dynamics.gradient import Workspaces, loss_gradient
from vitdyn.dynamics.grid import is_capturable
from vitdyn.dynamics.group import Group
from vitdyn.dynamics.joint_batches import JointSource
from vitdyn.dynamics.optimizers import step_in_place
from vitdyn.dynamics.recorder import record_step
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.objectives.contract import draws_views_jointly, next_state


@dataclass
class EagerStepper:
    """Steps that the host takes one by one: draw, gradient, optimizer, what the objective remembers."""

    group: Group
    draw: Callable[[int], tuple[PatchBatch, Views]]
    workspaces: Workspaces

    def advance(self, count: int) -> None:
        """Do ``count`` steps of descent; on a GPU they may only be under way when this returns."""
        group, objective, optimizer = self.group, self.group.rows.objective, self.group.rows.optimizer
        model = group.rows.common.trained_model
        for _ in range(count):
            given = *self.draw(group.step), group.objective_state, self.workspaces
            gradient, forward = loss_gradient(group.correlations, objective, *given, model=model)
            record_step(group, gradient, forward)
            step_in_place(optimizer, group.correlations, gradient, group.optimizer, group.step)
            group.objective_state = next_state(objective, forward, group.correlations, group.step)
            group.step += 1
            group.first_bad = noted_bad_values(group.correlations, group.first_bad, group.step)


def stepper_of(group: Group, source: JointSource, workspaces: Workspaces) -> EagerStepper | CudaGraphStepper:
    """Return what takes a group's steps: a GPU without the host, else the host with data drawn where they are used."""
    rows, training = group.rows, group.rows.common
    fixed = training.dataset_size is not None
    # only what vitdyn itself draws is drawn on a device: a user's code for data or views runs on the host
    own = training.generator.departures or not training.generator.draws_as_written
    if rows.device.type == "cpu" or fixed or own or not draws_views_jointly(training.objective):
        return EagerStepper(group, source.training, workspaces)
    kind = training.batch_size, PRECISIONS[training.precision], rows.device
    batches = DeviceBatches(training.generator, rows.objective, rows.seeds, *kind)
    if group.series or not is_capturable(training):  # a captured step stops for nobody
        return EagerStepper(group, batches.training, workspaces)
    return CudaGraphStepper(group, batches)
