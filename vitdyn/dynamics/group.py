"""Seeds that train together: their state, and the steps that change it."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.dynamics.batches import Views
from vitdyn.dynamics.captured import CudaGraphStepper, takes
from vitdyn.dynamics.checkpoint import State, rows_of_state
from vitdyn.dynamics.device_batches import DeviceBatches
from vitdyn.dynamics.divergence import noted_bad_values
from vitdyn.dynamics.gradient import Workspaces, loss_gradient
from vitdyn.dynamics.grid import ReplicaBatch
from vitdyn.dynamics.joint_batches import JointSource
from vitdyn.dynamics.optimizers import step_in_place
from vitdyn.dynamics.recorder import record_step
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.models import Correlations
from vitdyn.objectives import State as ObjectiveState
from vitdyn.objectives.contract import draws_views_jointly, next_state


@dataclass
class Group:
    """The state of the seeds that train together."""

    rows: ReplicaBatch
    correlations: Correlations
    optimizer: dict[str, Correlations]
    memory: ObjectiveState
    first_bad: Tensor
    series: dict[str, Tensor] = field(default_factory=dict)
    """What is recorded at each step."""

    step: int = 0
    frames: list[dict[str, Tensor]] = field(default_factory=list)
    parts: list[tuple[int, str, str]] = field(default_factory=list)
    """(first step, engine, machine) of each stretch of steps."""

    def to_state(self) -> State:
        """Return a copy of everything, as plain values."""
        return {
            "correlations": self.correlations.map(torch.clone).named(),
            "optimizer": {name: part.map(torch.clone).named() for name, part in self.optimizer.items()},
            "memory": {name: value.clone() for name, value in self.memory.items()},
            "first_bad": self.first_bad.clone(),
            "series": {name: values.clone() for name, values in self.series.items()},
            "step": self.step,
            "frames": list(self.frames),
            "parts": list(self.parts),
        }

    @classmethod
    def from_state(cls, rows: ReplicaBatch, state: State) -> Group:
        """Return a group that goes on from a copy: the checkpointer may have to write the stored state once more."""
        device = rows.device

        def copied(blocks: dict[str, Tensor]) -> Correlations:
            return Correlations(**blocks).map(lambda block: block.to(device, copy=True))

        return cls(
            rows,
            copied(state["correlations"]),
            {name: copied(blocks) for name, blocks in state["optimizer"].items()},
            {name: value.to(device, copy=True) for name, value in state["memory"].items()},
            state["first_bad"].to(device, copy=True),
            {name: values.cpu().clone() for name, values in state["series"].items()},
            state["step"],
            list(state["frames"]),
            list(state["parts"]),
        )

    def note_bad_values(self) -> None:
        """Remember, without waiting for the device, the first step after which a seed is not finite."""
        self.first_bad = noted_bad_values(self.correlations, self.first_bad, self.step)

    def diverged(self) -> dict[int, tuple[int, int]]:
        """Return for each cell that stopped being finite after which step it did, and for which seed."""
        found: dict[int, tuple[int, int]] = {}
        for (cell, seed), step in zip(self.rows.rows, self.first_bad.tolist(), strict=True):
            if step >= 0 and step < found.get(cell, (step + 1, seed))[0]:
                found[cell] = (step, seed)
        return found

    def without(self, cells: Container[int]) -> Group | None:
        """Return the group without the rows of some cells, None if none is left. The others keep their bits."""
        # by way of a state, which knows how to take rows of everything that has an axis of seeds
        places = [place for place, (cell, _) in enumerate(self.rows.rows) if cell not in cells]
        if not places:
            return None
        rows = ReplicaBatch(
            self.rows.cells, tuple(self.rows.rows[place] for place in places), self.rows.device
        )
        return Group.from_state(rows, rows_of_state(self.to_state(), places))


class Stepper(Protocol):
    """Whatever takes the steps of a group."""

    def advance(self, count: int) -> None:
        """Do ``count`` steps of descent; on a GPU they may only be under way when this returns."""
        ...


@dataclass
class EagerStepper:
    """Steps that the host takes one by one: draw, gradient, optimizer, what the objective remembers."""

    group: Group
    draw: Callable[[int], tuple[PatchBatch, Views]]
    workspaces: Workspaces

    def advance(self, count: int) -> None:
        """Do ``count`` steps."""
        group, objective, optimizer = self.group, self.group.rows.objective, self.group.rows.optimizer
        for _ in range(count):
            batch, views = self.draw(group.step)
            gradient, forward = loss_gradient(
                group.correlations, objective, batch, views, group.memory, self.workspaces
            )
            record_step(group.rows, group.correlations, gradient, forward, group.step, group.series)
            step_in_place(optimizer, group.correlations, gradient, group.optimizer, group.step)
            group.memory = next_state(objective, forward, group.correlations, group.step)
            group.step += 1
            group.note_bad_values()


@dataclass
class DeviceStepper:
    """Steps that a GPU takes without the host (``captured``)."""

    group: Group
    steps: CudaGraphStepper

    def advance(self, count: int) -> None:
        """Do ``count`` steps."""
        self.steps.advance(count)
        self.group.step += count


def stepper_of(group: Group, source: JointSource, workspaces: Workspaces) -> Stepper:
    """Return what takes a group's steps: a GPU without the host, else the host with data drawn where they are used."""
    rows, training = group.rows, group.rows.common
    fixed = training.dataset_size is not None
    # only what vitdyn itself draws is drawn on a device: a user's code for data or views runs on the host
    own = type(training.generator).sample is not PatchGenerator.sample
    if rows.device.type == "cpu" or fixed or own or not draws_views_jointly(training.objective):
        return EagerStepper(group, source.training, workspaces)
    batches = DeviceBatches(
        training.generator,
        rows.objective,
        rows.seeds,
        training.batch_size,
        PRECISIONS[training.precision],
        rows.device,
    )
    if group.series or not takes(training):  # a captured step stops for nobody
        return EagerStepper(group, batches.training, workspaces)
    steps = CudaGraphStepper(
        batches, rows.optimizer, group.correlations, group.optimizer, group.first_bad, step=group.step
    )
    return DeviceStepper(group, steps)
