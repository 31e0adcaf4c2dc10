"""From the recorded frames of groups of seeds to the Trajectory of each cell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitdyn._axes import AREA, CLUSTER, KEY, KEY_AREA, QUERY, SEED
from vitdyn.dynamics.checkpoint import State
from vitdyn.dynamics.grid import Replica, is_layer
from vitdyn.dynamics.training import Training
from vitdyn.observables.labels import labelled_trajectory
from vitdyn.trajectory import Trajectory

FINAL = {
    "feature_position": ((SEED, QUERY, CLUSTER, AREA), "Φ"),
    "position_position": ((SEED, QUERY, KEY), "Υ"),
    "content_position": ((SEED, CLUSTER, AREA, KEY), "Ψ"),
    "content_content": ((SEED, CLUSTER, AREA, KEY_AREA), "Ξ"),
}
"""Axes and symbol of each block of Q, as the last state is kept."""


@dataclass(frozen=True)
class Recorded:
    """What groups of the same shapes recorded, joined: each array with its name, ``rows`` along the axis of seeds.

    ``parts`` has (first step, engine, machine) of each stretch of a row's steps.
    """

    rows: tuple[Replica, ...]
    frames: dict[str, np.ndarray]
    series: dict[str, np.ndarray]
    final: dict[str, np.ndarray]
    parts: dict[Replica, list[tuple[int, str, str]]]

    @classmethod
    def of(cls, groups: Sequence[tuple[tuple[Replica, ...], State]]) -> Recorded:
        """Join the frames, the series and the last correlations of groups."""
        states = [state for _, state in groups]

        def together(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
            return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}

        frames = [together(each) for each in zip(*(state["frames"] for state in states), strict=True)]
        series, final = (together([state[kind] for state in states]) for kind in ("series", "correlations"))
        return cls(
            tuple(row for rows, _ in groups for row in rows),
            {name: torch.stack([frame[name] for frame in frames]).numpy() for name in frames[0]},
            {name: values.numpy() for name, values in series.items()},
            {name: values.numpy() for name, values in final.items()},
            {row: state["parts"] for rows, state in groups for row in rows},
        )


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
    # only here are rows told apart: cells of the same groups share all arrays
    place = {row: index for index, row in enumerate(recorded.rows)}
    places, final = [place[cell, seed] for seed in training.seed_numbers], {}
    values = {name: frames[:, places] for name, frames in recorded.frames.items()}
    values |= {name: series[places] for name, series in recorded.series.items()}
    for name, block in recorded.final.items() if keep_final_state else ():
        axes, symbol = _final_axes(name, block, training)
        meaning = f"{name} of every position at the end" if symbol else f"{name} at the end"
        final[f"final_{name}"] = (axes, block[places], {"symbol": symbol, "long_name": meaning})
    steps = np.array(training.schedule.recorded_steps(training.steps))
    made_by = _made_by([recorded.parts[cell, seed] for seed in training.seed_numbers], training)
    return labelled_trajectory(
        training.recorded,
        values,
        steps=steps,
        times=steps * training.resolved_optimizer.learning_rate,
        seeds=training.seed_numbers,
        others=final,
        attributes={"spec": spec, "device": device, "seconds": seconds, **made_by},
    )


def _final_axes(name: str, block: np.ndarray, training: Training) -> tuple[tuple[str, ...], str]:
    """Return axes and symbol of a block of Q; of another model's tensor axes that are numbered."""
    if is_layer(training):
        return FINAL[name]
    return (SEED, *(f"{name}_{axis}" for axis in range(1, block.ndim))), ""


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
