"""From the recorded frames of groups of seeds to the Trajectory of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitdyn._axes import AREA, CLUSTER, FRAME, KEY, KEY_AREA, QUERY, SEED, STATISTIC, STATISTICS
from vitdyn.dynamics.checkpoint import State
from vitdyn.dynamics.grid import Row, Rows
from vitdyn.dynamics.training import Training
from vitdyn.observables import OBSERVABLES
from vitdyn.trajectory import SCHEMA, Trajectory, versions

FINAL_AXES = {
    "feature_position": (SEED, QUERY, CLUSTER, AREA),
    "position_position": (SEED, QUERY, KEY),
    "content_position": (SEED, CLUSTER, AREA, KEY),
    "content_content": (SEED, CLUSTER, AREA, KEY_AREA),
}


@dataclass(frozen=True)
class Recorded:
    """What groups of the same shapes recorded, joined: each array with its name, ``rows`` along the axis of seeds."""

    rows: tuple[Row, ...]
    frames: dict[str, np.ndarray]
    final: dict[str, np.ndarray]

    @classmethod
    def of(cls, groups: Sequence[tuple[Rows, State]]) -> Recorded:
        """Join the frames and the last correlations of groups."""
        states = [state for _, state in groups]

        def together(parts: Sequence[dict[str, Tensor]], name: str) -> Tensor:
            return torch.cat([part[name].cpu() for part in parts])

        frames = list(zip(*(state["frames"] for state in states), strict=True))
        return cls(
            tuple(row for rows, _ in groups for row in rows.rows),
            {name: torch.stack([together(frame, name) for frame in frames]).numpy() for name in frames[0][0]},
            {
                name: together([state["correlations"] for state in states], name).numpy()
                for name in states[0]["correlations"]
            },
        )

    def places(self, cell: int, seeds: Sequence[int]) -> list[int]:
        """Return where the seeds of a cell are."""
        place = {row: index for index, row in enumerate(self.rows)}
        return [place[cell, seed] for seed in seeds]


def assemble(
    recorded: Recorded,
    cell: int,
    training: Training,
    *,
    spec: str,
    device: str,
    seconds: float,
    keep_final_state: bool,
) -> Trajectory:
    """Take a cell's seeds from what its groups recorded, and label everything."""
    import xarray

    places, variables = recorded.places(cell, training.seed_numbers), {}
    for name, frames in recorded.frames.items():
        about = OBSERVABLES[name]
        attributes = {"symbol": about.symbol, "long_name": about.meaning}
        variables[name] = ((FRAME, *about.axes), frames[:, places], attributes)
    if keep_final_state:
        for name, values in recorded.final.items():
            meaning = f"{name} of every position at the end"
            attributes = {"symbol": OBSERVABLES[name].symbol, "long_name": meaning}
            variables[f"final_{name}"] = (FINAL_AXES[name], values[places], attributes)
    clock = np.array(training.schedule.recorded_steps(training.steps))
    time = clock * training.rule.learning_rate
    coordinates = {
        "step": (FRAME, clock, {"long_name": "steps of descent done"}),
        "time": (FRAME, time, {"symbol": "t", "long_name": "learning rate times step"}),
        SEED: (SEED, np.array(training.seed_numbers)),
        STATISTIC: (STATISTIC, list(STATISTICS)),
    }
    about_run = {
        "schema": SCHEMA,
        "spec": spec,
        "device": device,
        "seconds": seconds,
        "versions": versions("vitdyn", "torch", "numpy", "xarray"),
    }
    return Trajectory(xarray.Dataset(variables, coordinates, about_run))
