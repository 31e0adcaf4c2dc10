"""Trainings of small Vision Transformers in processes that run side by side, each result saved as it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from vitdyn._processes import number_of_workers, side_by_side
from vitdyn._progress import duration, progress
from vitdyn.dynamics import Runtime
from vitdyn.experiments.experiment import RESUMED, SMALL_VITS, Experiment, checkpoint_of, described
from vitdyn.vits import Landscape, estimate_seconds
from vitdyn.vits.cost import units


def train_all(experiments: Mapping[Path, Experiment], runtime: Runtime, workers: int | None) -> None:
    """Run experiments on small Vision Transformers and save each result at its path; say beforehand what it costs."""
    specs = {
        path: each.training for path, each in experiments.items() if isinstance(each.training, SMALL_VITS)
    }
    for spec in specs.values():
        # an extra that is not installed is named before any process starts
        (spec.training if isinstance(spec, Landscape) else spec).images.load()
    together = min(len(specs), number_of_workers(workers, on_gpu=runtime.place.type == "cuda"))
    if runtime.progress:
        seconds = estimate_seconds(list(specs.values()), workers=together)
        print(f"{len(specs)} trainings, about {duration(seconds)}, {together} at a time", flush=True)
    # the longest first: so no process is left alone with a long one at the end
    ordered = sorted(specs, key=lambda path: estimate_seconds([specs[path]]), reverse=True)
    work = partial(train_and_save, runtime=runtime)
    with progress(runtime.progress, sum(map(units, specs.values())), "step") as bar:
        side_by_side(work, [(path, experiments[path]) for path in ordered], together, bar)


def train_and_save(
    item: tuple[Path, Experiment], advance: Callable[[int], object], *, runtime: Runtime
) -> None:
    """Train a small Vision Transformer, or go on with it, and save its result at its path."""
    path, experiment = item
    checkpoint = checkpoint_of(path)
    work = RESUMED[type(experiment.training)]
    kept = replace(runtime, keep_checkpoint=True)
    trajectory = work(experiment.training, checkpoint=checkpoint, runtime=kept, advance=advance)
    described(trajectory, experiment).save(path)
    checkpoint.unlink(missing_ok=True)
