"""Heads from a random start: where reconstruction and contrast take them, how far they part, and that they copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor

from vitdyn.claims import assumptions as assume
from vitdyn.claims.assumptions import Spec
from vitdyn.claims.claim import Case, Claim, Control, Interval, Measurement, moved
from vitdyn.claims.flows import always
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.limits import at_the_end
from vitdyn.data import AreaSizes, Constant, PatchGenerator, PatchLayout
from vitdyn.dynamics import Adam, GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.models import Transformer, area_attention_of
from vitdyn.models.model import ATTENTION_MAPS
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective
from vitdyn.observables import (
    ModelState,
    Observable,
    least_global_attention,
    least_own_area_attention,
)
from vitdyn.theory import disorder_size, parting_size
from vitdyn.trajectory import Trajectory

_MAE, _CL = MaskedReconstruction(), Contrastive()
_SEEDS = {"quick": tuple(range(10, 22)), "full": tuple(range(10, 42))}
_EXPONENTS = {"gap-positive": (0.9, 0.4), "gap-negative": (0.6, 0.4)}
"""(κ_c, κ_s), Δ = 0.4 and −0.2: areas of 23 and 8 patches beside some of 4."""
_PATCHES, _STEPS = 32, 200
_BELOW, _ABOVE, _FAR_ABOVE = 0.4, 2.0, 4.0
"""Sizes σ of the initial entries: below ``disorder_size`` of these layouts, and above it."""
_LEARNED = 0.8
"""The margin of MAE-AREA and CL-GLOBAL."""


@dataclass(frozen=True)
class HeadGap:
    """How far heads' log odds of own-area attention lie apart: √(mean of (l_h − l_h')²) over local queries and pairs.

    Of each query and head A is the mean over the samples that mask the query and show some of its area.
    """

    def __call__(self, state: ModelState) -> Tensor:
        """Return the gap of each seed, over heads of the last layer."""
        batch, view = state.batch, state.views[0]
        maps = state.head_maps(slice(None))[:, :, -1]
        attention = area_attention_of(maps, batch, view)
        own = (attention * batch.membership[:, :, None].to(attention)).sum(3)
        counted = (state.masks[0] & batch.own_area_visible(view))[:, :, None].to(own)
        share = (own * counted).sum(1) / counted.sum(1)
        local = torch.from_numpy(batch.layout.area_of_patch[0]) > 0
        # pairs of H heads: E (l − l')² is twice the unbiased variance
        return (2 * torch.logit(share[..., local.to(share.device)]).var(1)).nanmean(-1).sqrt()


HEAD_GAP = Observable(
    name="head_gap",
    compute=HeadGap(),
    symbol="δ",
    meaning="distance of two heads' log odds of own-area attention, root mean square over local queries",
    may_be_missing=True,
    needs=ATTENTION_MAPS,
)


def heads_run(
    objective: Objective,
    layout: PatchLayout,
    seeds: Sequence[int],
    *,
    size: float,
    heads: int = 2,
    values: str = "identity",
    steps: int = _STEPS,
    **fields: Any,
) -> Experiment:
    """Return a run of heads whose entries start from N(0, size²), by plain descent at H times the usual rate.

    Each head's gradient is 1/H of one head's, so that H heads take as many steps as one.
    """
    rate = heads * objective.default_learning_rate(layout)
    training = Training(
        model=Transformer(heads=heads, initial_scale=size, values=values),
        objective=objective,
        seeds=tuple(seeds),
        steps=steps,
        **{
            "generator": PatchGenerator(layout=layout),
            "optimizer": GradientDescent(learning_rate=rate),
            "batch_size": 16,
            "schedule": Schedule(frames=3),
            **fields,
        },
    )
    return Experiment(name=f"{objective.name}-heads-{heads}-{size:.3g}", training=training)


def _layout(gap: str, clusters: int) -> PatchLayout:
    return PatchLayout.from_exponents(_PATCHES, *_EXPONENTS[gap], clusters=clusters)


def _is_below_disorder(spec: Spec) -> bool:
    model = assume.transformer_of(spec)
    sizes = assume.sizes_of(spec)
    return model is not None and model.initial_scale < disorder_size(sizes, assume.distribution_of(spec)).low


_HEADS = assume.of_transformer(
    "One layer of two heads or more.", lambda model: model.layers == 1 and model.heads > 1
)
_SHARED = assume.of_transformer("Values are the identity.", lambda model: model.values == "identity")
_ORDERED = assume.every_run("σ is below that of disorder.", _is_below_disorder)
_ASSUMED = (
    assume.ONE_RUN,
    *assume.SIMULATED,
    _HEADS,
)


def _case(objective: Objective, gap: str, scale: str, *, heads: int = 2, size: float = _BELOW) -> Case:
    clusters = 1 if objective == _MAE else 2
    run = heads_run(objective, _layout(gap, clusters), _SEEDS[scale], size=size, heads=heads)
    return Case(name=f"{objective.name}, {gap}, H = {heads}, σ = {size:g}", runs=(run,))


def _cases(objective: Objective, scale: str) -> tuple[Case, ...]:
    quick = (_case(objective, "gap-positive", scale), _case(objective, "gap-negative", scale, heads=4))
    more = (_case(objective, "gap-positive", scale, heads=8), _case(objective, "gap-negative", scale))
    return quick if scale == "quick" else (*quick, *more)


def _controls(objective: Objective, other: Objective, scale: str) -> tuple[Case, ...]:
    """Return heads that start from disorder, and the other objective."""
    disordered = _case(objective, "gap-positive", scale, size=_FAR_ABOVE)
    control = Control(name=disordered.name, runs=disordered.runs, removes=_ORDERED)
    return control, _case(other, "gap-positive", scale)


_SURROGATE = (
    f"after {_STEPS} steps at P = {_PATCHES}, H times the usual rate, σ = {_BELOW:g}, above {_LEARNED:g} by a 99.9 % "
    f"interval over seeds. Controls: σ = {_FAR_ABOVE:g}; the other objective."
)

HEADS_AREA = Claim(
    id="HEADS-AREA",
    statement="Several heads that start at random below the size of disorder learn by masked reconstruction what one "
    "does: their mean gives every masked patch's own area most of its attention.",
    source="vitdyn's own: MAE-AREA on heads",
    note="claims.md#heads-area-and-heads-global",
    assumptions=(
        *_ASSUMED,
        _SHARED,
        _ORDERED,
        assume.THEORYS_RANGE,
        assume.recording("own_area_attention"),
    ),
    surrogate=f"The least own-area attention of any position, mean over heads, {_SURROGATE}",
    symbol="min_p A_own",
    symbols={"σ": "standard deviation of the entries at the start"},
    predicted=lambda case: (_LEARNED, inf),
    measure=at_the_end(least_own_area_attention),
    cases=lambda scale: _cases(_MAE, scale),
    controls=lambda scale: _controls(_MAE, _CL, scale),
)

HEADS_GLOBAL = Claim(
    id="HEADS-GLOBAL",
    statement="Several heads that start at random below the size of disorder collapse by contrast as one does: their "
    "mean gives the global area most of every patch's attention.",
    source="vitdyn's own: CL-GLOBAL on heads",
    note="claims.md#heads-area-and-heads-global",
    assumptions=(
        *_ASSUMED,
        _SHARED,
        _ORDERED,
        assume.THEORYS_RANGE,
        assume.ENOUGH_CLUSTERS,
        assume.recording("area_attention"),
    ),
    surrogate=f"The least attention of any position to the global area, mean over heads, {_SURROGATE}",
    symbol="min_p A_global",
    symbols={"σ": "standard deviation of the entries at the start"},
    predicted=lambda case: (_LEARNED, inf),
    measure=at_the_end(least_global_attention),
    cases=lambda scale: _cases(_CL, scale),
    controls=lambda scale: _controls(_CL, _MAE, scale)[:1],
)

_LEFT = 0.4


def _kept(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    """Return the share of the heads' first specialisation that is left at the end."""
    share = trajectories[0]["head_specialisation"].isel(layer=0).to_numpy()
    return over_seeds(share[-1] / share[0])


