"""Seeds that train together: their state, and the steps that change it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vitdyn.dynamics.checkpoint import State, rows_of_state
from vitdyn.dynamics.grid import ReplicaBatch
from vitdyn.dynamics.initial import first_parameters
from vitdyn.dynamics.optimizers import first_state
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.models import Parameters, as_parameters
from vitdyn.objectives import State as ObjectiveState
from vitdyn.objectives.contract import first_state as first_objective_state


@dataclass
class Group:
    """The state of the seeds that train together."""

    rows: ReplicaBatch
    correlations: Parameters
    optimizer: dict[str, Parameters]
    objective_state: ObjectiveState
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
            "objective_state": {name: value.clone() for name, value in self.objective_state.items()},
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

        def copied(blocks: dict[str, Tensor]) -> Parameters:
            count = rows.common.generator.feature_count
            return as_parameters(blocks, count).map(lambda block: block.to(device, copy=True))

        return cls(
            rows,
            copied(state["correlations"]),
            {name: copied(blocks) for name, blocks in state["optimizer"].items()},
            {name: value.to(device, copy=True) for name, value in state["objective_state"].items()},
            state["first_bad"].to(device, copy=True),
            {name: values.cpu().clone() for name, values in state["series"].items()},
            state["step"],
            list(state["frames"]),
            list(state["parts"]),
        )

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
        rows = replace(self.rows, rows=tuple(self.rows.rows[place] for place in places))
        return Group.from_state(rows, rows_of_state(self.to_state(), places))


def fresh_group(rows: ReplicaBatch, start: Parameters | None) -> Group:
    """Return seeds that train together before their first step."""
    training = rows.common
    correlations = first_parameters(training, rows.seeds, rows.device)
    if start is not None:
        places = [training.seed_numbers.index(seed) for seed in rows.seeds]
        correlations = correlations.map(
            lambda own, given: (
                given.detach()[places if len(given) > 1 else [0]].to(own).expand_as(own).clone()
            ),
            start,
        )
    unset = torch.full((len(rows.rows),), -1, device=rows.device)
    objective_state = first_objective_state(rows.objective, correlations, rows.seeds)
    optimizer, series = first_state(rows.optimizer, correlations), _empty_series(rows)
    return Group(rows, correlations, optimizer, objective_state, unset, series)


def _empty_series(rows: ReplicaBatch) -> dict[str, Tensor]:
    """Return arrays for what is recorded at each step: (seed, step, ...), NaN where the step is not done yet."""
    training, series = rows.common, {}
    for each in training.recorded:
        if each.each_step:
            seeds, *rest = each.shape(
                training.generator.layout, training.trained_model, len(rows.rows), training.batch_size
            )
            dtype = PRECISIONS[training.precision]
            series[each.name] = torch.full((seeds, training.steps, *rest), torch.nan, dtype=dtype)
    return series
