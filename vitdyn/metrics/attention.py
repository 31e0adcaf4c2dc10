"""Measures of attention maps: distance, mutual information, entropy, concentration, deviation.

A map is (query, key), both without class and register tokens, or with ``prefix`` of them first, which are
dropped from both axes. Every measure keeps all leading axes: means over images and heads are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, nan
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer, require_real
from vitdyn.metrics.arrays import Array, as_float64, real
from vitdyn.metrics.measured import Convention, Measured, blockwise, number, one_of, resolve


@dataclass(frozen=True, kw_only=True)
class MapConvention(Convention):
    """How the rows of a map are made distributions over the keys that remain.

    ``offset`` is added to every entry; then, where ``renormalised``, a row is divided by its sum. An ``empty``
    row (no mass on the keys that remain) is "omitted" from the mean over queries, or counted as "zero"; a map
    without any row to count measures NaN.
    """

    offset: float = number(0.0, 1)
    renormalised: bool = True
    empty: str = one_of("omitted", "zero")


@dataclass(frozen=True, kw_only=True)
class DistanceConvention(MapConvention):
    """Rows, and the unit: the positions' own, or, on ``unit_square``, each coordinate divided by its range."""

    unit_square: bool = False


@dataclass(frozen=True, kw_only=True)
class EntropyConvention(MapConvention):
    """Rows, and the unit: nats, or, ``normalised``, parts of log K for K keys (0 if K = 1)."""

    normalised: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreConvention(MapConvention):
    """Rows, and what is returned of the largest scores: their "mean" or "each", the largest first."""

    returned: str = one_of("mean", "each")


@dataclass(frozen=True, kw_only=True)
class DeviationConvention(Convention):
    """Standard deviation with denominator n, or n − 1 if ``unbiased``."""

    unbiased: bool = False


DISTANCE = {
    "exact": DistanceConvention(),
    "cl-vs-mim": DistanceConvention(offset=1e-32),
    "walmer": DistanceConvention(unit_square=True, empty="zero"),
}
MUTUAL_INFORMATION = {"exact": MapConvention(), "cl-vs-mim": MapConvention(offset=1e-8)}
ENTROPY = {"exact": EntropyConvention(), "normalised": EntropyConvention(normalised=True)}
SCORES = {
    "exact": ScoreConvention(),
    "each": ScoreConvention(returned="each"),
    "huang-as-recalled": ScoreConvention(renormalised=False, empty="zero"),
}
DEVIATION = {"exact": DeviationConvention(), "walmer": DeviationConvention(unbiased=True)}

_MOST_PATCHES = 2**20


def grid_positions(rows: int, columns: int, *, pitch: float = 1.0) -> Float[Tensor, "patch 2"]:
    """Return (row, column) of each patch of a grid, row by row, in units of which a patch measures ``pitch``."""
    for field, side in (("rows", rows), ("columns", columns)):
        require_integer(field, side, at_least=1)
    require_real("pitch", pitch, low=0, high=1e9, open_low=True)
    if int(rows) * int(columns) > _MOST_PATCHES:
        raise invalid_value("rows, columns", (rows, columns), f"must be {_MOST_PATCHES} patches or fewer")
    axes = (torch.arange(side, dtype=torch.float64) for side in (rows, columns))
    return float(pitch) * torch.cartesian_prod(*axes)


def attention_distance(
    attention: Float[Array, "*batch query key"],
    positions: tuple[int, int] | Float[Array, "patch dimension"],
    *,
    pitch: float = 1.0,
    prefix: int = 0,
    convention: str | DistanceConvention = "exact",
) -> Measured:
    """Mean distance between a query and what it attends to: mean_q Σ_k a_qk ‖x_q − x_k‖, a_q the row of q.

    ``positions`` is a grid (rows, columns) with patches ``pitch`` apart (16 gives the pixels of a ViT-B/16), or
    the coordinates x themselves. Uniform attention gives the mean of all distances, identity 0. Value: (*batch).

    Conventions: ``cl-vs-mim`` (Park et al. 2023, after Raghu et al. 2021) adds 1e-32, which makes an empty row
    uniform; ``walmer`` (Walmer et al. 2023) measures on the unit square, its unit being pitch · (side − 1), and
    counts an empty row as 0. Raises ``ValueError`` if the positions are not as many as queries and keys.
    """
    convention = resolve(convention, DISTANCE)
    attention = _maps(attention, prefix)
    places = _places(positions, pitch, (attention.shape[-2] - prefix, attention.shape[-1] - prefix))
    if convention.unit_square:
        # An axis along which no two patches differ has no unit and needs none.
        extent = places.amax(0) - places.amin(0)
        places = places / torch.where(extent > 0, extent, 1.0)
    apart = torch.linalg.vector_norm(places[:, None] - places, dim=-1).to(attention.device)

    def measure(maps: Tensor) -> Tensor:
        rows, counted = _rows(maps, prefix, convention)
        return _mean_over_queries((rows * apart).sum(-1), counted)

    return Measured(blockwise(measure, attention, 2), convention)


