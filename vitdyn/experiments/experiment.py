"""A named, frozen description of one run, and the verb that runs it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from vitdyn._errors import as_path, as_tuple, invalid_value, require_callable, require_kind
from vitdyn._files import require_writable
from vitdyn._notebook import html_table
from vitdyn._specs import from_text, to_text
from vitdyn.data import DISTRIBUTIONS, AreaSizes, Custom, PatchGenerator, PatchLayout
from vitdyn.dynamics import OPTIMIZERS, Runtime, Schedule, Training, simulate
from vitdyn.experiments.identity import key_or_reason
from vitdyn.models import MODELS
from vitdyn.objectives import OBJECTIVES
from vitdyn.observables import DepthMetric, Metric, MetricImages, Observable
from vitdyn.reduced import ExactReduction, MeanField, descend, integrate
from vitdyn.trajectory import FORMULAS, Trajectory
from vitdyn.vits import Landscape, Pretraining, pretrain, survey

RESUMED: dict[type, Callable[..., Trajectory]] = {
    Training: simulate,
    Pretraining: pretrain,
    Landscape: survey,
}
"""What runs a specification and goes on from a checkpoint, by the specification's kind."""

BRIEF: dict[type, Callable[..., Trajectory]] = {MeanField: integrate, ExactReduction: descend}
"""What runs a specification in seconds, and starts anew where it was interrupted."""

SMALL_VITS = (Pretraining, Landscape)
"""Kinds of specifications that train one small Vision Transformer, in a process of its own."""

SPEC_KINDS = (
    PatchLayout,
    PatchGenerator,
    Custom,
    Schedule,
    Metric,
    DepthMetric,
    MetricImages,
    Observable,
    Training,
    AreaSizes,
    MeanField,
    ExactReduction,
    Landscape,
    *Pretraining.kinds(),
)
"""What an experiment is made of, besides objectives, models, distributions and optimizers: others may add to those."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run with a name: everything that decides its numbers, as JSON both ways.

    ``training`` is a simulation, a mean-field flow, an exact reduction to order parameters, the training of a small
    Vision Transformer on real images, or the landscape of a loss along such a training.

    Equal experiments have equal ``key``s, whatever their names, and experiments that can give different numbers have
    different ones: an objective or a distribution of the user's counts with all the code and values that it reaches.

    >>> sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=0.3)
    >>> experiment = vd.Experiment(name="limit", training=vd.MeanField(sizes=sizes))
    >>> vd.Experiment.from_json(experiment.to_json()) == experiment
    True
    """

    name: str
    training: Training | MeanField | ExactReduction | Pretraining | Landscape

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.+-]+", self.name):
            raise invalid_value("name", self.name, "must be made of letters, digits and . + - _")
        if not isinstance(self.training, kinds := (*RESUMED, *BRIEF)):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise invalid_value("training", self.training, f"must be a {names}")

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that stand for the training specification.

        Raises ``ValueError`` where nothing can stand for it (``unnamed``).
        """
        key, reason = key_or_reason(self.training)
        if reason:
            raise invalid_value("experiment", self.name, f"cannot be told from others: {reason}")
        return key

    @property
    def unnamed(self) -> str | None:
        """Why the experiment cannot be told from others of other numbers, None where it can.

        So it is where code of the user's depends on more than can be read off it, a random generator, say. Such an
        experiment runs; its result is not kept under a key, and it is not resumed.
        """
        return key_or_reason(self.training)[1]

    def to_json(self) -> str:
        """Return the experiment as one line of JSON."""
        return to_text(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: each field that is not as it is by default, and which the others are."""
        given = {field.name: getattr(self.training, field.name) for field in fields(self.training)}
        usual = [each.name for each in fields(self.training) if given[each.name] == each.default]
        rows = [("key", self.unnamed or self.key), ("kind", type(self.training).__name__)]
        rows += [(name, _in_words(value)) for name, value in given.items() if name not in usual]
        rows += [("as by default", ", ".join(usual))] if usual else []
        return html_table(f"experiment {self.name}", rows)

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Build an experiment from ``to_json``'s line. Raises ``ValueError`` for anything else."""
        return from_text("experiment", text, cls, spec_kinds())


