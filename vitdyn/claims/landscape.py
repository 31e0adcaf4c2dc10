"""Loss landscapes: whose loss is convex how far, and what a teacher's term adds to convexity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, nan
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_choice
from vitdyn.claims.claim import Assumption, Case, Claim, Control, Interval, Measurement
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.limits import EXPONENTS
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Training
from vitdyn.experiments import Experiment
from vitdyn.landscape import (
    Hessian,
    convex_reach,
    filter_norms,
    gaussian_direction,
    line_losses,
    normalised,
)
from vitdyn.models.model import CLOSED_FORMS
from vitdyn.objectives import RCMAE as LayerRCMAE  # noqa: N811  (a class, in capitals)
from vitdyn.objectives import ForwardPass, MaskedReconstruction, Objective
from vitdyn.observables import Observable, Schedule
from vitdyn.observables.loss_surface import loss_surface
from vitdyn.observables.state import ModelState
from vitdyn.trajectory import Trajectory
from vitdyn.vits import Digits, ImageSet, Landscape, Pretraining, SmallViT
from vitdyn.vits.methods import Method, Reconstruction, Supervised

_SEEDS = 6
_LAYER_SEEDS = 12
_UNTRAINED_SEEDS = range(400, 448)
_FARTHER, _CONVEX = 0.2, 0.3
"""Margins, of pilots on seeds from 100 on."""
HALF_WIDTH, PLACES = 1.0, 33
TARGETS = ("global", "local")
SMALL = SmallViT(width=16, depth=2, decoder_width=8)


def surveyed(
    method: Method,
    seed: int,
    *,
    images: ImageSet | None = None,
    vit: SmallViT = SMALL,
    steps: int = 120,
    measures: tuple[str, ...] = ("lines",),
    loss: str = "pretraining",
    frames: int = 2,
    directions: int = 8,
) -> Experiment:
    """Return the landscape of a small ViT's loss along a training."""
    training = Pretraining(method=method, images=images or Digits(), vit=vit, steps=steps, seed=seed)
    landscape = Landscape(
        training=training,
        schedule=Schedule(frames=frames, spacing="linear"),
        loss=loss,
        measures=measures,
        directions=directions,
        points=PLACES,
        half_width=HALF_WIDTH,
    )
    return Experiment(name=f"{method.name}-{loss}-{seed}", training=landscape)


@dataclass(frozen=True, kw_only=True)
class LatentRegression(Objective):
    """Supervision on the theory's layer: the latent of one area from the sum of the mean output's coordinates.

        L = ½ E (Σ_j Ā_j z_j − z_a)²,   Ā_j the mean over queries of A_{p→j}

    a is the first local area or, as ``target`` says, the global one. The one minimum over all attention is at Ā_a = 1:
    every query on that area. ``loss`` sees a masked sample.
    """

    name: ClassVar[str] = "latent-regression"
    family: ClassVar[str] = "generative"

    target: str = "local"

    def __post_init__(self) -> None:
        require_choice("target", self.target, TARGETS)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        error = forward.mean_outputs().sum(-1) - forward.batch.latents[..., TARGETS.index(self.target)]
        return 0.5 * error.square().mean(1)

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 64 K: the mean over queries divides the gradient of one by P."""
        return 64.0 * layout.clusters


def convex_reach_of_layer(state: ModelState) -> Tensor:
    """Return r_c of a state of one seed over four random directions; NaN where a row of Q is 0: it has no length."""
    surface, seed = loss_surface(state), int(state.batch.seeds[0])
    found = nan
    rows = (filter_norms(each, "goldstein") for each in surface.parameters.values())
    if all((each > 0).all() for each in rows):
        along = [normalised(surface, gaussian_direction(surface, seed, index)) for index in range(4)]
        found = convex_reach(line_losses(surface, along, HALF_WIDTH, PLACES), HALF_WIDTH)
    return torch.tensor([found], dtype=torch.float64)


REACH = Observable(
    name="convex_reach",
    compute=convex_reach_of_layer,
    symbol="r_c",
    meaning="how far second differences of the loss are not negative along random directions",
    may_be_missing=True,
    needs=CLOSED_FORMS,
)


def on_layer(
    objective: Objective,
    *,
    patches: int,
    steps: int,
    seeds: int,
    observables: tuple[Observable, ...],
    frames: int = 2,
) -> Training:
    """Return a training of the theory's layer that records these numbers of its landscape."""
    layout = PatchLayout.from_exponents(patches, *EXPONENTS["gap-positive"])
    return Training(
        generator=PatchGenerator(layout=layout),
        objective=objective,
        steps=steps,
        seeds=seeds,
        schedule=Schedule(frames=frames),
        observables=("loss", *observables),
        precision="float64",
    )


def reach(trajectory: Trajectory) -> np.ndarray:
    """Return r_c at the end, of each seed."""
    if "convex_reach" in trajectory.dataset:
        return trajectory.final["convex_reach"].to_numpy()
    lines = trajectory.final["line_loss"].to_numpy()
    return np.array([convex_reach(each, HALF_WIDTH) for each in lines])


