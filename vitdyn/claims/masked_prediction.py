"""Prediction of masked patches by other losses and targets than reconstruction's: what moves first, when it fails."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log

import numpy as np

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Assumption, Case, Claim, Control, Interval, Measurement, moved
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.limits import EXPONENTS, at_the_end
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import IJEPA, RCMAE, BEiT, Data2Vec, MaskedReconstruction, Objective, SimMIM
from vitdyn.observables import least_global_attention, local_own_area_attention
from vitdyn.theory import (
    Regime,
    class_temperature,
    frozen_teacher_attention,
    lead_of_loss,
    student_pace,
)
from vitdyn.trajectory import Trajectory

_SEEDS = {"quick": 6, "full": 32}
_STEPS = 300


def _run(
    objective: Objective, gap: str, scale: str, words: str = "", *, patches: int = 64, steps: int = _STEPS
) -> Case:
    """Return a run with one cluster: in none of these losses does a cluster repel another."""
    layout = PatchLayout.from_exponents(patches, *EXPONENTS[gap])
    # a teacher that stays leaves the student in a balance, which the noise of large steps moves
    pace = 0.25 if isinstance(objective, RCMAE) else 1.0
    training = Training(
        generator=PatchGenerator(layout=layout),
        objective=objective,
        steps=steps,
        seeds=_SEEDS[scale],
        batch_size=16,
        optimizer=GradientDescent(learning_rate=pace * objective.default_learning_rate(layout)),
        schedule=Schedule(frames=3),
    )
    name = f"{objective.name}-{gap}"
    return Case(name=f"{name}{words}", runs=(Experiment(name=name, training=training),))


def _both(objective: Objective, scale: str, words: str = "") -> tuple[Case, ...]:
    """Return the runs of an objective at either sign of Δ, a case each."""
    return tuple(_run(objective, gap, scale, words) for gap in EXPONENTS)


def _without(cause: Assumption, *cases: Case) -> tuple[Control, ...]:
    """Return cases as controls that lack the cause."""
    return tuple(Control(name=case.name, runs=case.runs, removes=cause) for case in cases)


def _training_of(case: Case) -> Training:
    training = case.runs[0].training
    assert isinstance(training, Training)
    return training


def _local_attention(training: Training) -> float:
    """Return A⁰, what a local query of Q = 0 gives to its own area where the view shows its other patches."""
    sizes, patches = training.generator.layout.sizes[:, 1:], training.generator.layout.patches
    others = float(sizes[sizes > 0].mean()) - 1
    return (1 - training.objective.mask_ratio) * others / (patches - 1)


_ON_SIMULATIONS = (
    assume.ONE_RUN,
    assume.FULL_SIMULATION,
    assume.FRESH_BATCHES,
    assume.POSITION_QUERIES,
    assume.THEORYS_DATA,
    assume.LATENTS_BOUNDED,
    assume.THEORYS_RANGE,
)
_OWN_ATTENTION = assume.recording("own_area_attention")


def _momentum(spec: assume.Spec) -> float:
    return getattr(spec.objective, "momentum", -1.0)


def _at_least(steps: int) -> Assumption:
    return assume.every_run(f"At least {steps} steps.", lambda spec: getattr(spec, "steps", 0) >= steps)


_LOSS_OF = {"mae": "squared", "simmim": "absolute", "beit": "class"}
_LEAD_MARGIN = 0.04
_ONE_STEP = assume.every_run("One step.", lambda spec: getattr(spec, "steps", None) == 1)
_KNOWN_LOSS = assume.every_run(
    "The loss is MAE's, SimMIM's, or BEiT's at τ = 1.",
    lambda spec: spec.objective.name in _LOSS_OF and getattr(spec.objective, "temperature", 1.0) == 1,
)


def _first_steps(scale: str) -> tuple[Case, ...]:
    """Return the first step of three losses at Δ = −0.1 and 0.2, P = 256 and two clusters."""
    cases = []
    for kappas in ((0.6, 0.3), (0.7, 0.2)):
        layout = PatchLayout.from_exponents(256, *kappas, clusters=2)
        for objective in (MaskedReconstruction(), SimMIM(), BEiT()):
            training = Training(
                generator=PatchGenerator(layout=layout),
                objective=objective,
                steps=1,
                seeds=2 * _SEEDS[scale],
                batch_size=64,
                schedule=Schedule(frames=2),
                evaluation_samples=8,
            )
            run = Experiment(name=f"{objective.name}-first-step", training=training)
            cases.append(Case(name=f"{run.name}, κ=({kappas[0]:g}, {kappas[1]:g})", runs=(run,)))
    return tuple(cases)


def _lead(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return log(−φ_1/φ_a)/log P of local queries; no number where φ_1 has not fallen or φ_a not grown."""
    phi = trajectories[0].final["feature_position"].sel(statistic="mean").to_numpy()
    fallen = -phi[:, :, 1:, 0]
    grown = np.stack([phi[:, :, area, area] for area in range(1, phi.shape[-1])], -1)
    ratio = np.nanmean(fallen, (1, 2)) / np.nanmean(grown, (1, 2))
    patches = _training_of(case).generator.layout.patches
    return over_seeds(np.log(np.where(ratio > 0, ratio, np.nan)) / log(patches))


