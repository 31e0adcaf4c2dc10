"""What a model has learned, read from its area attention: who attends to what, and the regime that it is in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitdyn._axes import CLUSTER, GLOBAL_AREA, KEY_AREA, QUERY_AREA
from vitdyn._errors import as_tuple, require_integer, require_kind, require_real, require_sequence
from vitdyn.trajectory import Trajectory

REGIMES = ("local", "global", "spread", "other", "mixed", "collapsed", "unmoved")
_LOCAL, _GLOBAL, _SPREAD, _OTHER = range(4)
_ABSENT = -1

SHARE = 0.5
"""More than this share of its attention goes to an area: more than half, so that at most one area can have it."""
MOVED = 0.1
"""At most this share of the attention has changed its place since the start; to learn an area takes far more."""
VANISHED = 0.1
"""Attention to visible patches has fallen below this part of what it was at the start, and pooled outputs with it."""
SETTLED = 0.05
"""At most this share of the attention changed its place in the second half of the run: a tenth of ``SHARE``."""
THRESHOLDS = {"share": SHARE, "moved": MOVED, "vanished": VANISHED, "settled": SETTLED}
"""Written down before any map of regimes was made; ``regime_sensitivity`` says what would change with others."""


class LearnedRegime(NamedTuple):
    """What a seed has learned: one of ``REGIMES``, and whether that ``is_final`` or still moves."""

    kind: str
    is_final: bool

    def __str__(self) -> str:
        return self.kind if self.is_final else f"{self.kind}, still moving"


def least_own_area_attention(trajectory: Trajectory) -> Float[np.ndarray, "frame seed"]:
    """Return the least own-area attention of any position, at each frame of each seed.

    A position's value is its mean over the evaluation samples that count it and show some of its area.
    """
    require_kind("trajectory", trajectory, Trajectory)
    least = trajectory["own_area_attention"].sel(statistic="minimum")
    return least.min((CLUSTER, QUERY_AREA)).to_numpy()


def least_global_attention(trajectory: Trajectory) -> Float[np.ndarray, "frame seed"]:
    """Return the least attention to the global area of any position, each in its mean over samples."""
    return least_area_attention(trajectory, GLOBAL_AREA)


def least_area_attention(trajectory: Trajectory, area: int) -> Float[np.ndarray, "frame seed"]:
    """Return the least attention to an area, by its index, of any position, each in its mean over samples."""
    require_kind("trajectory", trajectory, Trajectory)
    attention = trajectory["area_attention"]
    require_integer("area", area, at_least=0, at_most=attention.sizes[KEY_AREA] - 1)
    least = attention.sel(statistic="minimum").isel({KEY_AREA: area})
    return least.min((CLUSTER, QUERY_AREA)).to_numpy()


def local_own_area_attention(trajectory: Trajectory) -> Float[np.ndarray, "frame seed"]:
    """Return the attention of local queries to their own area, in the mean over areas, at each frame of each seed."""
    require_kind("trajectory", trajectory, Trajectory)
    own = trajectory["own_area_attention"].sel(statistic="mean")
    return own.isel({QUERY_AREA: slice(GLOBAL_AREA + 1, None)}).mean((CLUSTER, QUERY_AREA)).to_numpy()


def learned_regime(
    trajectory: Trajectory,
    *,
    share: float = SHARE,
    moved: float = MOVED,
    vanished: float = VANISHED,
    settled: float = SETTLED,
) -> tuple[LearnedRegime, ...]:
    """Return each seed's regime at the last frame: what the queries of local areas attend to, and if that is final.

    Read off attention by area, in the mean over the queries of each local area and over samples:

    - "unmoved": no more than ``moved`` of their attention has changed its place since the first frame;
    - "collapsed": all queries attend to visible patches by less than ``vanished`` of what they did at first;
    - "local", "global": the queries of every local area give more than ``share`` of their attention to their own
      area, to the global area; "other": to a third one, or, in a cluster, all to one and the same local area;
    - "spread": no local area's queries give that much to any area;  "mixed": areas or clusters differ.

    Attention moves by ½ Σ_j |ΔA_j|, masked patches counted as one area more, in the mean over local areas. A regime is
    final if no more than ``settled`` of it moved from the second quarter of the run's time to the second half, each in
    the mean over its frames; an "unmoved" one, if Φ, too, changed by no more than that part of its size, and never of a
    model without Φ, whose move may yet come. Without a frame in the second quarter no regime is called final.

    Of a model of several layers and heads this is what the last layer's heads attend to in their mean.

    Pooled outputs F = Σ_j z_j Ā_j v_j of two clusters are orthogonal, and z_j is positive: they can only be alike where
    Ā vanishes. Collapse onto one direction within a cluster is attention to one area, "global" or "other".

    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> training = vd.Training(generator=generator, objective=vd.MaskedReconstruction(), steps=400, seeds=2)
    >>> print(*vd.learned_regime(vd.simulate(training)), sep="; ")
    local; local
    """
    require_kind("trajectory", trajectory, Trajectory)
    for name, value in (("share", share), ("moved", moved), ("vanished", vanished), ("settled", settled)):
        require_real(name, value, low=0.0, high=1.0)
    attention = _attention(trajectory)
    shown = np.nansum(attention, -1)
    has_vanished = (shown[-1] <= vanished * shown[0]).all((1, 2))
    has_moved = _distance(attention[-1], attention[0]) > moved
    is_final = _is_settled(trajectory, attention, has_moved, settled)
    found = []
    for seed, kinds in enumerate(_kinds(attention[-1], share)):
        present = np.unique(kinds[kinds != _ABSENT])
        kind = REGIMES[present[0]] if len(present) == 1 else "mixed"
        kind = "collapsed" if has_vanished[seed] else kind if has_moved[seed] else "unmoved"
        found.append(LearnedRegime(kind, bool(is_final[seed])))
    return tuple(found)


def regime_sensitivity(
    trajectories: Iterable[Trajectory], *, factors: Sequence[float] = (0.5, 0.8, 1.2, 1.5)
) -> dict[tuple[str, float], tuple[int, int]]:
    """Return, by threshold and factor, how many seeds change their regime, and how many whether it is final.

    Each of ``THRESHOLDS`` is multiplied with each factor, the others left as they are.
    """
    runs = as_tuple("trajectories", trajectories, Trajectory)
    require_sequence("factors", factors, "numbers")
    for factor in factors:
        require_real("factors", factor, low=0.0, high=2.0)
    usual = [each for run in runs for each in learned_regime(run)]
    found = {}
    for name, factor in product(THRESHOLDS, factors):
        moved = [each for run in runs for each in learned_regime(run, **{name: THRESHOLDS[name] * factor})]
        pairs = list(zip(usual, moved, strict=True))
        kinds = sum(one.kind != other.kind for one, other in pairs)
        found[name, factor] = kinds, sum(one.is_final != other.is_final for one, other in pairs)
    return found


def attention_moved(trajectory: Trajectory) -> Float[np.ndarray, "frame seed"]:
    """Return how much of the attention of local areas' queries has changed its place since the start."""
    require_kind("trajectory", trajectory, Trajectory)
    attention = _attention(trajectory)
    return _distance(attention, attention[:1])


