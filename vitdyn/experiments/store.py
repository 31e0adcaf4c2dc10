"""A folder of results: each experiment is run once and found again."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Hashable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vitdyn._errors import wrong
from vitdyn.dynamics import Training, simulate_grid
from vitdyn.experiments.experiment import Experiment, described, run
from vitdyn.experiments.identity import require_result_of, why_outdated
from vitdyn.trajectory import Trajectory, require_writable, writable_beside

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class ResultStore:
    """Results in ``folder``, one file for each experiment, named after it and its key.

    Called with an experiment it returns the stored trajectory, or runs the experiment and stores it; with
    ``redraw`` it never runs anything.
    """

    folder: Path
    device: str = "auto"
    progress: bool = False
    redraw: bool = False

    def path(self, experiment: Experiment) -> Path:
        """Return the file of an experiment's result."""
        return Path(self.folder) / f"{experiment.name}-{experiment.key}.nc"

    def __call__(self, experiment: Experiment) -> Trajectory:
        """Return the experiment's trajectory, from its file if it is there.

        An experiment that is ``unnamed`` is run each time, with a warning.
        """
        if reason := experiment.unnamed:
            warnings.warn(f"{experiment.name} is run, and its result is not kept: {reason}", stacklevel=2)
            return run(experiment, device=self.device, progress=self.progress)
        found, path = self._found(experiment), self.path(experiment)
        if found is not None:
            return found
        if self.redraw:
            raise wrong("redraw", str(path), "no such result: run without --redraw first")
        return run(experiment, out=path, device=self.device, progress=self.progress)

    def all(self, experiments: Iterable[Experiment]) -> tuple[Trajectory, ...]:
        """Return the trajectories of several experiments in order; missing simulations run as one grid.

        The grid's state is kept in the folder until all are saved; interrupted, it goes on when the same ones are asked
        for.
        """
        chosen = tuple(experiments)
        missing = {
            each.key: each
            for each in chosen
            if isinstance(each.training, Training) and not each.unnamed and self._found(each) is None
        }
        if len(missing) > 1 and not self.redraw:
            self._simulate(tuple(missing.values()))
        return tuple(self(each) for each in chosen)

    def _found(self, experiment: Experiment) -> Trajectory | None:
        """Return the stored result, None where there is none of today's formulas.

        Raises ``ValueError`` for a file that cannot be believed, and with ``redraw`` for an outdated one.
        """
        path = self.path(experiment)
        if not path.is_file():
            return None
        found = Trajectory.load(path)
        require_result_of(experiment.training, found, path)
        outdated = why_outdated(found)
        if outdated is None:
            return found
        if self.redraw:
            raise wrong("redraw", str(path), f"{outdated}: run without --redraw")
        warnings.warn(f"{path.name} {outdated}: it is made anew", stacklevel=3)
        return None

    def named(self, experiments: Mapping[Name, Experiment]) -> dict[Name, Trajectory]:
        """Return the trajectories of experiments, by whatever these go by; missing ones run as in ``all``."""
        return dict(zip(experiments, self.all(experiments.values()), strict=True))

    def _simulate(self, experiments: tuple[Experiment, ...]) -> None:
        for each in experiments:
            require_writable(self.path(each))
        name = hashlib.sha256(" ".join(each.key for each in experiments).encode()).hexdigest()[:16]
        checkpoint = Path(self.folder) / f"grid-{name}.checkpoint"
        trajectories = simulate_grid(
            [each.training for each in experiments if isinstance(each.training, Training)],
            device=self.device,
            progress=self.progress,
            checkpoint=checkpoint,
            keep_checkpoint=True,
        )
        with ExitStack() as files:  # all appear or none: a grid of what is then missing would be another one
            for each, trajectory in zip(experiments, trajectories, strict=True):
                described(trajectory, each).save(files.enter_context(writable_beside(self.path(each))))
        checkpoint.unlink(missing_ok=True)
