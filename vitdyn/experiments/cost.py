"""What a run will cost: time, measured on its own first steps, and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import NamedTuple

from vitdyn._errors import require_kind, wrong
from vitdyn.dynamics import Runtime, Schedule, Training, estimate_memory, simulate
from vitdyn.dynamics.memory import concurrent_groups, default_limit, kept_memory, require_memory, split_cells
from vitdyn.experiments.experiment import Experiment

_TRIAL_SECONDS, _TRIAL_FRAMES = 0.4, 4
_TRIAL_WORK = 2**28
"""P² · samples · seeds of a step that takes some tenths of a second."""


class Cost(NamedTuple):
    """Seconds of a run on this machine, and MiB of memory beyond what the program takes at rest."""

    seconds: float
    mebibytes: float


def estimate_cost(experiment: Experiment, *, device: str = "auto") -> Cost:
    """Return what a run will take here, from a trial of its first steps by the seeds that train at the same time.

    Meant to be right within 30 % on a machine that does nothing else. The trial itself takes about two seconds, longer
    where a few steps do; a first one also compiles. Steps of more than ``_TRIAL_WORK`` multiplications are tried with
    fewer samples: that foretells hours, roughly and too high rather than too low, without spending them.

    Raises ``ValueError`` for a run that needs more memory than there is, and for a mean-field run.
    """
    training = _simulation(experiment)
    runtime = Runtime(device=device, keep_final_state=False)
    where = runtime.place
    require_memory((training,), where)
    groups = split_cells((training,), where, default_limit(where))
    workers = concurrent_groups(groups)
    together = tuple(seed for group in groups[:workers] for seed in group.seeds)
    work = training.generator.layout.patches**2 * training.samples * len(together)
    samples = min(training.samples, max(2, training.samples * _TRIAL_WORK // work))

    def seconds(steps: int, frames: int = 0) -> float:
        schedule = Schedule(spacing="explicit", steps=tuple(range(1, 1 + frames)))
        trial = replace(training, steps=steps, samples=samples, seeds=together, schedule=schedule)
        return simulate(trial, runtime=runtime).dataset.attrs["seconds"]

    few_samples = samples < training.samples
    start, step, frame = (_long_steps if few_samples else _short_steps)(seconds)
    step *= training.samples / samples
    recorded = len(training.schedule.recorded_steps(training.steps))
    rounds = ceil(len(groups) / workers)
    one = estimate_memory(training, where.type)
    memory = max(len(together) * one, kept_memory(training) + one)
    return Cost(start + rounds * (training.steps * step + recorded * frame), memory / 2**20)


def _simulation(experiment: Experiment) -> Training:
    require_kind("experiment", experiment, Experiment)
    if not isinstance(experiment.training, Training):
        raise wrong(
            "experiment", experiment.name, "only full simulations are timed; a mean-field run takes a second"
        )
    return experiment.training


def _short_steps(seconds: Callable[..., float]) -> tuple[float, float, float]:
    """Return the seconds of a start, a step and a frame: from as many steps as fill the time of a trial."""
    seconds(2)
    start, few = seconds(0), seconds(8)
    steps = min(max(8, int(8 * _TRIAL_SECONDS / max(few - start, 1e-3))), 1024)
    many = seconds(steps)
    frame = max(seconds(8, _TRIAL_FRAMES) - few, 0.0) / _TRIAL_FRAMES
    return max(start - frame, 0.0), max(many - start - frame, 0.0) / steps, frame


def _long_steps(seconds: Callable[..., float]) -> tuple[float, float, float]:
    """Return the same from two runs, where a step takes long: of no step (a frame) and of one (two frames)."""
    start, one = seconds(0), seconds(1)
    return 0.0, max(one - 2 * start, (one - start) / 2, 0.0), start
