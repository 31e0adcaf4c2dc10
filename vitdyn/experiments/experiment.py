"""A named, frozen description of one run, and the verb that runs it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from vitdyn._errors import wrong
from vitdyn._specs import decode, to_text
from vitdyn.data import LAWS, AreaSizes, Custom, PatchGenerator, PatchLayout
from vitdyn.dynamics import DESCENTS, Schedule, Training, simulate
from vitdyn.lumped import MeanField, integrate
from vitdyn.objectives import OBJECTIVES
from vitdyn.observables import Metrics
from vitdyn.trajectory import Trajectory

SPEC_KINDS = (
    PatchLayout,
    PatchGenerator,
    Custom,
    Schedule,
    Metrics,
    Training,
    AreaSizes,
    MeanField,
    *LAWS.values(),
    *OBJECTIVES,
    *DESCENTS.values(),
)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run with a name, a simulation or a mean-field flow: everything that decides its numbers, as JSON both ways.

    Equal experiments have equal ``key``s, whatever their names.
    """

    name: str
    training: Training | MeanField

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.+-]+", self.name):
            raise wrong("name", self.name, "must be made of letters, digits and . + - _")
        if not isinstance(self.training, (Training, MeanField)):
            raise wrong("training", self.training, "must be a Training or a MeanField")

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that stand for the training specification."""
        return hashlib.sha256(to_text(self.training).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the experiment as one line of JSON."""
        return to_text(self)

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Build an experiment from ``to_json``'s line. Raises ``ValueError`` for anything else."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise wrong("experiment", text, f"must be JSON ({error})") from error
        made = decode(values, (cls, *SPEC_KINDS))
        if not isinstance(made, cls):
            raise wrong("experiment", text, "must describe an Experiment")
        return made


class Runner(Protocol):
    """Whatever turns an experiment into a trajectory: ``run``, a result store, a cluster.

    One that can do several better together has ``all`` too; call it by ``run_all``.
    """

    def __call__(self, experiment: Experiment, /) -> Trajectory:
        """Return the experiment's trajectory."""
        ...


def run_all(runner: Runner, experiments: Iterable[Experiment]) -> tuple[Trajectory, ...]:
    """Return the trajectories of experiments in order: together where the runner can, else one after the other."""
    together = getattr(runner, "all", None)
    return together(experiments) if together else tuple(runner(each) for each in experiments)


def run(
    experiment: Experiment,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    progress: bool = False,
    checkpoint_seconds: float = 10.0,
) -> Trajectory:
    """Run an experiment; with ``out`` (a file name) also save it there.

    Until it is saved, its state is kept beside ``out`` in a file of the same name that ends in ".checkpoint";
    an interrupted run goes on from there when it is started again.
    """
    target = Path(out) if out is not None else None
    checkpoint = target.with_name(target.name + ".checkpoint") if target else None
    if isinstance(
        experiment.training, MeanField
    ):  # a fraction of a second: nothing to show, nothing to resume
        trajectory = integrate(experiment.training)
    else:
        trajectory = simulate(
            experiment.training,
            device=device,
            progress=progress,
            checkpoint=checkpoint,
            checkpoint_seconds=checkpoint_seconds,
            keep_checkpoint=True,
        )
    trajectory = described(trajectory, experiment)
    if target and checkpoint:
        trajectory.save(target)
        checkpoint.unlink(missing_ok=True)
    return trajectory


def described(trajectory: Trajectory, experiment: Experiment) -> Trajectory:
    """Return a trajectory that names the experiment it comes from."""
    attributes = {**trajectory.dataset.attrs, "experiment": experiment.to_json()}
    return replace(trajectory, dataset=trajectory.dataset.assign_attrs(attributes))
