"""The families of objectives on one map: each objective on the same data, and what a table says of its run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np
from jaxtyping import Float, Int

from vitdyn._errors import require_choice, require_real
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments.cost import estimate_cost
from vitdyn.experiments.experiment import Experiment, reseeded
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
STEPS, SEEDS = {"quick": 120, "full": 400}, {"quick": 2, "full": 4}
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
    scale: str = "full",
    steps: int | None = None,
    pace: float = 1.0,
) -> Experiment:
    """Return the run of an objective at a gap, by gradient descent at ``pace`` times its own learning rate.

    ``scale`` says how many ``steps``, unless they are named, and how many seeds. What else moves keeps the same clock
    (``at_pace``): ``steps / pace`` steps go as far as ``steps`` do at pace 1.
    """
    require_choice("scale", scale, STEPS)
    layout, name, rate = layout_of_gap(gap), name or objective.name, objective.default_learning_rate
    objective = at_pace(objective, pace)
    optimizer = GradientDescent(learning_rate=pace * rate(layout))
    return Experiment(
        name=f"{name}-gap{gap:+.1f}",
        training=Training(
            generator=PatchGenerator(layout=layout),
            objective=objective,
            optimizer=optimizer,
            steps=STEPS[scale] if steps is None else steps,
            seeds=SEEDS[scale],
            schedule=Schedule(frames=24),
            observables=_OBSERVED,
        ),
    )


def stability_runs(gaps: Iterable[float]) -> dict[tuple[str, float, str], Experiment]:
    """Return the runs of all objectives at some gaps from ten root seeds, and for twice the steps at half the rate."""
    scale, steps = "quick", STEPS["full"]  # two seeds a root seed
    found: dict[tuple[str, float, str], Experiment] = {}
    for (name, objective), gap in product(objectives_by_name().items(), tuple(gaps)):
        usual = family_run(objective, gap, name=name, scale=scale, steps=steps)
        found |= {(name, gap, f"root {root}"): reseeded(usual, root) for root in range(10)}
        slow = family_run(objective, gap, name=name, scale=scale, steps=2 * steps, pace=0.5)
        found[name, gap, "slow"] = slow
    return found


def at_pace(objective: Objective, pace: float) -> Objective:
    """Return an objective whose own clock runs ``pace`` times as fast: momenta m^pace, rates · pace, steps / pace."""
    require_real("pace", pace, low=0.0, high=100.0, open_low=True)
    changed: dict[str, float] = {}
    for each in fields(objective):  # type: ignore[arg-type]
        value = getattr(objective, each.name)
        if each.name.endswith("momentum"):
            changed[each.name] = value**pace
        elif each.name.endswith("_rate"):
            changed[each.name] = value * pace
        elif each.name.endswith("_steps") or each.name == "period":
            changed[each.name] = round(value / pace)
    return replace(objective, **changed) if pace != 1 and changed else objective  # type: ignore[type-var]


@dataclass(frozen=True, kw_only=True)
class FamilyRow:
    """What a run says of its objective: each seed's regime and, over seeds, the metrics of ``METRICS`` at the end.

    ``half_time`` is the step from which on at least half of the attention that has moved at the end has moved.
    """

    regimes: tuple[LearnedRegime, ...]
    metrics: dict[str, Float[np.ndarray, " seed"]]
    half_time: Float[np.ndarray, " seed"]

    @classmethod
    def of(cls, trajectory: Trajectory) -> FamilyRow:
        """Read the last frame of a run, and when it came to half of it."""
        metrics = {name: trajectory.final[name].to_numpy() for name in METRICS}
        return cls(
            regimes=learned_regime(trajectory),
            metrics=metrics,
            half_time=trajectory["step"].to_numpy()[half_frame(trajectory)].astype(float),
        )

    @property
    def regime(self) -> str:
        """The regime of all seeds, or each regime with the number of its seeds."""
        names = [str(each) for each in self.regimes]
        counts = {name: names.count(name) for name in dict.fromkeys(names)}
        return names[0] if len(counts) == 1 else ", ".join(f"{n}: {count}" for n, count in counts.items())


def half_frame(trajectory: Trajectory) -> Int[np.ndarray, " seed"]:
    """Return the frame from which on at least half of the attention that has moved at the end has moved."""
    moved = attention_moved(trajectory)
    # from the end: what moves to and fro passes its half more than once
    first = len(moved) - (moved < moved[-1] / 2)[::-1].argmax(0)
    first[(moved >= moved[-1] / 2).all(0)] = 0
    return first


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