def _specialised(objective: Objective, scale: str, **fields: Any) -> Case:
    layout = _layout("gap-positive", 1 if objective == _MAE else 2)
    fields = {"size": _ABOVE, "observables": ("head_specialisation",), **fields}
    run = heads_run(objective, layout, _SEEDS[scale], **fields)
    return Case(name=f"{objective.name}, σ = {_ABOVE:g}", runs=(run,))


def _by_adam(objective: Objective, scale: str, values: str = "identity") -> Case:
    case = _specialised(objective, scale, values=values, steps=300, optimizer=Adam(learning_rate=0.1))
    return Case(name=f"{case.name}, by Adam, {values} values", runs=case.runs)


def _of_their_own(scale: str) -> Control:
    case = _by_adam(_CL, scale, "scalar")
    return Control(name=case.name, runs=case.runs, removes=_SHARED)


HEADS_COPY = Claim(
    id="HEADS-COPY",
    statement="Heads whose outputs are averaged become copies of each other even where a start of the size of disorder "
    "had most queries' heads attend most to different areas: none has a reason of its own to differ.",
    source="vitdyn's own",
    note="claims.md#heads-copy",
    assumptions=(*_ASSUMED, _SHARED, assume.recording("head_specialisation")),
    surrogate=f"Share of queries for which two heads attend most to different areas, σ = {_ABOVE:g}, P = {_PATCHES}: "
    f"after {_STEPS} steps (300 by Adam) less than {_LEFT:g} of what it was at first, by a 99.9 % interval over seeds. "
    "Controls: contrast with a value of each feature trained by each head; reconstruction after 5 steps.",
    symbol="s_h(end)/s_h(0)",
    symbols={
        "σ": "standard deviation of the entries at the start",
        "s_h": "share of queries for which two heads attend most to different areas",
    },
    predicted=lambda case: (-inf, _LEFT),
    measure=_kept,
    cases=lambda scale: (_specialised(_MAE, scale), _specialised(_CL, scale), _by_adam(_CL, scale)),
    controls=lambda scale: (
        _of_their_own(scale),
        Control(name=f"mae, σ = {_ABOVE:g}, 5 steps", runs=_specialised(_MAE, scale, steps=5).runs),
    ),
)