def _lead_of(loss: str | None = None) -> Callable[[Case], Interval]:
    """Return the prediction for a case's own loss, or for another one."""

    def predicted(case: Case) -> Interval:
        training = _training_of(case)
        layout, objective = training.generator.layout, training.objective
        rate = lead_of_loss(
            Regime.of(layout),
            training.generator.latents,
            loss or _LOSS_OF[objective.name],
            mask_ratio=objective.mask_ratio,
            clusters=layout.clusters,
        )
        return rate.exponent - _LEAD_MARGIN, rate.exponent + _LEAD_MARGIN

    return predicted


def _as_if_squared(scale: str) -> tuple[Control, ...]:
    return tuple(
        Control(name=f"{case.name}, as if squared", runs=case.runs, predicted=_lead_of("squared"))
        for case in _first_steps(scale)
        if _training_of(case).objective.name != "mae"
    )


MIM_ORDER = Claim(
    id="MIM-ORDER",
    statement="Whether a local query drops the global area before it finds its own depends on the sign of Δ for the "
    "squared error alone: with the absolute error |φ_1|/φ_a starts at P^{κ_c−κ_s}, at either sign of Δ, and with "
    "cross-entropy of the features at P^{−(1−κ_c)}.",
    source="vitdyn's notes, leading order",
    note="claims.md#mim-order",
    assumptions=(
        *_ON_SIMULATIONS,
        _ONE_STEP,
        _KNOWN_LOSS,
        assume.global_exponent(0.5005, 0.7),
        assume.patches_at_least(256),
        assume.recording("feature_position"),
    ),
    surrogate="log(|φ_1|/φ_a)/log P over all local queries after one step from Q = 0 at P = 256, two clusters, "
    f"Δ = −0.1 and 0.2: within {_LEAD_MARGIN} of the exponent of the leading order with its constant, by a 99.9 % "
    "interval over seeds. Controls: SimMIM and BEiT judged by the exponent of the squared error.",
    symbol="log(|φ_1|/φ_a)/log P",
    predicted=_lead_of(),
    measure=_lead,
    cases=_first_steps,
    controls=lambda scale: (
        *_as_if_squared(scale),
        *moved(_first_steps(scale)[:1], _lead_of(), 2 * _LEAD_MARGIN, "exponent + 0.08"),
    ),
)


def _star(spec: assume.Spec) -> float:
    """Return τ* of a run, 0 where there is no such temperature."""
    if not isinstance(spec, Training) or spec.objective.name != "beit" or spec.steps < 2:
        return 0.0
    layout = spec.generator.layout
    return class_temperature(spec.generator.latents, int((layout.sizes > 0).sum()), spec.steps)


