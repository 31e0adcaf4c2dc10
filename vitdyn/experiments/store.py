"""A folder of results: each experiment is run once and found again."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from vitdyn._errors import as_path, as_tuple, require_boolean, require_kind, wrong
from vitdyn.dynamics import DivergenceError, Runtime, Training, simulate_grid
from vitdyn.experiments.experiment import Experiment, checkpoint_of, described, run
from vitdyn.experiments.identity import require_result_of, why_outdated
from vitdyn.trajectory import Trajectory, require_writable

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class ResultStore:
    """Results in ``folder``, one file for each experiment, named after it and its key.

    Called with an experiment it returns the stored trajectory, or runs the experiment and stores it; with ``redraw`` it
    never runs anything. A result or checkpoint that cannot be believed (damaged, of another experiment) is an error,
    or made again where ``runtime`` says ``anew``.

    >>> sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=0.3)
    >>> experiment = vd.Experiment(name="limit", training=vd.MeanField(sizes=sizes))
    >>> store = vd.ResultStore("results")
    >>> first, again = store(experiment), store(experiment)  # run, and read from its file
    >>> first.dataset.equals(again.dataset)
    True
    """

    folder: Path
    redraw: bool = False
    runtime: Runtime = Runtime()

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", as_path("folder", self.folder))
        require_boolean("redraw", self.redraw)
        require_kind("runtime", self.runtime, Runtime)

    def path(self, experiment: Experiment) -> Path:
        """Return the file of an experiment's result."""
        require_kind("experiment", experiment, Experiment)
        return self.folder / f"{experiment.name}-{experiment.key}.nc"

    def __call__(self, experiment: Experiment) -> Trajectory:
        """Return the experiment's trajectory, from its file if it is there.

        An experiment that is ``unnamed`` is run each time, with a warning.
        """
        require_kind("experiment", experiment, Experiment)
        out = None if (reason := experiment.unnamed) else self.path(experiment)
        if reason:
            warnings.warn(f"{experiment.name} is run, and its result is not kept: {reason}", stacklevel=2)
        elif (found := self._found(experiment)) is not None:
            return found
        elif self.redraw:
            raise wrong("redraw", str(out), "no such result: run without --redraw first")
        return run(experiment, out=out, runtime=self.runtime)

    def all(self, experiments: Iterable[Experiment]) -> tuple[Trajectory, ...]:
        """Return the trajectories of several experiments in order; missing simulations run as one grid.

        The state of each is kept beside its result until that is saved: interrupted, each goes on, alone or in whatever
        grid it is asked for. Where some diverge, the results of all others are saved before ``DivergenceError``.
        """
        asked = as_tuple("experiments", experiments, Experiment)
        chosen = [(None if each.unnamed else self.path(each), each) for each in asked]
        named = {path: each for path, each in chosen if path is not None}
        kept = {path: self._found(each) for path, each in named.items()}
        missing = {
            each.key: each
            for path, each in named.items()
            if kept[path] is None and isinstance(each.training, Training)
        }
        if len(missing) > 1 and not self.redraw:
            self._simulate(tuple(missing.values()))
        return tuple((kept[path] if path else None) or self(each) for path, each in chosen)

    def named(self, experiments: Mapping[Name, Experiment]) -> dict[Name, Trajectory]:
        """Return the trajectories of experiments, by whatever these go by; missing ones run as in ``all``."""
        require_kind("experiments", experiments, Mapping)
        return dict(zip(experiments, self.all(experiments.values()), strict=True))

    def _found(self, experiment: Experiment) -> Trajectory | None:
        """Return the stored result, None where there is none of today's formulas.

        Raises ``ValueError`` for a file that cannot be believed, and with ``redraw`` for an outdated one.
        """
        path = self.path(experiment)
        if not path.is_file():
            return None
        try:
            found = Trajectory.load(path)
            require_result_of(experiment.training, found, path)
        except ValueError as error:
            if self.redraw or not self.runtime.anew:
                raise
            warnings.warn(f"{error}: it is made anew", stacklevel=3)
            return None
        outdated = why_outdated(found)
        if outdated is None:
            checkpoint_of(path).unlink(
                missing_ok=True
            )  # of a process that was killed once it had saved the result
            return found
        if self.redraw:
            raise wrong("redraw", str(path), f"{outdated}: run without --redraw")
        warnings.warn(f"{path.name} {outdated}: it is made anew", stacklevel=3)
        return None

    def _simulate(self, experiments: tuple[Experiment, ...]) -> None:
        paths = [self.path(each) for each in experiments]
        for path in paths:
            require_writable(path)
        lost: DivergenceError | None = None
        trajectories: Sequence[Trajectory | None]
        try:
            trajectories = simulate_grid(
                [each.training for each in experiments if isinstance(each.training, Training)],
                checkpoint=[checkpoint_of(path) for path in paths],
                runtime=replace(self.runtime, keep_checkpoint=True),
            )
        except DivergenceError as error:
            lost, trajectories = error, error.trajectories
        for path, each, trajectory in zip(paths, experiments, trajectories, strict=True):
            if trajectory is not None:
                described(trajectory, each).save(path)
                checkpoint_of(path).unlink(missing_ok=True)
        if lost is not None:
            raise DivergenceError(lost.lost, [each.name for each in experiments], trajectories) from lost
