"""From the recorded frames of groups of seeds to the Trajectory of each cell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitdyn._axes import AREA, CLUSTER, FRAME, KEY, KEY_AREA, QUERY, SEED, STATISTIC, STATISTICS
from vitdyn.dynamics.checkpoint import State
from vitdyn.dynamics.grid import Row
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
    """What groups of the same shapes recorded, joined: each array with its name, ``rows`` along the axis of seeds.

    ``parts`` says of each row from which step on which engine and machine did its steps.
    """

    rows: tuple[Row, ...]
    frames: dict[str, np.ndarray]
    final: dict[str, np.ndarray]
    parts: dict[Row, list[tuple[int, str, str]]]

    @classmethod
    def of(cls, groups: Sequence[tuple[tuple[Row, ...], State]]) -> Recorded:
        """Join the frames and the last correlations of groups."""
        states = [state for _, state in groups]

        def together(parts: Sequence[dict[str, Tensor]], name: str) -> Tensor:
            return torch.cat([part[name].cpu() for part in parts])

        frames = list(zip(*(state["frames"] for state in states), strict=True))
        return cls(
            tuple(row for rows, _ in groups for row in rows),
            {name: torch.stack([together(frame, name) for frame in frames]).numpy() for name in frames[0][0]},
            {
                name: together([state["correlations"] for state in states], name).numpy()
                for name in states[0]["correlations"]
            },
            {row: state["parts"] for rows, state in groups for row in rows},
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
        **_made_by([recorded.parts[cell, seed] for seed in training.seed_numbers], training),
        "seconds": seconds,
        "versions": versions("vitdyn", "torch", "numpy", "xarray"),
    }
    return Trajectory(xarray.Dataset(variables, coordinates, about_run))


def _made_by(parts: Sequence[Sequence[tuple[int, str, str]]], training: Training) -> dict[str, str]:
    """Return engine, machine, and which seeds' steps were done by which, for the parts of each seed.

    A run that goes on from a checkpoint on another kind of processor has bits of two kinds: they differ by round-off.
    """
    seeds: dict[tuple[tuple[int, int, str, str], ...], list[int]] = {}
    for seed, own in zip(training.seed_numbers, parts, strict=True):
        ends = [*(begin for begin, _, _ in own[1:]), training.steps]
        spans = tuple((begin, end, by, on) for (begin, by, on), end in zip(own, ends, strict=True))
        seeds.setdefault(spans, []).append(seed)
    told = [
        {"engine": engine, "machine": machine, "steps": [begin, end], "seeds": own}
        for spans, own in seeds.items()
        for begin, end, engine, machine in spans
    ]
    named = {
        name: "; ".join(dict.fromkeys(str(part[name]) for part in told)) for name in ("engine", "machine")
    }
    return {**named, "parts": json.dumps(told)}
