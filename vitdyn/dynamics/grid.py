"""Which seeds of which cells of a grid train as one batch, and by which path of the kernels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch

from vitdyn._specs import to_text
from vitdyn.dynamics.optimizers import Optimizer
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.dynamics.training import Training
from vitdyn.kernels import Plan, plan_for
from vitdyn.kernels.plan import capturable_backend
from vitdyn.models.model import CLOSED_FORMS
from vitdyn.objectives import MeanPooled, Objective, Residual
from vitdyn.objectives.contract import closed_form_kinds, draws_views_jointly, has_decay, has_state
from vitdyn.objectives.stacked import stack_key, stack_specs

Replica = tuple[int, int]
"""A cell's index in the grid, and one of its seeds."""


@dataclass(frozen=True)
class ReplicaBatch:
    """The seeds that train as one batch, each with the cell that it belongs to, and the grid of all cells."""

    cells: tuple[Training, ...]
    rows: tuple[Replica, ...]
    device: torch.device

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds; one comes as often as there are cells that have it."""
        return tuple(seed for _, seed in self.rows)

    @cached_property
    def trainings(self) -> tuple[Training, ...]:
        """The specification of each row."""
        return tuple(self.cells[cell] for cell, _ in self.rows)

    @property
    def common(self) -> Training:
        """A specification to read off what all rows share: shapes, steps, schedule, precision."""
        return self.trainings[0]

    @cached_property
    def objective(self) -> Objective:
        """The objective of all rows."""
        own = [training.objective for training in self.trainings]
        return stack_specs(own) if self._stacked else own[0]

    @cached_property
    def optimizer(self) -> Optimizer:
        """The optimizer of all rows."""
        optimizers = {cell: self.cells[cell].resolved_optimizer for cell, _ in self.rows}
        own = [optimizers[cell] for cell, _ in self.rows]
        return stack_specs(own) if self._stacked else own[0]

    @cached_property
    def observed(self) -> list[tuple[ReplicaBatch, slice]]:
        """The rows that a frame takes at once, and their places: on CPU all.

        On GPUs those of each cell, which lie side by side there: sums of torch depend on how many seeds there are.
        """
        starts = [row for row in range(1, len(self.rows)) if self.rows[row][0] != self.rows[row - 1][0]]
        if self.device.type == "cpu" or not starts:
            return [(self, slice(0, len(self.rows)))]
        spans = [slice(start, stop) for start, stop in pairwise([0, *starts, len(self.rows)])]
        return [(ReplicaBatch(self.cells, self.rows[span], self.device), span) for span in spans]

    @property
    def _stacked(self) -> bool:
        # also where one cell is alone, so that its arithmetic is that of a grid
        return batch_key(self.common, self.device) is not None


def batch_key(training: Training, device: torch.device) -> Hashable | None:
    """Return what cells must share to train in one batch; None for a cell that trains by itself.

    A cell joins others only where that changes none of its bits: with fresh samples, queries by position, and an
    objective and an optimizer that can both be stacked (``stack_key``), on CPU by the compiled kernels. On CUDA that
    holds of the fused steps of a residual alone (``captured``), with one distribution of the latents: whatever else
    runs there, contrast after the fused forward too, has sums of torch in it, whose order depends on how many seeds
    there are.
    """
    objective, optimizer, layout = training.objective, training.resolved_optimizer, training.generator.layout
    dtype, distribution = PRECISIONS[training.precision], None
    keys = stack_key(objective), stack_key(optimizer)
    if not is_layer(training):  # sums of torch depend on how many seeds there are
        return None
    if None in keys or not draws_views_jointly(objective):
        return None
    if device.type == "cpu":
        plain = not training.content_queries and training.dataset_size is None
        apart = plain and plan_of(training, device.type).is_seed_independent
    else:
        apart = is_capturable(training) and capturable_backend(layout, device, dtype) is not None
        distribution = to_text(training.generator.latents)
    if not apart:
        return None
    # frames are taken of all rows at once, so that recorded steps and observables are shared too
    recorded = training.schedule.recorded_steps(training.steps)
    counts = (training.batch_size, training.evaluation_samples, training.precision)
    return layout, distribution, keys, recorded, counts, training.observables


def is_layer(training: Training) -> bool:
    """Return whether the theory's layer is trained, by its kernels; any other model by autograd of its outputs."""
    return CLOSED_FORMS in training.trained_model.offers


def engine_of(training: Training, device: str) -> str:
    """Return in words what computes a training's gradient."""
    if is_layer(training):
        return plan_of(training, device).name
    by = torch.backends.cpu.get_cpu_capability() if device == "cpu" else device
    return f"{training.trained_model.describe()}, torch {by}"


def is_capturable(training: Training) -> bool:
    """Return whether ``captured`` trains a cell: one residual, fresh samples, queries by position, our optimizer."""
    objective, generator = training.objective, training.generator
    if training.content_queries or training.dataset_size is not None or not is_layer(training):
        return False
    if generator.departures or not (generator.draws_as_written and draws_views_jointly(objective)):
        return False
    if stack_key(objective) is None or stack_key(training.resolved_optimizer) is None:
        return False
    bare = not has_decay(objective) and not has_state(objective)
    return bare and closed_form_kinds(objective, generator.layout) == {Residual}


def batches_of_cells(cells: Sequence[Training], device: torch.device) -> list[tuple[int, ...]]:
    """Return which cells train together, by their indices."""
    found: dict[Hashable, list[int]] = {}
    for index, training in enumerate(cells):
        key = batch_key(training, device)
        found.setdefault(("alone", index) if key is None else key, []).append(index)
    return [tuple(together) for together in found.values()]


def plan_of(training: Training, device: str) -> Plan:
    """Return the plan of the gradient of a training of the theory's layer on a kind of device."""
    layout = training.generator.layout
    kinds = closed_form_kinds(training.objective, layout)
    return plan_for(
        layout,
        device,
        PRECISIONS[training.precision],
        content_queries=training.content_queries,
        residual=Residual in kinds,
        mean_pooled=MeanPooled in kinds,
    )
