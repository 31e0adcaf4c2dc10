"""Depth with a residual: reconstruction ends in the last layer, contrast in all of them, the first one ahead."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
from jaxtyping import Float

from vitdyn._axes import LAYER, SEED
from vitdyn.claims import assumptions as assume
from vitdyn.claims.assumptions import Spec
from vitdyn.claims.claim import Assumption, Case, Claim, Control, Interval, Measurement
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.limits import at_the_end
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.models import Transformer
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective
from vitdyn.observables import LAYER_ROLES, least_own_area_attention
from vitdyn.theory import contrast_rises
from vitdyn.trajectory import Trajectory

SIZES = {"gap-positive": (18, 6, 6, 6), "gap-negative": (12, 6, 6, 6, 6)}
"""Areas at either sign of Δ, 0.11 and −0.11, at P = 36."""

_SIDE = 6
_SEEDS = {"quick": 6, "full": 24}
_FIRST_SEED = 10
"""Margins were read off pilots of seeds 0 and 1."""
_MARGIN = 0.8
_OBSERVABLES = (
    *("loss", "area_attention", "own_area_attention", "head_own_attention", "head_global_attention"),
    *LAYER_ROLES,
)


def depth_run(
    objective: Objective,
    layers: int,
    scale: str,
    *,
    gap: str = "gap-positive",
    model: Transformer | None = None,
    steps: int | None = None,
    precision: str = "float32",
) -> Experiment:
    """Return a run of so many layers with a residual, or of another ``model``: P = 36 on a grid, two clusters."""
    layout = PatchLayout.from_sizes(SIZES[gap], clusters=2, arrangement="contiguous", grid=(_SIDE, _SIDE))
    # each layer doubles outputs at Q = 0, and the steepness of reconstruction; contrast has its temperature for that
    slower = 1.0 if isinstance(objective, Contrastive) else 2.0 ** (layers - 1)
    rate = 2 * objective.default_learning_rate(layout) / slower
    return Experiment(
        name=f"{objective.name}-{gap}-{layers}",
        training=Training(
            generator=PatchGenerator(layout=layout),
            objective=objective,
            model=model or Transformer(layers=layers, residual=True),
            optimizer=GradientDescent(learning_rate=rate),
            steps=steps or round(200 * slower),
            precision=precision,
            seeds=tuple(range(_FIRST_SEED, _FIRST_SEED + _SEEDS[scale])),
            schedule=Schedule(frames=12),
            evaluation_samples=128,
            observables=_OBSERVABLES,
        ),
    )


def _temperature(layers: int) -> float:
    """Return the τ at which similarities at Q = 0 are those of one layer at 1: outputs are 2^L as large."""
    return 4.0**layers


def contrast_at_depth(layers: int, scale: str, **options: Any) -> Experiment:
    """Return contrast at the temperature of so many layers."""
    objective = Contrastive(temperature=_temperature(layers))
    return depth_run(objective, layers, scale, **options)


def reconstruction_at_depth(layers: int, scale: str, **options: Any) -> Experiment:
    """Return masked reconstruction by so many layers."""
    return depth_run(MaskedReconstruction(), layers, scale, **options)


def _without_residual(scale: str) -> tuple[Experiment, Experiment]:
    """Return contrast and reconstruction by two layers without a residual, at rates of two layers.

    Equal queries are then a saddle, from which round-off is led away: 200 steps of float64 are too few.
    """
    plain: dict[str, Any] = {"model": Transformer(layers=2), "steps": 200, "precision": "float64"}
    return depth_run(Contrastive(), 2, scale, **plain), reconstruction_at_depth(2, scale, **plain)


def _over_depths(scale: str, make: Callable[[int, str], tuple[Experiment, ...]]) -> tuple[Case, ...]:
    """Return cases of two layers at either sign of Δ and, at full scale, of three and four layers."""
    places = [(2, gap) for gap in SIZES] + [(layers, "gap-positive") for layers in (3, 4) if scale == "full"]
    return tuple(Case(name=f"{layers} layers, {gap}", runs=make(layers, gap)) for layers, gap in places)


def _model(spec: Spec) -> Transformer:
    return assume.transformer_of(spec) or Transformer()


def _layers(case: Case) -> int:
    return _model(case.specs[-1]).layers


def centre_of_gravity(rises: Float[np.ndarray, "*case layer"]) -> Float[np.ndarray, "*case"]:
    """Return Σ_l l r_l / Σ_l r_l, the depth at which what a loss rises by lies, 1 to L; a fall counts as none.

    NaN where the loss rises without no layer.
    Source: Tenney et al. (2019) read layers' weights so; rises of a loss in their place are ours.
    """
    kept = np.maximum(rises, 0.0)
    with np.errstate(invalid="ignore"):
        return kept @ np.arange(1, kept.shape[-1] + 1) / kept.sum(-1)


def _centre(trajectory: Trajectory, name: str) -> Float[np.ndarray, " seed"]:
    return centre_of_gravity(trajectory.final[name].transpose(SEED, LAYER).to_numpy())


def _is_at_its_temperature(spec: Spec) -> bool:
    model = _model(spec)
    expected = _temperature(model.layers if model.residual else 0)
    return getattr(spec.objective, "temperature", None) == expected


_RESIDUAL = assume.every_run("Layers add to a residual stream.", lambda spec: _model(spec).residual)
_AT_ITS_TEMPERATURE = assume.every_run(
    "Contrast has τ = 4^L, and 1 without a residual.", _is_at_its_temperature
)
_ON_SIMULATIONS = (
    *assume.SIMULATED,
    assume.ENOUGH_CLUSTERS,
    assume.THEORYS_RANGE,
    assume.every_run("Two layers or more of identity values.", lambda spec: _is_deep(_model(spec))),
)


def _is_deep(model: Transformer) -> bool:
    return model.layers > 1 and model.values == "identity" and not (model.mlp or model.norm)


def _above_margin(case: Case) -> Interval:
    return _MARGIN, inf


def _two_layers(run: Experiment, words: str, removes: Assumption | None = None) -> Control:
    return Control(name=f"2 layers, {words}", runs=(run,), removes=removes)


DEPTH_AREA = Claim(
    id="DEPTH-AREA",
    statement="Of several layers with a residual, trained by masked reconstruction, the last comes to give most of "
    "each masked patch's attention to its own area, local or global, at either sign of the information gap.",
    source="MAE-AREA, of Huang et al. (2025) on one layer; asked here of depth",
    note="claims.md#depth-area",
    assumptions=(*_ON_SIMULATIONS, assume.ONE_RUN, _RESIDUAL, assume.recording("own_area_attention")),
    surrogate="Least own-area attention of any position in the last layer after 200 · 2^(L − 1) steps at P = 36, over "
    "samples that hide the patch and show some of its area: above MAE-AREA's margin, by a 99.9 % interval over seeds. "
    "The near control has no residual.",
    symbol="min_p A_own, layer L",
    symbols={"L": "number of layers"},
    predicted=_above_margin,
    measure=at_the_end(least_own_area_attention),
    cases=lambda scale: _over_depths(
        scale, lambda layers, gap: (reconstruction_at_depth(layers, scale, gap=gap),)
    ),
    controls=lambda scale: (
        _two_layers(_without_residual(scale)[1], "mae without residual", removes=_RESIDUAL),
        _two_layers(contrast_at_depth(2, scale), "cl"),
    ),
)


def _least_of_all_layers(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    attention = trajectories[0].final["head_global_attention"]
    return over_seeds(attention.min([axis for axis in attention.dims if axis != SEED]).to_numpy())


DEPTH_GLOBAL = Claim(
    id="DEPTH-GLOBAL",
    statement="Of several layers with a residual, trained by contrast at the temperature of their depth, every one "
    "comes to give most of its attention to the global area, at either sign of the information gap.",
    source="CL-GLOBAL, of Huang et al. (2025) on one layer; asked here of depth",
    note="claims.md#depth-global",
    assumptions=(
        *_ON_SIMULATIONS,
        assume.ONE_RUN,
        _RESIDUAL,
        _AT_ITS_TEMPERATURE,
        assume.recording("head_global_attention"),
    ),
    surrogate="Least attention to the global area of any layer, in the mean over the queries of an area, after 200 "
    "steps at P = 36 and τ = 4^L: above CL-GLOBAL's margin, by a 99.9 % interval over seeds. Near controls have τ = 1, "
    "at which outputs that the residual doubles in each layer are repelled by their own cluster, and no residual, "
    "without which the first layer alone learns.",
    symbol="min_l A_global",
    symbols={"L": "number of layers"},
    predicted=_above_margin,
    measure=_least_of_all_layers,
    cases=lambda scale: _over_depths(scale, lambda layers, gap: (contrast_at_depth(layers, scale, gap=gap),)),
    controls=lambda scale: (
        _two_layers(depth_run(Contrastive(), 2, scale), "cl at τ = 1", removes=_AT_ITS_TEMPERATURE),
        _two_layers(_without_residual(scale)[0], "cl without residual", removes=_RESIDUAL),
    ),
)


def _pairs(scale: str) -> tuple[Case, ...]:
    """Return contrast and reconstruction on the same data."""
    return _over_depths(
        scale,
        lambda layers, gap: (
            contrast_at_depth(layers, scale, gap=gap),
            reconstruction_at_depth(layers, scale, gap=gap),
        ),
    )


def _contrast_earlier(case: Case) -> Interval:
    """Return the ends of c(CL) − c(MAE), (L + 1)/2 − L in the limit, with half of that as the margin on either side."""
    apart = (_layers(case) - 1) / 2
    return -1.5 * apart, -0.5 * apart


def _contrast_later(case: Case) -> Interval:
    low, high = _contrast_earlier(case)
    return -high, -low


def _centres_apart(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    contrast, reconstruction = (_centre(each, "rise_without_layer") for each in trajectories)
    return over_seeds(contrast - reconstruction)


DEPTH_ORDER = Claim(
    id="DEPTH-ORDER",
    statement="What layers with a residual bring lies earlier for contrast than for masked reconstruction: for "
    "contrast in all of them alike, for reconstruction in the last.",
    source="the opposite of Park et al. (2023), of trained ViTs; the statement on these layers is vitdyn's",
    note="claims.md#depth-order",
    assumptions=(
        *_ON_SIMULATIONS,
        assume.SAME_DATA,
        assume.CONTRAST_FIRST,
        _RESIDUAL,
        assume.recording("rise_without_layer"),
    ),
    surrogate="c = Σ_l l r_l/Σ_l r_l, r_l the loss's rise where layer l is left out (a fall counts as 0), at the end "
    "of the runs of DEPTH-AREA and DEPTH-GLOBAL: c(CL) − c(MAE) within (L − 1)/4 of −(L − 1)/2, by a 99.9 % interval "
    "over seeds. The near control has no residual: the first layer alone learns, whatever the loss.",
    symbol="c(CL) − c(MAE)",
    symbols={
        "L": "number of layers",
        "l": "a layer, counted from 1",
        "r_l": "rise of the loss where layer l is left out",
        "c": "mean layer, each weighted by what it brings",
    },
    predicted=_contrast_earlier,
    measure=_centres_apart,
    cases=_pairs,
    controls=lambda scale: (
        Control(name="2 layers without residual", runs=_without_residual(scale), removes=_RESIDUAL),
        Control(name="2 layers, the order of ViTs", runs=_pairs(scale)[0].runs, predicted=_contrast_later),
    ),
)


def _first_leads(case: Case) -> Interval:
    """Return the ends of the centre of what contrast's layers have learned, about its limit."""
    layers, training = _layers(case), case.runs[0].training
    assert isinstance(training, Training)
    layout = training.generator.layout
    return _about(contrast_rises(layers, layout.global_size / (2 * layout.patches)))


