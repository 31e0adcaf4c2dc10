"""The families of objectives on one map: each objective on the same data, and what a table says of its run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vitdyn._errors import require_choice, require_real
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments.cost import estimate_cost
from vitdyn.experiments.experiment import Experiment
from vitdyn.objectives import OBJECTIVES, Objective
from vitdyn.observables import (
    RECORD,
    MetricImages,
    attention_moved,
    learned_regime,
    metric_observables,
)
from vitdyn.observables.learned import LearnedRegime
from vitdyn.trajectory import Trajectory

PATCHES, CLUSTERS, KAPPA_S = 64, 2, 0.4
STEPS = 400
SEEDS = 4
METRICS = ("mutual_information", "local_r_squared", "global_r_squared", "rank_me")
"""What is measured beside attention: how alike queries are, what a linear map finds in F, how many directions F has."""
_OBSERVED = (*RECORD, *metric_observables(METRICS, MetricImages(maps=4, objects=256, views=2)))


def objectives_by_name(names: Iterable[str] = ()) -> dict[str, Objective]:
    """Return the listed objectives, a user's own that are registered too, with the values that they have by default.

    All of them where none is named.
    """
    names = tuple(names)
    for name in names:
        require_choice("objectives", name, OBJECTIVES)
    return {name: kind() for name, kind in OBJECTIVES.items() if not names or name in names}


def layout_of_gap(gap: float) -> PatchLayout:
    """Return P = 64 with local areas of P^0.4 patches and the global area that gives the information gap Δ.

    Δ = (1 − κ_s) − 2(1 − κ_c),   so that   κ_c = 1 − (1 − κ_s − Δ)/2
    """
    require_real("gap", gap, low=-0.399, high=1 - KAPPA_S)
    return PatchLayout.from_exponents(PATCHES, 1 - (1 - KAPPA_S - gap) / 2, KAPPA_S, clusters=CLUSTERS)


def family_run(
    objective: Objective,
    gap: float,
    *,
    name: str | None = None,
    steps: int = STEPS,
    seeds: int | tuple[int, ...] = SEEDS,
    pace: float = 1.0,
) -> Experiment:
    """Return the run of an objective at a gap, by gradient descent at ``pace`` times its own learning rate."""
    layout = layout_of_gap(gap)
    optimizer = GradientDescent(learning_rate=pace * objective.default_learning_rate(layout))
    return Experiment(
        name=f"{name or objective.name}-gap{gap:+.1f}",
        training=Training(
            generator=PatchGenerator(layout=layout),
            objective=objective,
            optimizer=optimizer,
            steps=steps,
            seeds=seeds,
            schedule=Schedule(frames=24),
            observables=_OBSERVED,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class FamilyRow:
    """What a run says of its objective: each seed's regime and, over seeds, the metrics of ``METRICS`` at the end.

    ``half_time`` is the step by which half of the attention that has moved at the end has moved.
    """

    regimes: tuple[LearnedRegime, ...]
    metrics: dict[str, Float[np.ndarray, " seed"]]
    half_time: Float[np.ndarray, " seed"]

    @classmethod
    def of(cls, trajectory: Trajectory) -> FamilyRow:
        """Read the last frame of a run, and when it came to half of it."""
        moved = attention_moved(trajectory)
        first = (moved >= moved[-1] / 2).argmax(0)
        metrics = {name: trajectory.final[name].to_numpy() for name in METRICS}
        return cls(
            regimes=learned_regime(trajectory),
            metrics=metrics,
            half_time=trajectory["step"].to_numpy()[first].astype(float),
        )

    @property
    def regime(self) -> str:
        """The regime of all seeds, or each regime with the number of its seeds."""
        names = [str(each) for each in self.regimes]
        counts = {name: names.count(name) for name in dict.fromkeys(names)}
        return names[0] if len(counts) == 1 else ", ".join(f"{n}: {count}" for n, count in counts.items())


_METRIC_SECONDS = 0.007
"""Of one core, for the metrics of a frame of a seed: measured where ``cost.json`` was."""


def estimate_seconds_of(experiments: Iterable[Experiment], device: str = "auto") -> float | None:
    """Return the seconds that such runs take here, None on a GPU, which nobody has timed."""
    total = 0.0
    for each in experiments:
        seconds = estimate_cost(each, device=device).seconds
        if seconds is None or not isinstance(each.training, Training):
            return None
        frames = len(each.training.schedule.recorded_steps(each.training.steps))
        total += seconds + _METRIC_SECONDS * frames * len(each.training.seed_numbers)
    return total
