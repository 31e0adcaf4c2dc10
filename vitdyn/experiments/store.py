"""A folder of results: each experiment is run once and found again."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from vitdyn._errors import as_path, as_tuple, invalid_value, require_boolean, require_integer, require_kind
from vitdyn._files import require_writable
from vitdyn.dynamics import DivergenceError, Runtime, Training, simulate_grid
from vitdyn.experiments.experiment import SMALL_VITS, Experiment, checkpoint_of, described, run
from vitdyn.experiments.identity import key_or_reason, require_result_of, why_outdated
from vitdyn.experiments.side_by_side import train_all
from vitdyn.reduced import MeanField, StalledFlowError, integrate_flows
from vitdyn.trajectory import Trajectory

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class ResultStore:
    """Results in ``folder``, one file for each experiment, named after it and its key.

    Called with an experiment it returns the stored trajectory, or runs the experiment and stores it; with ``redraw`` it
    never runs anything. A result or checkpoint that cannot be believed (damaged, of another experiment) is an error,
    or made again where ``runtime`` says ``anew``. ``workers`` processes train small Vision Transformers side by side
    (None: one to a core, at most four on a GPU).

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
    workers: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", as_path("folder", self.folder))
        require_boolean("redraw", self.redraw)
        require_kind("runtime", self.runtime, Runtime)
        if self.workers is not None:
            require_integer("workers", self.workers, at_least=1)

    def path(self, experiment: Experiment) -> Path:
        """Return the file of an experiment's result."""
        require_kind("experiment", experiment, Experiment)
        return self.place(experiment, experiment.key)

    def place(self, experiment: Experiment, key: str) -> Path:
        """Return the file of the experiment of a key; override it to arrange a folder otherwise."""
        return self.folder / f"{experiment.name}-{key}.nc"

    def __call__(self, experiment: Experiment) -> Trajectory:
        """Return the experiment's trajectory, from its file if it is there.

        An experiment that is ``unnamed`` is run each time, with a warning.
        """
        require_kind("experiment", experiment, Experiment)
        (trajectory,) = self.all((experiment,))
        return trajectory

    def all(self, experiments: Iterable[Experiment]) -> tuple[Trajectory, ...]:
        """Return the trajectories of several experiments in order.

        Missing simulations run as one grid, missing flows of the mean field in batches, and missing trainings of Vision
        Transformers in processes side by side.

        The state of each is kept beside its result until that is saved: interrupted, each goes on, alone or in whatever
        grid it is asked for. Where some diverge, the results of all others are saved before ``DivergenceError``; where
        flows stall, before the ``StalledFlowError`` of the first.
        """
        asked = as_tuple("experiments", experiments, Experiment)
        files = [self._file(each) for each in asked]
        named = {path: each for path, each in zip(files, asked, strict=True) if path is not None}
        kept = {path: self._found(each, path) for path, each in named.items()}
        missing = {path: each for path, each in named.items() if kept[path] is None}
        if missing and self.redraw:
            raise invalid_value(
                "redraw", str(next(iter(missing))), "no such result: run without --redraw first"
            )
        for kind, make in (
            (Training, self._simulate),
            (MeanField, self._integrate),
            (SMALL_VITS, self._train),
        ):
            alike = {path: each for path, each in missing.items() if isinstance(each.training, kind)}
            if len(alike) > 1:
                make(alike)
                kept |= {path: self._found(each, path) for path, each in alike.items()}
        for path, each in missing.items():
            kept[path] = kept[path] or run(each, out=path, runtime=self.runtime)
        return tuple(
            (kept[path] if path else None) or run(each, runtime=self.runtime)
            for path, each in zip(files, asked, strict=True)
        )

    def named(self, experiments: Mapping[Name, Experiment]) -> dict[Name, Trajectory]:
        """Return the trajectories of experiments, by whatever these go by; missing ones run as in ``all``."""
        require_kind("experiments", experiments, Mapping)
        return dict(zip(experiments, self.all(experiments.values()), strict=True))

    def _file(self, experiment: Experiment) -> Path | None:
        """Return the file of an experiment's result; warn where it has none, for want of a key."""
        key, reason = key_or_reason(experiment.training)
        if reason:
            words = f"{experiment.name} is run, and its result is not kept: {reason}"
            warnings.warn(words, stacklevel=4)
            return None
        return self.place(experiment, key)

    def _found(self, experiment: Experiment, path: Path) -> Trajectory | None:
        """Return the stored result, None where there is none of today's formulas.

        Raises ``ValueError`` for a file that cannot be believed, and with ``redraw`` for an outdated one.
        """
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
        outdated = why_outdated(found.dataset.attrs)
        if outdated is None:
            # of a process that was killed once it had saved the result
            checkpoint_of(path).unlink(missing_ok=True)
            return found
        if self.redraw:
            raise invalid_value("redraw", str(path), f"{outdated}: run without --redraw")
        warnings.warn(f"{path.name} {outdated}: it is made anew", stacklevel=3)
        return None

    def _simulate(self, experiments: Mapping[Path, Experiment]) -> None:
        """Run simulations as one grid, and save their results."""
        for path in experiments:
            require_writable(path)
        lost: DivergenceError | None = None
        trajectories: Sequence[Trajectory | None]
        try:
            trajectories = simulate_grid(
                [each.training for each in experiments.values() if isinstance(each.training, Training)],
                checkpoint=[checkpoint_of(path) for path in experiments],
                runtime=replace(self.runtime, keep_checkpoint=True),
            )
        except DivergenceError as error:
            lost, trajectories = error, error.trajectories
        for (path, each), trajectory in zip(experiments.items(), trajectories, strict=True):
            if trajectory is not None:
                described(trajectory, each).save(path)
                checkpoint_of(path).unlink(missing_ok=True)
        if lost is not None:
            names = [each.name for each in experiments.values()]
            raise DivergenceError(lost.lost, names, trajectories) from lost

    def _integrate(self, experiments: Mapping[Path, Experiment]) -> None:
        """Follow flows of the mean field together, and save their results; descents keep their bits one by one."""
        for path in experiments:
            require_writable(path)
        flows = {
            path: each.training
            for path, each in experiments.items()
            if isinstance(each.training, MeanField) and each.training.learning_rate is None
        }
        found = dict(zip(flows, integrate_flows(list(flows.values())), strict=True))
        for path, trajectory in found.items():
            if isinstance(trajectory, Trajectory):
                described(trajectory, experiments[path]).save(path)
        for trajectory in found.values():
            if isinstance(trajectory, StalledFlowError):
                raise trajectory

    def _train(self, experiments: Mapping[Path, Experiment]) -> None:
        for path in experiments:
            require_writable(path)
        train_all(experiments, self.runtime, self.workers)