def mutual_information(
    attention: Float[Array, "*batch query key"],
    *,
    prefix: int = 0,
    convention: str | MapConvention = "exact",
) -> Measured:
    """Normalised mutual information of query and key, I(q; k) / √(H(q) H(k)), the query drawn uniformly.

    With n counted queries of rows a_q and p_k = (1/n) Σ_q a_qk: H(q) = log n, H(k) = −Σ_k p_k log p_k,
    I = H(k) + (1/n) Σ_qk a_qk log a_qk. 0 if all queries have the same row (uniform; one key, where the
    formula says 0/0), 1 if each query has a key of its own (identity, permutation). Value: (*batch).

    Convention ``cl-vs-mim`` (Park et al. 2023) adds 1e-8 to every entry before the rows are normalised, which
    keeps identity of 196 patches below 0.999993; the rounding of its last step to float32 is left out.
    """
    convention = resolve(convention, MUTUAL_INFORMATION)
    attention = _maps(attention, prefix)

    def measure(maps: Tensor) -> Tensor:
        rows, counted = _rows(maps, prefix, convention)
        number = counted.sum(-1, dtype=torch.float64)
        keys = _entropy(rows.sum(-2) / number[..., None])
        information = (keys - _mean_over_queries(_entropy(rows), counted)).clamp_min(0)
        # One key, or rows that are all alike: the formula says 0/0, and nothing is shared.
        scale = torch.sqrt(number.log() * keys)
        return torch.where(scale == 0, 0.0, information / torch.where(scale == 0, 1.0, scale))

    return Measured(blockwise(measure, attention, 2), convention)


def attention_entropy(
    attention: Float[Array, "*batch query key"],
    *,
    prefix: int = 0,
    convention: str | EntropyConvention = "exact",
) -> Measured:
    """Mean entropy of a query's row, mean_q −Σ_k a_qk log a_qk: log K if uniform, 0 if one key takes all.

    Value: (*batch), in nats or (``normalised``) in parts of log K.
    """
    convention = resolve(convention, ENTROPY)
    attention = _maps(attention, prefix)
    keys = attention.shape[-1] - prefix
    unit = (log(keys) if keys > 1 else 1.0) if convention.normalised else 1.0

    def measure(maps: Tensor) -> Tensor:
        rows, counted = _rows(maps, prefix, convention)
        return _mean_over_queries(_entropy(rows), counted) / unit

    return Measured(blockwise(measure, attention, 2), convention)


def top_key_scores(
    attention: Float[Array, "*batch query key"],
    *,
    top: int,
    prefix: int = 0,
    convention: str | ScoreConvention = "exact",
) -> Measured:
    """How far different queries concentrate on the same keys: the ``top`` largest of s_k = mean_q a_qk.

    Lower means more diverse. Uniform and permutation attention give 1/K alike (use
    :func:`mutual_information` to tell them apart), one key that takes all gives a mean of 1/top. ``top`` larger
    than the number K of keys counts all K. Value: (*batch), or (*batch, top) where each score is ``returned``.

    Source: after appendix B of Huang et al. (arXiv 2403.02233), as recalled. That it asks whether queries
    concentrate on the same regions is certain; the average over queries first, the number (ten) and the mean
    over the largest are not. ``huang-as-recalled`` leaves rows as they are after tokens are dropped.
    """
    convention = resolve(convention, SCORES)
    require_integer("top", top, at_least=1)
    attention = _maps(attention, prefix)
    keys = attention.shape[-1] - prefix

    def measure(maps: Tensor) -> Tensor:
        rows, counted = _rows(maps, prefix, convention)
        scores = rows.sum(-2) / counted.sum(-1, dtype=torch.float64)[..., None]
        largest = scores.topk(min(top, keys), dim=-1).values
        return largest.mean(-1) if convention.returned == "mean" else largest

    return Measured(blockwise(measure, attention, 2), convention)


def top_key_concentration(
    attention: Float[Array, "*batch query key"], *, top: int = 10
) -> Float[Tensor, "*batch"]:
    """Mean of the ``top`` largest key scores, as in :func:`top_key_scores`, as a bare tensor of the input's type.

    This is what a run records: rows are taken as they are, the type is kept (float64 for whole numbers) and nothing
    else is returned. A run that is about to diverge must not end here: a map that is not finite has NaN.
    """
    require_integer("top", top, at_least=1)
    attention = real("attention", attention, "query key", (1, 1), finite=False)
    scores = (attention if attention.is_floating_point() else attention.double()).mean(-2)
    largest = scores.topk(min(top, scores.shape[-1]), dim=-1).values.mean(-1)
    return largest.where(scores.isfinite().all(-1), nan)


