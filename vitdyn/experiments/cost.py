"""What a run will cost: memory, and time by a formula whose constants ``make bench`` measures (``cost.json``)."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vitdyn._errors import invalid_value, require_kind
from vitdyn.dynamics import Runtime, Training
from vitdyn.dynamics.grid import ReplicaBatch, is_layer
from vitdyn.dynamics.memory import (
    concurrent_groups,
    correlation_count,
    default_limit,
    estimate_memory,
    kept_memory,
    optimizer_arrays,
    require_memory,
    split_cells,
)
from vitdyn.experiments.experiment import Experiment
from vitdyn.objectives import MeanPooled, Residual
from vitdyn.objectives.contract import closed_form_kinds

TABLE = Path(__file__).with_name("cost.json")
"""Seconds for each unit of ``work``, with the machine that they were measured on and how long its ``pulse`` took."""


class Cost(NamedTuple):
    """Seconds of a run on this machine, and MiB of memory beyond what the program takes at rest.

    ``seconds`` is None on a GPU, and for a model other than the theory's layer: nobody has measured the constants.
    """

    seconds: float | None
    mebibytes: float


def estimate_cost(experiment: Experiment, *, device: str = "auto") -> Cost:
    """Return what a run will take here, at once and without running anything.

    Meant to be right within a factor of two on a machine that does nothing else. What a first run compiles and metrics
    are not counted.

    Raises ``ValueError`` for a run that needs more memory than there is, and for a mean-field run.
    """
    require_kind("experiment", experiment, Experiment)
    training = experiment.training
    if not isinstance(training, Training):
        raise invalid_value(
            "experiment", experiment.name, "only full simulations are timed; a reduced run takes seconds"
        )
    where = Runtime(device=device).place
    require_memory((training,), where)
    groups = split_cells((training,), where, default_limit(where))
    together = sum(len(group.rows) for group in groups[: concurrent_groups(groups)])
    one = estimate_memory(training, where.type)
    memory = max(together * one, kept_memory(training) + one)
    return Cost(estimate_seconds(groups), memory / 2**20)


def estimate_seconds(groups: Sequence[ReplicaBatch]) -> float | None:
    """Return the seconds that groups of seeds take here: the work of all, shared by the cores; None where unknown."""
    if groups[0].device.type != "cpu" or not all(is_layer(group.common) for group in groups):
        return None
    table = json.loads(TABLE.read_text())
    units = sum((work(group) for group in groups), Counter())
    seconds = sum(table["seconds"][name] * count for name, count in units.items())
    rounds = ceil(len(groups) / concurrent_groups(list(groups)))
    return pulse() / table["pulse"] * seconds * rounds / len(groups)


def work(group: ReplicaBatch) -> Counter[str]:
    """Return how many units of each kind of work a group does.

    A group of S seeds, B samples, P queries and N areas takes V views through attention at each step: one for a
    residual, each of its own for a loss of pooled outputs. Each view has an overhead, and for each seed B P masks,
    B P N pairs of query and area and B P² pairs of query and key. A step moves all correlations, once more for each
    array of the optimizer. A frame has an overhead, the correlations, and the pairs of query and area of its samples.
    Float64 counts twice. Content queries, and losses without a closed form, have units of their own.

    A model beyond the layer has an overhead for each view and layer, and works on the numbers that it keeps.
    """
    training, layout = group.common, group.common.generator.layout
    frames = len(training.schedule.recorded_steps(training.steps))
    width = len(group.rows) * (2 if training.precision == "float64" else 1)
    numbers = correlation_count(training)
    moved = width * training.steps * numbers * (1 + optimizer_arrays(training))
    common = Counter(
        {"run": 1, "correlation": moved, "frame": frames, "frame: correlation": width * frames * numbers}
    )
    if not is_layer(training):
        model, views = training.trained_model, training.objective.view_count
        sizes = layout.patches, training.generator.feature_count
        kept = model.stored_numbers(*sizes, training.batch_size, views)
        seen = model.stored_numbers(*sizes, training.evaluation_samples, 0)
        return common + Counter(
            {
                "model: layer": training.steps * views * model.layers,
                "model: number": width * training.steps * kept,
                "frame: number of a model": width * frames * seen,
            }
        )
    kinds = closed_form_kinds(training.objective, layout)
    views = (Residual in kinds) + (MeanPooled in kinds or not kinds) * training.objective.view_count
    path = "content" if training.content_queries else "closed form" if kinds else "autograd"
    queries = width * layout.patches
    drawn = queries * training.steps * views * training.batch_size
    return common + Counter(
        {
            f"{path}: view": training.steps * views,
            f"{path}: query": drawn,
            f"{path}: query and area": drawn * layout.areas,
            f"{path}: query and key": drawn * layout.patches * (layout.areas if path == "content" else 1),
            "frame: query and area": queries * frames * views * training.evaluation_samples * layout.areas,
        }
    )


@cache
def pulse() -> float:
    """Return the seconds of a little work of both kinds that a run is made of, of the interpreter and of vectors."""
    numbers, times = np.linspace(-1, 1, 2**12, dtype=np.float32), []
    for _ in range(100):
        began = time.perf_counter()
        for _ in range(60):
            torch.empty(0)
        np.exp(np.exp(numbers)).sum()
        times.append(time.perf_counter() - began)
    return min(times)  # so short a piece of work is, once in a hundred times, interrupted by nobody
