"""What a run will cost, measured on its own first steps."""

from __future__ import annotations

from dataclasses import replace

import torch

from vitdyn._errors import wrong
from vitdyn.dynamics import Schedule, Training, pick_device, simulate
from vitdyn.experiments.experiment import Experiment

_TRIAL_STEPS = 8


def estimate_seconds(experiment: Experiment, *, device: str = "auto") -> float:
    """Return about how many seconds a run will take here, from a trial of its first steps on one seed.

    The trial times a start, eight steps and two frames; seeds on CPU share the cores. Not exact: seeds that
    train together are a little cheaper than one alone, and other work on the machine counts.
    """
    training = experiment.training
    if not isinstance(training, Training):
        raise wrong(
            "experiment", experiment.name, "only full simulations are timed; a mean-field run takes a second"
        )
    once = replace(
        training, steps=_TRIAL_STEPS, seeds=training.seed_numbers[:1], schedule=Schedule(spacing="explicit")
    )
    frames = len(training.schedule.recorded_steps(training.steps))

    def seconds(trial: object) -> float:
        return simulate(trial, device=device, keep_final_state=False).dataset.attrs["seconds"]  # type: ignore[arg-type]

    seconds(replace(once, steps=0))
    frame = seconds(replace(once, steps=0))
    step = max(seconds(once) - 2 * frame, 0.0) / _TRIAL_STEPS
    seeds = len(training.seed_numbers)
    workers = min(seeds, torch.get_num_threads()) if pick_device(device).type == "cpu" else seeds
    return seeds / workers * (training.steps * step + frames * frame)