_COLD = assume.every_run(
    "Cross-entropy of the features, after some steps, at a temperature of at most τ*/8.",
    lambda spec: getattr(spec.objective, "temperature", 1.0) <= _star(spec) / 8,
)


def _at_temperature(factor: float, scale: str) -> tuple[Case, ...]:
    """Return runs of BEiT at a multiple of τ*, at either sign of Δ."""
    found = []
    for gap in EXPONENTS:
        temperature = round(factor * _star(_training_of(_run(BEiT(), gap, scale))), 6)
        found.append(_run(BEiT(temperature=temperature), gap, scale, f", τ = {factor:g} τ*"))
    return tuple(found)


BEIT_TEMPERATURE = Claim(
    id="BEIT-TEMPERATURE",
    statement="Cross-entropy of the features stops short of local areas where its temperature is well below τ* = "
    "E z/(2 log((D − 1)T)): the class is certain while a local query gives its own area less than half of its "
    "attention.",
    source="vitdyn's notes, heuristic",
    note="claims.md#beit-temperature",
    assumptions=(*_ON_SIMULATIONS, _COLD, _OWN_ATTENTION),
    surrogate=f"Attention of local queries to their own area after T = {_STEPS} steps at P = 64, τ = τ*/10, Δ = 0.4 "
    "and −0.3: below 1/2, by a 99.9 % interval over seeds. Controls: τ = 5τ*.",
    symbol="A_own",
    symbols={"τ": "temperature of cross-entropy", "T": "number of steps"},
    predicted=lambda case: (-inf, 0.5),
    measure=at_the_end(local_own_area_attention),
    cases=lambda scale: _at_temperature(0.1, scale),
    controls=lambda scale: _without(_COLD, *_at_temperature(5.0, scale)),
)

_STAYS = assume.every_run(
    "RC-MAE with a weight above 0 whose teacher stays: momentum 1.",
    lambda spec: isinstance(spec.objective, RCMAE) and spec.objective.weight > 0 and _momentum(spec) == 1,
)
_LEVEL_MARGIN = 0.1


def _frozen_level(case: Case) -> Interval:
    training = _training_of(case)
    weight: float = training.objective.weight  # type: ignore[attr-defined]
    level = frozen_teacher_attention(weight, _local_attention(training))
    return level.low - _LEVEL_MARGIN, level.high + _LEVEL_MARGIN


def _frozen(scale: str) -> tuple[Case, ...]:
    equal, heavy = RCMAE(momentum=1.0), RCMAE(weight=3.0, momentum=1.0)
    return *_both(equal, scale, ", γ_c = 1"), _run(heavy, "gap-positive", scale, ", γ_c = 3")


RCMAE_FROZEN = Claim(
    id="RCMAE-FROZEN",
    statement="In RC-MAE with a teacher that does not follow, local queries give their own area (1 + γ_c A⁰)/(1 + γ_c) "
    "of their attention and no more; with one that follows they end where masked reconstruction does.",
    source="vitdyn's notes",
    note="claims.md#rcmae-frozen",
    assumptions=(*_ON_SIMULATIONS, _STAYS, _at_least(_STEPS), _OWN_ATTENTION),
    surrogate=f"Attention of local queries to their own area after {_STEPS} steps at P = 64 and a quarter of the "
    f"default rate, momentum 1, γ_c = 1 (Δ = 0.4 and −0.3) and 3 (0.4): within {_LEVEL_MARGIN} of the formula, by a "
    "99.9 % interval over seeds. Controls: momentum 0.9; the level moved by twice the margin.",
    symbol="A_own",
    symbols={"A⁰": "attention of the teacher to the same area"},
    predicted=_frozen_level,
    measure=at_the_end(local_own_area_attention),
    cases=_frozen,
    controls=lambda scale: (
        *_without(_STAYS, _run(RCMAE(momentum=0.9), "gap-positive", scale, ", teacher follows")),
        *moved(_frozen(scale)[:1], _frozen_level, 2 * _LEVEL_MARGIN, "level + 0.2"),
        *moved(_frozen(scale)[2:], _frozen_level, 2 * _LEVEL_MARGIN, "level + 0.2"),
    ),
)