def spec_kinds() -> tuple[type, ...]:
    """Return all that a specification is made of: what others registered, too."""
    tables = (DISTRIBUTIONS, OBJECTIVES, OPTIMIZERS, MODELS)
    return (*SPEC_KINDS, *(kind for table in tables for kind in table.values()))


def _in_words(value: Any) -> str:
    parts = value if isinstance(value, tuple) else (value,)
    return ", ".join(part.name if isinstance(part, Observable) else repr(part) for part in parts)


ROOT = 1000
"""Seeds of two root seeds lie so far apart: they never meet, so that what one gives is independent of the other."""


def reseeded(experiment: Experiment, seed: int) -> Experiment:
    """Return the experiment with every seed moved to those of the root seed ``seed``; flows have none."""
    return replace(experiment, training=_moved(experiment.training, ROOT * seed)) if seed else experiment


def _moved(training: Any, by: int) -> Any:
    """Return a specification with every seed greater by so much."""
    if isinstance(training, Landscape):
        return replace(training, training=_moved(training.training, by))
    if isinstance(training, Pretraining):
        return replace(training, seed=training.seed + by)
    if isinstance(training, MeanField):
        return training
    return replace(training, seeds=tuple(number + by for number in training.seed_numbers))


class Runner(Protocol):
    """Whatever turns an experiment into a trajectory: ``run``, a result store, a cluster.

    One that can do several better together has ``all`` too; call it by ``run_all``.
    """

    def __call__(self, experiment: Experiment, /) -> Trajectory:
        """Return the experiment's trajectory."""
        ...


def run_all(runner: Runner, experiments: Iterable[Experiment]) -> tuple[Trajectory, ...]:
    """Return the trajectories of experiments in order: together where the runner can, else one after the other."""
    require_callable("runner", runner)
    asked, together = as_tuple("experiments", experiments, Experiment), getattr(runner, "all", None)
    return together(asked) if together else tuple(runner(each) for each in asked)


def run(experiment: Experiment, *, out: str | Path | None = None, runtime: Runtime = Runtime()) -> Trajectory:
    """Run an experiment; with ``out`` (a file name) also save it there.

    Until it is saved, its state is kept beside ``out`` in a file of the same name that ends in ".checkpoint";
    an interrupted run goes on from there when it is started again. No state is kept of an experiment that is
    ``unnamed``, with a warning.

    >>> sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=0.3)
    >>> trajectory = vd.run(vd.Experiment(name="limit", training=vd.MeanField(sizes=sizes)), out="limit.nc")
    >>> trajectory.dataset.equals(vd.Trajectory.load("limit.nc").dataset)
    True
    """
    require_kind("experiment", experiment, Experiment)
    require_kind("runtime", runtime, Runtime)
    target = as_path("out", out) if out is not None else None
    checkpoint = checkpoint_of(target) if target else None
    if target:
        require_writable(target)
    if checkpoint and (reason := experiment.unnamed):
        warnings.warn(f"{experiment.name} is not resumed if it is interrupted: {reason}", stacklevel=2)
        checkpoint = None
    # The last state outlives the run: the result may still fail to be written.
    until_saved = replace(runtime, keep_checkpoint=True)
    kind = type(experiment.training)
    if kind in BRIEF:
        trajectory = BRIEF[kind](experiment.training, progress=runtime.progress)
    else:
        trajectory = RESUMED[kind](experiment.training, checkpoint=checkpoint, runtime=until_saved)
    trajectory = described(trajectory, experiment)
    if target:
        trajectory.save(target)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return trajectory


def checkpoint_of(result: Path) -> Path:
    """Return where a run's state is kept until its result is saved."""
    return result.with_name(result.name + ".checkpoint")


def described(trajectory: Trajectory, experiment: Experiment) -> Trajectory:
    """Return a trajectory that names the experiment it comes from, and by which formulas it was made."""
    about = {"experiment": experiment.to_json(), "formulas": FORMULAS}
    attributes = {**trajectory.dataset.attrs, **about}
    return replace(trajectory, dataset=trajectory.dataset.assign_attrs(attributes))