def _about(rises: Float[np.ndarray, " layer"]) -> Interval:
    centre, margin = float(centre_of_gravity(rises)), 0.1 * (len(rises) - 1)
    return centre - margin, centre + margin


def _layers_alike(case: Case) -> Interval:
    return _about(np.ones(_layers(case)))


DEPTH_FIRST = Claim(
    id="DEPTH-FIRST",
    statement="What contrast teaches a layer with a residual is worth less the later the layer is: half as much in the "
    "mean output for each layer on.",
    source="vitdyn's",
    note="claims.md#depth-first",
    assumptions=(
        *_ON_SIMULATIONS,
        assume.ONE_RUN,
        _RESIDUAL,
        _AT_ITS_TEMPERATURE,
        assume.recording("rise_of_uniform_layer"),
    ),
    surrogate="c = Σ_l l r_l/Σ_l r_l, r_l the loss's rise where layer l attends uniformly again, at the end of the "
    "runs of DEPTH-GLOBAL: within 0.1 (L − 1) of the closed form's, by a 99.9 % interval over seeds. Near controls: no "
    "residual, and the theory in which all layers count alike, c = (L + 1)/2.",
    symbol="c(CL)",
    symbols={
        "L": "number of layers",
        "l": "a layer, counted from 1",
        "r_l": "rise of the loss where layer l attends uniformly",
        "c": "mean layer, each weighted by what it brings",
    },
    predicted=_first_leads,
    measure=lambda case, runs: over_seeds(_centre(runs[0], "rise_of_uniform_layer")),
    cases=lambda scale: _over_depths(scale, lambda layers, gap: (contrast_at_depth(layers, scale, gap=gap),)),
    controls=lambda scale: (
        _two_layers(_without_residual(scale)[0], "cl without residual", removes=_RESIDUAL),
        Control(name="2 layers, all alike", runs=(contrast_at_depth(2, scale),), predicted=_layers_alike),
    ),
)