def _farther(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    first, second = np.split(np.concatenate([reach(each) for each in trajectories]), 2)
    return over_seeds(first - second)


def _halves(case: Case) -> list[list[object]]:
    specs: list[object] = [run.training for run in case.runs]
    return [specs[: len(specs) // 2], specs[len(specs) // 2 :]]


def _trainings(spec: object) -> object:
    return spec.training if isinstance(spec, Landscape) else spec


def _first_reconstructs(case: Case) -> bool:
    kinds = (Reconstruction, MaskedReconstruction)
    return all(_taught_by(each, kinds) for each in _halves(case)[0])


def _taught_by(spec: object, kinds: tuple[type, ...]) -> bool:
    training = _trainings(spec)
    return isinstance(getattr(training, "method", None) or getattr(training, "objective", None), kinds)


_RECONSTRUCTS = Assumption(
    sentence="The first half of the runs is of masked reconstruction.", holds=_first_reconstructs
)
_OTHERS_SUPERVISED = Assumption(
    sentence="The second half is of supervision, on the layer by the latent of a local area.",
    holds=lambda case: all(
        _taught_by(each, (Supervised, LatentRegression)) and _field(each, "target") in (None, "local")
        for each in _halves(case)[1]
    ),
)


def _on_the_layer(words: str, *objectives: Objective) -> Case:
    runs = tuple(
        Experiment(
            name=f"{each.name}-reach",
            training=on_layer(each, patches=36, steps=100, seeds=_LAYER_SEEDS, observables=(REACH,)),
        )
        for each in objectives
    )
    return Case(name=words, runs=runs)


def _on_digits() -> Case:
    methods = (Reconstruction(), Supervised())
    runs = tuple(surveyed(method, seed) for method in methods for seed in range(_SEEDS))
    return Case(name="digits", runs=runs)


def _untrained(method: Method, seed: int) -> Experiment:
    """Return the survey of a training of one step without length."""
    run = surveyed(method, seed, steps=1)
    assert isinstance(run.training, Landscape)
    still = replace(run.training.training, learning_rate=0.0)
    return replace(run, training=replace(run.training, training=still))


def _before_training() -> Control:
    methods = (Reconstruction(), Supervised())
    runs = tuple(_untrained(method, seed) for method in methods for seed in _UNTRAINED_SEEDS)
    return Control(name="digits, before training", runs=runs)


def _farther_cases(scale: str) -> tuple[Case, ...]:
    layer = _on_the_layer("layer", MaskedReconstruction(), LatentRegression())
    return (layer,) if scale == "quick" else (layer, _on_digits())


def _farther_controls(scale: str) -> tuple[Control, ...]:
    by_global = LatentRegression(target="global")
    layer = _on_the_layer("layer, supervised by the global latent", MaskedReconstruction(), by_global)
    other = Control(name=layer.name, runs=layer.runs, removes=_OTHERS_SUPERVISED)
    return (other,) if scale == "quick" else (other, _before_training())


def _beyond_margin(case: Case) -> Interval:
    return _FARTHER, inf


LANDSCAPE_MAE_SMOOTHER = Claim(
    id="LANDSCAPE-MAE-SMOOTHER",
    statement="Along random filter-normalised directions the loss of masked reconstruction stays convex farther from "
    "the end of training than supervision's by a local area's latent on the theory's layer, and than a classifier's on "
    "digits. Supervision by the layer's global latent is convex as far.",
    source="Lee, Willette, Kim and Hwang (2024, arXiv 2405.18042), of pictures; the number and its limits are ours",
    note="claims.md#landscape-mae-smoother",
    assumptions=(_RECONSTRUCTS, _OTHERS_SUPERVISED),
    surrogate="r_c, up to 1, of reconstruction less r_c of supervision, paired by seed, above "
    f"{_FARTHER} by a 99.9 % interval: the layer (P = 36, 100 steps, {_LAYER_SEEDS} seeds); full: small ViTs too (two "
    "blocks of width 16, 120 steps). Controls: supervision by the global latent; full: ViTs before training.",
    symbol="r_MAE − r_sup",
    symbols={
        "r_c": "distance from the end of training up to which the loss is convex",
        "r_MAE": "r_c of masked reconstruction",
        "r_sup": "r_c of supervision",
    },
    predicted=_beyond_margin,
    measure=_farther,
    cases=_farther_cases,
    controls=_farther_controls,
)


@dataclass(frozen=True, kw_only=True)
class NegativeCurvature:
    """ν = −λ_min/λ_max of the layer's loss, or without its teacher's term: what an ``Observable`` computes."""

    own: bool

    def __call__(self, state: ModelState) -> Tensor:
        """Return ν of a state of one seed."""
        objective = state.objective
        assert isinstance(objective, LayerRCMAE)
        if state.step == 0:  # read at the end alone
            return torch.tensor([nan], dtype=torch.float64)
        seen = state if self.own else replace(state, objective=replace(objective, weight=0.0))
        values = torch.linalg.eigvalsh(blocks_of_queries(Hessian(loss_surface(seen))))
        return (-values.min() / values.max())[None]


def blocks_of_queries(hessian: Hessian) -> Float[Tensor, "query parameter parameter"]:
    """Return what the Hessian has on its diagonal: where a loss is a sum over queries, the rest is 0.

    A product has one column of each block, so that it takes P times fewer than the whole matrix.
    """
    surface, columns = hessian.surface, []
    for name, block in surface.parameters.items():
        for entry in range(block[0].numel()):
            made = {each: torch.zeros_like(values) for each, values in surface.parameters.items()}
            made[name].flatten(1)[:, entry] = 1
            found = surface.tensors(hessian @ surface.vector(made)).values()
            columns.append(torch.cat([each.flatten(1) for each in found], 1))
    return torch.stack(columns, -1)


NU_MEANINGS = {
    "negative_curvature": "−λ_min/λ_max of the loss",
    "negative_curvature_alone": "−λ_min/λ_max of reconstruction alone",
}
NU = tuple(
    Observable(
        name=name,
        compute=NegativeCurvature(own=name == "negative_curvature"),
        meaning=meaning,
        may_be_missing=True,
        needs=CLOSED_FORMS,
    )
    for name, meaning in NU_MEANINGS.items()
)


def _convexity_added(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    own, alone = (trajectories[0].final[name].to_numpy() for name in NU_MEANINGS)
    if not ((own > 0) & (alone > 0)).all():
        raise ArithmeticError("a Hessian has no eigenvalue of either sign")
    return over_seeds(np.log2(alone / own))


def _field(spec: object, name: str) -> object:
    """Return a hyperparameter of what a run trains by, None where it has none."""
    training = _trainings(spec)
    taught = getattr(training, "method", None) or getattr(training, "objective", None)
    return getattr(taught, name, None)


def _has_term(case: Case) -> bool:
    return all(
        _taught_by(run.training, (LayerRCMAE,)) and _field(run.training, "weight") != 0 for run in case.runs
    )


_HAS_TERM = Assumption(sentence="RC-MAE, whose second term counts.", holds=_has_term)
_SEES_THE_SAME = Assumption(
    sentence="The teacher sees the student's images.",
    holds=lambda case: all(_field(run.training, "teacher_sees") == "same" for run in case.runs),
)
_SAME_WEIGHTS = Assumption(
    sentence="RC-MAE: its own loss and reconstruction alone at the same weights.",
    holds=lambda case: _are_of_the_same_weights(case),
)


def _are_of_the_same_weights(case: Case) -> bool:
    recorded = {each.name for each in getattr(case.runs[0].training, "observables", ())}
    return len(case.runs) == 1 and recorded.issuperset(NU_MEANINGS)


def _on_layer(words: str, objective: LayerRCMAE) -> Case:
    training = on_layer(objective, patches=12, steps=60, seeds=_SEEDS, observables=NU)
    return Case(name=f"layer, {words}", runs=(Experiment(name="rc-mae", training=training),))


def _teacher_cases(scale: str) -> tuple[Case, ...]:
    return (
        _on_layer("m = 0.9", LayerRCMAE(momentum=0.9)),
        _on_layer("m = 0, as MAE", LayerRCMAE(momentum=0.0)),
    )


def _teacher_controls(scale: str) -> tuple[Control, ...]:
    without = _on_layer("γ_c = 0", LayerRCMAE(momentum=0.9, weight=0.0))
    other = _on_layer("m = 0.9, teacher of other images", LayerRCMAE(momentum=0.9, teacher_sees="permuted"))
    return (
        Control(name=without.name, runs=without.runs, removes=_HAS_TERM),
        Control(name=other.name, runs=other.runs, removes=_SEES_THE_SAME),
    )


LANDSCAPE_TEACHER_CONVEX = Claim(
    id="LANDSCAPE-TEACHER-CONVEX",
    statement="At the same weights RC-MAE's own loss, its teacher standing still, has less negative curvature for its "
    "positive one than reconstruction alone, on the theory's layer: with momentum 0 too, with which training is MAE's. "
    "So the wider region of convexity is no reason to converge sooner.",
    source="Lee, Willette, Kim and Hwang (2024, arXiv 2405.18042) have the wider region, of pictures; the rest is ours",
    note="claims.md#landscape-teacher-convex",
    assumptions=(_SAME_WEIGHTS, _HAS_TERM, _SEES_THE_SAME),
    surrogate="log₂ of ν of reconstruction alone over ν of the whole loss, ν = −λ_min/λ_max, over seeds, above "
    f"{_CONVEX} by a 99.9 % interval: the layer (P = 12, 60 steps). "
    "Controls: the second term without weight; a teacher of other images.",
    symbol="log₂ ν_rec/ν",
    symbols={
        "ν": "most negative curvature over the most positive, with its sign turned",
        "ν_rec": "ν of reconstruction alone",
        "λ_min": "least eigenvalue of the Hessian",
        "λ_max": "largest eigenvalue of the Hessian",
    },
    predicted=lambda case: (_CONVEX, inf),
    measure=_convexity_added,
    cases=_teacher_cases,
    controls=_teacher_controls,
)