_PART = 0.25
"""σ, in units of ``parting_size``."""
_PART_MARGIN, _NO_GROWTH_MARGIN = 0.3, 0.2
_PART_SEEDS = {"quick": tuple(range(10, 30)), "full": tuple(range(10, 42))}
_AREAS = {"quick": ((32, 16, 16),), "full": ((32, 16, 16), (48, 24, 24))}
_Z = Constant(value=1.25)


def _is_small(spec: Spec) -> bool:
    model, sizes = assume.transformer_of(spec), assume.sizes_of(spec)
    # an area of one patch has no key for its own query, and no distance
    if model is None or sizes.local_size < 2:
        return False
    return model.initial_scale <= parting_size(sizes, _Z) / 2


def _parting(scale: str, areas: tuple[int, ...], heads: int) -> Case:
    layout = PatchLayout.from_sizes(areas)
    run = heads_run(
        _MAE,
        layout,
        _PART_SEEDS[scale],
        size=_PART * parting_size(AreaSizes.of(layout), _Z),
        heads=heads,
        steps=60,
        generator=PatchGenerator(layout=layout, latents=_Z),
        optimizer=GradientDescent(learning_rate=heads),
        schedule=Schedule(spacing="linear", frames=21),
        observables=(HEAD_GAP,),
    )
    return Case(name=f"mae, areas of {areas[1]} patches, H = {heads}", runs=(run,))


def _partings(scale: str) -> tuple[Case, ...]:
    heads = (2,) if scale == "quick" else (2, 4)
    return tuple(_parting(scale, areas, each) for areas in _AREAS[scale] for each in heads)


def _size_of(case: Case) -> float:
    """Return σ/σ_part, the predicted distance."""
    (spec,) = case.specs
    model = assume.transformer_of(spec)
    assert model is not None
    return model.initial_scale / float(parting_size(assume.sizes_of(spec), _Z))


def _farthest(case: Case, trajectories: tuple[Trajectory, ...]) -> Measurement:
    return over_seeds(trajectories[0]["head_gap"].to_numpy().max(0) / _size_of(case))


def _without_growth(case: Case) -> Interval:
    """Return the prediction of heads that keep their distance: 4A_0(1 − A_0) of the theory's."""
    sizes = assume.sizes_of(case.specs[0])
    start = 0.5 * sizes.local_size / sizes.patches
    level = 4 * start * (1 - start)
    return level - _NO_GROWTH_MARGIN, level + _NO_GROWTH_MARGIN


_near_one = always(1.0, _PART_MARGIN)

HEADS_PART = Claim(
    id="HEADS-PART",
    statement="Heads that start a little apart part on their way and meet again: their logits to a query's own area "
    "are farthest apart when half its attention is there, by σ/σ_part, σ_part = 4A_0(1 − A_0)/√(2(m_2 + 1/V)).",
    source="vitdyn's own, leading order in the size of an area",
    note="claims.md#heads-part",
    assumptions=(
        *_ASSUMED,
        _SHARED,
        assume.every_run("Latents are 1.25.", lambda spec: assume.distribution_of(spec) == _Z),
        assume.every_run("Areas of two patches or more, σ at most half of σ_part.", _is_small),
        assume.recording("head_gap"),
    ),
    surrogate="The largest root-mean-square distance over 60 steps at P = 64, areas of 16 patches, z = 1.25, over the "
    f"formula: within {_PART_MARGIN:g} of 1 by a 99.9 % interval over seeds. Controls: heads that keep their first "
    "distance, 4A_0(1 − A_0) of it; a distance larger by twice the margin.",
    symbol="max_t δ/(σ/σ_part)",
    symbols={
        "σ": "standard deviation of the entries at the start",
        "σ_part": "standard deviation from which heads part by one unit",
        "δ": "root-mean-square distance of two heads' logits to a query's own area",
        "A_0": "attention to the own area at Q = 0",
        "V": "mean visible patches of an area",
    },
    predicted=_near_one,
    measure=_farthest,
    cases=_partings,
    controls=lambda scale: (
        Control(
            name=f"{_partings(scale)[0].name}, no growth",
            runs=_partings(scale)[0].runs,
            predicted=_without_growth,
        ),
        *moved(_partings(scale)[:1], _near_one, 2 * _PART_MARGIN, "farther by 0.6"),
    ),
)