_SHARE = 0.8
_FOLLOWS = assume.every_run(
    "A teacher follows: momentum from 0 to 0.9.", lambda spec: 0 <= _momentum(spec) <= 0.9
)

SELF_TARGETS = Claim(
    id="SELF-TARGETS",
    statement="A masked patch whose target is what a teacher close behind the model makes of the whole sample learns "
    "no local area: with data2vec and I-JEPA every query comes to attend to the global area, at either sign of Δ.",
    source="vitdyn's notes; the first drift to leading order, the end heuristic",
    note="claims.md#self-targets",
    assumptions=(*_ON_SIMULATIONS, _FOLLOWS, _at_least(100), assume.recording("area_attention")),
    surrogate=f"Least attention of any position to the global area after {_STEPS} (data2vec) or 120 steps at P = 64, "
    f"momentum 0.9, Δ = 0.4 and −0.3: above {_SHARE}, by a 99.9 % interval over seeds. Controls: a teacher that stays "
    "at Q = 0; RC-MAE, whose targets are patches too.",
    symbol="min_p A_global",
    predicted=lambda case: (_SHARE, inf),
    measure=at_the_end(least_global_attention),
    cases=lambda scale: (
        *_both(Data2Vec(momentum=0.9), scale),
        *(_run(IJEPA(momentum=0.9), gap, scale, steps=120) for gap in EXPONENTS),
    ),
    controls=lambda scale: (
        *_without(_FOLLOWS, _run(Data2Vec(momentum=1.0), "gap-negative", scale, ", teacher stays")),
        _run(RCMAE(momentum=0.9), "gap-negative", scale),
    ),
)


def _is_slow(spec: assume.Spec) -> bool:
    """Return whether a teacher goes at most a third of the part of its way that the student goes in a step."""
    if not isinstance(spec, Training) or not 0 <= _momentum(spec) < 1:
        return False
    return 1 - _momentum(spec) <= student_pace(spec.generator.latents, _local_attention(spec)) / 3


_SLOW = assume.every_run(
    "A teacher three times as slow as its student, 1 − m ≤ 4 E z⁴ A²/3, or more.", _is_slow
)
_RAW = assume.every_run(
    "data2vec with targets as they are.", lambda spec: getattr(spec.objective, "target", "") == "none"
)


def _slowly(scale: str, *, momentum: float = 0.98, target: str = "none", words: str = "") -> Case:
    objective = Data2Vec(momentum=momentum, target=target)
    return _run(objective, "gap-negative", scale, words or ", m = 0.98", patches=32, steps=1000)


D2V_TEACHER = Claim(
    id="D2V-TEACHER",
    statement="Where Δ < 0 and its teacher is slower than the student, data2vec does learn local areas: the student "
    "lacks its own patch, which the teacher sees, and makes up for it once in each life of the teacher.",
    source="vitdyn's notes, heuristic",
    note="claims.md#d2v-teacher",
    assumptions=(*_ON_SIMULATIONS, assume.GAP_NEGATIVE, _SLOW, _RAW, _at_least(1000), _OWN_ATTENTION),
    surrogate="Attention of local queries to their own area after 1000 steps at P = 32, momentum 0.98, Δ = −0.3: above "
    f"{_SHARE}, by a 99.9 % interval over seeds. Controls: momentum 0.8; (full) targets that are layer-normalised.",
    symbol="A_own",
    predicted=lambda case: (_SHARE, inf),
    measure=at_the_end(local_own_area_attention),
    cases=lambda scale: (_slowly(scale),),
    controls=lambda scale: (
        *_without(_SLOW, _slowly(scale, momentum=0.8, words=", m = 0.8")),
        *(
            _without(_RAW, _slowly(scale, target="layer", words=", layer-normalised"))
            if scale == "full"
            else ()
        ),
    ),
)