def _attention(trajectory: Trajectory) -> Float[np.ndarray, "frame seed cluster query_area key_area"]:
    """Return A, on the diagonal over those samples alone that show some of the own area: others would count against it.

    NaN for an area that does not exist, or of which no sample shows any.
    """
    attention = trajectory["area_attention"].sel(statistic="mean").to_numpy().copy()
    areas = np.arange(attention.shape[-1])
    attention[..., areas, areas] = trajectory["own_area_attention"].sel(statistic="mean").to_numpy()
    return attention


def _distance(after: np.ndarray, before: np.ndarray) -> Float[np.ndarray, "... seed"]:
    """Return ½ Σ_j |ΔA_j| + ½ |Σ_j ΔA_j|, masked patches being one area more, in the mean over local areas."""
    change = (after - before)[..., GLOBAL_AREA + 1 :, :]
    exists = ~np.isnan(change).all(-1)
    moved = 0.5 * (np.nansum(np.abs(change), -1) + np.abs(np.nansum(change, -1)))
    return (moved * exists).sum((-2, -1)) / exists.sum((-2, -1)).clip(min=1)


def _is_settled(
    trajectory: Trajectory, attention: np.ndarray, has_moved: np.ndarray, settled: float
) -> np.ndarray:
    """Return of which seeds attention, and Φ of those whose attention is where it was, moves no more."""
    time = trajectory["time"].to_numpy()
    late = time > time[-1] / 2
    before = (time > time[-1] / 4) & ~late
    if not before.any():
        return np.zeros(len(has_moved), dtype=bool)
    rests = np.zeros(len(has_moved), dtype=bool)
    if "feature_position" in trajectory.dataset:
        phi = trajectory["feature_position"].sel(statistic="mean").to_numpy()
        change = np.abs(phi[late].mean(0) - phi[before].mean(0)), settled * np.abs(phi[-1])
        growth, allowed = (np.nan_to_num(each).reshape(len(has_moved), -1).max(-1) for each in change)
        rests = growth <= allowed
    # means over frames: each frame has an evaluation batch of its own, whose masks move attention by chance
    moves = _distance(attention[late].mean(0), attention[before].mean(0))
    return (moves <= settled) & (has_moved | rests)


def _kinds(attention: Float[np.ndarray, "seed cluster query_area key_area"], share: float) -> np.ndarray:
    """Return where the queries of each local area attend to; ``_ABSENT`` for an area that does not exist."""
    areas = np.arange(GLOBAL_AREA + 1, attention.shape[-1])
    local = attention[:, :, areas]
    unseen = np.isnan(local[..., areas - 1, areas])
    local = np.nan_to_num(local, nan=-1.0)
    target = local.argmax(-1)
    kinds = np.select([target == GLOBAL_AREA, target == areas], [_GLOBAL, _LOCAL], _OTHER)
    has_target = local.max(-1) > share
    kinds = np.where(has_target, kinds, np.where(unseen, _ABSENT, _SPREAD))
    # all to one local area: for that area's own queries, too, it is not theirs that is learned
    for place in np.ndindex(kinds.shape[:2]):
        exists = kinds[place] != _ABSENT
        targets = np.unique(target[place][exists])
        if has_target[place][exists].all() and exists.sum() > 1 and len(targets) == 1 and targets[0]:
            kinds[place][exists] = _OTHER
    return kinds