def head_deviation(
    attention: Float[Array, "*batch head query key"],
    *,
    prefix: int = 0,
    convention: str | DeviationConvention = "exact",
) -> Measured:
    """Mean over (query, key) of the standard deviation over heads: 0 if all heads agree. Value: (*batch).

    Rows are taken as they are. Source: Walmer et al. (2023), whose denominator is n − 1 (``walmer``).
    """
    convention = resolve(convention, DEVIATION)
    require_integer("prefix", prefix, at_least=0)
    # A denominator of n − 1 asks for two heads.
    least = (1 + convention.unbiased, int(prefix) + 1, int(prefix) + 1)
    attention = real("attention", attention, "head query key", least)

    def measure(maps: Tensor) -> Tensor:
        return _deviation(maps[..., prefix:, prefix:], -3, convention).mean((-2, -1))

    return Measured(blockwise(measure, attention, 3), convention)


def position_deviation(
    attention: Float[Array, "*batch query key"],
    *,
    prefix: int = 0,
    convention: str | DeviationConvention = "exact",
) -> Measured:
    """Mean over keys of the standard deviation over queries: 0 if all queries have the same row. Value: (*batch).

    Permutation gives √(K − 1)/K. Rows are taken as they are. Source: as :func:`head_deviation`.
    """
    convention = resolve(convention, DEVIATION)
    require_integer("prefix", prefix, at_least=0)
    attention = real(
        "attention", attention, "query key", (int(prefix) + 1 + convention.unbiased, int(prefix) + 1)
    )

    def measure(maps: Tensor) -> Tensor:
        return _deviation(maps[..., prefix:, prefix:], -2, convention).mean(-1)

    return Measured(blockwise(measure, attention, 2), convention)


def _maps(attention: Array, prefix: int) -> Tensor:
    """Return maps of which queries and keys remain; raise unless they are weights."""
    require_integer("prefix", prefix, at_least=0)
    return real("attention", attention, "query key", (int(prefix) + 1, int(prefix) + 1), negative=False)


def _rows(maps: Tensor, prefix: int, convention: MapConvention) -> tuple[Tensor, Tensor]:
    """Return rows (batch, query, key), 0 where empty, and which of them count (batch, query)."""
    maps = maps[:, prefix:, prefix:]
    maps = maps + convention.offset if convention.offset else maps
    # An offset counts as mass: with one no row is empty.
    mass = maps.sum(-1)
    empty = mass == 0
    if convention.renormalised:
        maps = maps / torch.where(empty, 1.0, mass)[..., None]
    return maps, ~empty if convention.empty == "omitted" else torch.ones_like(empty)


def _entropy(weights: Tensor) -> Tensor:
    """Return −Σ p log p over the last axis, 0 log 0 = 0; several times faster than torch's own ``entr``."""
    # The smallest number in place of 0 has a finite logarithm, which 0 then multiplies.
    return -weights.clamp_min(torch.finfo(weights.dtype).tiny).log_().mul_(weights).sum(-1)


def _mean_over_queries(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean over the queries that count; an omitted row measures 0 and adds nothing."""
    number = counted.sum(-1)
    return torch.where(number > 0, values.sum(-1) / number.clamp_min(1), nan)


def _places(positions: tuple[int, int] | Array, pitch: float, patches: tuple[int, int]) -> Tensor:
    """Return the coordinates of as many patches as there are queries and keys."""
    if isinstance(positions, tuple | list) and [isinstance(each, Real) for each in positions] == [True, True]:
        places = grid_positions(*positions, pitch=pitch)
    else:
        require_real("pitch", pitch, low=0, high=1e9, open_low=True)
        places = float(pitch) * as_float64("positions", positions, "patch dimension", (1, 1))
    if places.ndim != 2 or (len(places), len(places)) != patches:
        raise invalid_value(
            "positions", tuple(places.shape), f"must place {patches[0]} queries and {patches[1]} keys"
        )
    return places


def _deviation(maps: Tensor, axis: int, convention: DeviationConvention) -> Tensor:
    """Return the standard deviation along ``axis``; exactly 0 where nothing varies."""
    # Less the first entry before the mean: what does not vary leaves no round-off.
    shifted = maps - maps.narrow(axis, 0, 1)
    shifted -= shifted.mean(axis, keepdim=True)
    return (shifted.square_().sum(axis) / (maps.shape[axis] - convention.unbiased)).sqrt_()
