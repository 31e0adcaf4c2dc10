"""From the recorded frames of all groups of seeds to one Trajectory."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import torch

from vitdyn._axes import AREA, CLUSTER, FRAME, KEY, KEY_AREA, QUERY, SEED, STATISTIC, STATISTICS
from vitdyn.dynamics.checkpoint import State
from vitdyn.observables import OBSERVABLES
from vitdyn.trajectory import SCHEMA, Trajectory

FINAL_AXES = {
    "feature_position": (SEED, QUERY, CLUSTER, AREA),
    "position_position": (SEED, QUERY, KEY),
    "content_position": (SEED, CLUSTER, AREA, KEY),
    "content_content": (SEED, CLUSTER, AREA, KEY_AREA),
}


def assemble(
    groups: list[State],
    *,
    steps: tuple[int, ...],
    learning_rate: float,
    seeds: tuple[int, ...],
    spec: str,
    device: str,
    seconds: float,
    keep_final_state: bool,
) -> Trajectory:
    """Join the groups along the seed axis and label everything."""
    import xarray

    variables = {}
    for name in groups[0]["frames"][0]:
        about = OBSERVABLES[name]
        frames = [
            torch.cat([group["frames"][index][name] for group in groups]) for index in range(len(steps))
        ]
        attributes = {"symbol": about.symbol, "long_name": about.meaning}
        variables[name] = ((FRAME, *about.axes), torch.stack(frames).numpy(), attributes)
    if keep_final_state:
        for name in groups[0]["correlations"]:
            attributes = {
                "symbol": OBSERVABLES[name].symbol,
                "long_name": f"{name} of every position at the end",
            }
            values = torch.cat([group["correlations"][name].cpu() for group in groups]).numpy()
            variables[f"final_{name}"] = (FINAL_AXES[name], values, attributes)
    clock = np.array(steps)
    coordinates = {
        "step": (FRAME, clock, {"long_name": "steps of descent done"}),
        "time": (FRAME, clock * learning_rate, {"symbol": "t", "long_name": "learning rate times step"}),
        SEED: (SEED, np.array(seeds)),
        STATISTIC: (STATISTIC, list(STATISTICS)),
    }
    about_run = {
        "schema": SCHEMA,
        "spec": spec,
        "device": device,
        "seconds": seconds,
        "versions": " ".join(f"{name}={version(name)}" for name in ("vitdyn", "torch", "numpy", "xarray")),
    }
    return Trajectory(xarray.Dataset(variables, coordinates, about_run))
