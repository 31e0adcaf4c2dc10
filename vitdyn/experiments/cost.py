"""What a run will cost: time, measured on its own first steps, and memory."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import NamedTuple

from vitdyn._errors import wrong
from vitdyn.dynamics import Schedule, Training, estimate_memory, pick_device, simulate
from vitdyn.dynamics.memory import all_side_by_side, default_limit, split_cells
from vitdyn.experiments.experiment import Experiment

_TRIAL_SECONDS, _TRIAL_FRAMES = 0.4, 4


class Cost(NamedTuple):
    """Seconds of a run on this machine, and MiB of memory beyond what the program takes at rest."""

    seconds: float
    mebibytes: float


def estimate_cost(experiment: Experiment, *, device: str = "auto") -> Cost:
    """Return what a run will take here, from a trial of its first steps by the seeds that train at the same time.

    Meant to be right within 30 % on a machine that does nothing else. The trial itself takes about two seconds, longer
    where a few steps do; a first one also compiles.
    """
    training = experiment.training
    if not isinstance(training, Training):
        raise wrong(
            "experiment", experiment.name, "only full simulations are timed; a mean-field run takes a second"
        )
    where = pick_device(device)
    groups = split_cells((training,), where, default_limit(where))
    workers = all_side_by_side(groups)
    together = tuple(seed for group in groups[:workers] for seed in group.seeds)

    def seconds(steps: int, frames: int = 0) -> float:
        schedule = Schedule(spacing="explicit", steps=tuple(range(1, 1 + frames)))
        trial = replace(training, steps=steps, seeds=together, schedule=schedule)
        return simulate(trial, device=device, keep_final_state=False).dataset.attrs["seconds"]

    seconds(2)
    start, few = seconds(0), seconds(8)
    steps = min(max(8, int(8 * _TRIAL_SECONDS / max(few - start, 1e-3))), 1024)
    many = seconds(steps)
    frame = max(seconds(8, _TRIAL_FRAMES) - few, 0.0) / _TRIAL_FRAMES
    step = max(many - start - frame, 0.0) / steps
    recorded = len(training.schedule.recorded_steps(training.steps))
    rounds = ceil(len(groups) / workers)
    total = max(start - frame, 0.0) + rounds * (training.steps * step + recorded * frame)
    return Cost(total, len(together) * estimate_memory(training, where.type) / 2**20)
