"""A folder of results: each experiment is run once and found again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitdyn._errors import wrong
from vitdyn.experiments.experiment import Experiment, run
from vitdyn.trajectory import Trajectory


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
        """Return the experiment's trajectory, from its file if it is there."""
        path = self.path(experiment)
        if path.is_file():
            return Trajectory.load(path)
        if self.redraw:
            raise wrong("redraw", str(path), "no such result: run without --redraw first")
        return run(experiment, out=path, device=self.device, progress=self.progress)
