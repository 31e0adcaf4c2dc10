"""RC-MAE's second term takes back discounted past gradients, as far as inputs are like those of the past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vitdyn.claims import assumptions as assume
from vitdyn.claims.claim import Assumption, Case, Claim, Control, Interval, Measurement
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.limits import EXPONENTS
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import RCMAE
from vitdyn.observables import OBSERVABLES, TeacherCorrection
from vitdyn.trajectory import Trajectory

_SEEDS = {"quick": 6, "full": 24}
_STEPS = 150
_LEAST, _MORE = 0.6, 0.1
"""The cosine lies between this part of the similarity and this much above it."""
_NAME = "correction_cosine"


def _run(
    scale: str, *, gap: str = "gap-positive", similarity: float = 1.0, clusters: int = 1, **fields: object
) -> tuple[Experiment, ...]:
    """Return a run of RC-MAE; fields are its objective's, inputs are so like those of training at the end."""
    layout = PatchLayout.from_exponents(64, *EXPONENTS[gap], clusters=clusters)
    objective = replace(RCMAE(momentum=0.9), **fields)  # type: ignore[arg-type]
    training = Training(
        generator=PatchGenerator(layout=layout),
        objective=objective,
        steps=_STEPS,
        seeds=_SEEDS[scale],
        batch_size=16,
        optimizer=GradientDescent(learning_rate=objective.default_learning_rate(layout) / 4),
        schedule=Schedule(frames=2),
        observables=(replace(OBSERVABLES[_NAME], compute=TeacherCorrection(similarity=similarity)),),
    )
    return (Experiment(name=f"rc-mae-{gap}", training=training),)


def _similarity(spec: assume.Spec) -> float:
    """Return how like those of training the inputs are on which a run records the cosine; −1 where it does not."""
    recorded = [each.compute for each in getattr(spec, "observables", ()) if each.name == _NAME]
    return next((each.similarity for each in recorded if isinstance(each, TeacherCorrection)), -1.0)


def _as_similar(case: Case) -> Interval:
    similarity = _similarity(case.specs[0])
    return _LEAST * similarity, similarity + _MORE


def _cosine(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return the cosine at the end, 0 for a teacher that is its student: nothing is taken back."""
    found = trajectories[0][_NAME][-1].to_numpy()
    return over_seeds(np.where(np.isnan(found), 0.0, found))


def _of_objective(sentence: str, met: Callable[[RCMAE], bool]) -> Assumption:
    return assume.every_run(
        sentence,
        lambda spec: isinstance(spec.objective, RCMAE) and spec.objective.weight > 0 and met(spec.objective),
    )


_LAGS = _of_objective(
    "RC-MAE whose teacher lags behind: momentum from 0.5 to 0.99.", lambda one: 0.5 <= one.momentum <= 0.99
)
_SEES = _of_objective("The teacher sees what its student sees.", lambda one: one.teacher_sees == "same")
_PLAIN = assume.every_run(
    "Plain gradient descent: the lag is the discounted past gradients.",
    lambda spec: isinstance(getattr(spec, "optimizer", None), GradientDescent),
)
_ALIKE = assume.every_run(
    "Inputs at least half like those of training: similarity from 0.5.", lambda spec: _similarity(spec) >= 0.5
)


def _case(scale: str, words: str, **options: object) -> Case:
    return Case(name=f"rc-mae, {words}", runs=_run(scale, **options))  # type: ignore[arg-type]


def _without(scale: str, words: str, cause: Assumption, **options: object) -> Control:
    runs = _run(scale, **options)  # type: ignore[arg-type]
    return Control(
        name=f"rc-mae, {words}", runs=runs, removes=cause, predicted=lambda case: (_LEAST, 1 + _MORE)
    )


RCMAE_CORRECTION = Claim(
    id="RCMAE-CORRECTION",
    statement="The gradient of RC-MAE's second term points along minus the discounted sum of past gradients where "
    "inputs are like those that training saw, and in proportion to their inner product s where they are less so: it "
    "takes back what similar inputs have moved, and leaves alone what dissimilar ones have.",
    source="Lee et al. (2023), who argue by a linear student; the softmax layer and the numbers are vitdyn's own",
    note="claims.md#rcmae-correction",
    assumptions=(
        assume.ONE_RUN,
        assume.FULL_SIMULATION,
        assume.FRESH_BATCHES,
        assume.POSITION_QUERIES,
        assume.LATENTS_BOUNDED,
        _LAGS,
        _SEES,
        _PLAIN,
        _ALIKE,
    ),
    surrogate=f"cos(∇L_c, θ − θ̄) after {_STEPS} steps at P = 64, a quarter of the default rate and momentum 0.9, on "
    "samples that no step saw, of features v (s = 1) or v/2 + √3 u/2 (s = 1/2), u orthogonal to all v: between "
    f"{_LEAST} s and s + {_MORE}, by a 99.9 % interval over seeds. Controls, as if inputs did not matter: s = 0, "
    "momentum 0, a teacher that is shown another sample.",
    symbol="cos(∇L_c, −Σ α^i g)",
    symbols={
        "L_c": "second term of the loss, the distance to the teacher",
        "θ": "parameters of the student",
        "θ̄": "parameters of the teacher",
        "α": "momentum of the teacher",
        "g": "gradient of the loss, i steps ago",
        "i": "number of steps back",
        "s": "inner product of the features with those of training",
        "v": "a feature of training",
        "u": "a feature orthogonal to all of training",
    },
    predicted=_as_similar,
    measure=_cosine,
    cases=lambda scale: (
        *(_case(scale, f"{gap}, s = 1", gap=gap) for gap in EXPONENTS),
        _case(scale, "gap-positive, s = 1/2", similarity=0.5),
        *(
            ()
            if scale == "quick"
            else (
                *(_case(scale, f"{gap}, K = 3, s = 1", gap=gap, clusters=3) for gap in EXPONENTS),
                _case(scale, "gap-negative, s = 1/2", gap="gap-negative", similarity=0.5),
                _case(scale, "gap-positive, γ_c = 3, s = 1", weight=3.0),
                _case(scale, "gap-negative, m = 0.99, s = 1", gap="gap-negative", momentum=0.99),
            )
        ),
    ),
    controls=lambda scale: (
        _without(scale, "gap-positive, s = 0", _ALIKE, similarity=0.0),
        _without(scale, "gap-positive, momentum 0", _LAGS, momentum=0.0),
        _without(scale, "gap-positive, teacher sees others", _SEES, teacher_sees="permuted"),
    ),
)
