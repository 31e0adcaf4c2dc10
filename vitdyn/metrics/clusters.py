"""CLID: how learnable the clusters of a representation are, and how many dimensions it has."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer
from vitdyn.metrics.arrays import Array, as_float64, require_alike
from vitdyn.metrics.measured import Convention, Measured, number, one_by_one, one_of, product_error, resolve
from vitdyn.metrics.neighbours import nearest


@dataclass(frozen=True, kw_only=True)
class DimensionConvention(Convention):
    """Fit of the law of ratios: by "likelihood", or by "regression" after the share ``discarded`` of the largest."""

    fit: str = one_of("likelihood", "regression")
    discarded: float = number(0.0, 1, open_high=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fit == "likelihood" and self.discarded:
            raise invalid_value("discarded", self.discarded, "must be 0 with the likelihood")


@dataclass(frozen=True, kw_only=True)
class LearnabilityConvention(Convention):
    """Which samples predict a sample: all "others", or only those "earlier" in the given order."""

    known: str = one_of("others", "earlier")


DIMENSION = {
    "exact": DimensionConvention(),
    "facco": DimensionConvention(fit="regression", discarded=0.1),
}
LEARNABILITY = {"exact": LearnabilityConvention(), "prequential": LearnabilityConvention(known="earlier")}
COMBINATION = {"exact": Convention()}


def intrinsic_dimension(
    features: Float[Array, "*batch sample feature"], *, convention: str | DimensionConvention = "exact"
) -> Measured:
    """TwoNN: the dimension d for which ratios μ = r₂/r₁ of each sample's two nearest distances have P(μ > x) = x^−d.

    "likelihood": d = n/Σ log μ_i. ``facco`` (Facco et al. 2017): the least squares through 0 of −log(1 − i/n) on the
    i-th smallest log μ, without the largest tenth. Samples that have a duplicate (r₁ = 0) are left out. ∞ if every
    r₂ = r₁, NaN if no sample is left (no point of the fit, which has one less). Value: (*batch).
    """
    convention = resolve(convention, DIMENSION)
    rows = as_float64("features", features, "sample feature", (3, 1)).detach()
    return Measured(one_by_one(lambda one: _two_nearest(one, convention), [rows], [2]), convention)


def k_means(
    features: Float[Array, "sample feature"], clusters: int, *, seed: int, steps: int = 300
) -> Int[Tensor, " sample"]:
    """Return the cluster of each sample: Lloyd's iteration from k-means++ starts, until no sample moves.

    It stops after ``steps`` even so. A cluster that loses all samples keeps its centre. All draws come from ``seed``.
    (scikit-learn moves a cluster that loses all samples, and draws its starts otherwise: its clusters are others.)
    """
    rows = as_float64("features", features, "sample feature", (1, 1)).detach()
    require_integer("clusters", clusters, at_least=1)
    require_integer("steps", steps, at_least=1)
    require_integer("seed", seed, at_least=0)
    if rows.ndim != 2 or clusters > len(rows):
        raise invalid_value(
            "clusters", clusters, f"must be at most the number of samples of (sample, feature), {len(rows)}"
        )
    # Distances by products keep most digits near the origin.
    rows = rows - rows.mean(0)
    centres = rows[_spread_out(rows, clusters, np.random.default_rng(seed))]
    label = torch.full((len(rows),), -1, device=rows.device)
    for _ in range(steps):
        moved = _closest(rows, centres)
        # From here on every step would be this one again.
        if torch.equal(moved, label):
            break
        label = moved
        size = torch.bincount(label, minlength=clusters)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, label, rows)
        centres = torch.where(size > 0, sums / size.clamp_min(1), centres)
    return label


def cluster_learnability(
    features: Float[Array, "*batch sample feature"],
    *,
    clusters: int,
    seed: int,
    convention: str | LearnabilityConvention = "exact",
) -> Measured:
    """Share of samples whose k-means cluster their nearest neighbour has too. Value: (*batch), 0 to 1.

    ``exact`` lets all other samples predict. ``prequential`` lets only earlier ones: the first sample is not counted,
    and the value is the speed at which the clusters are learned as samples arrive in the given order.

    Source: Lu et al. (2022, arXiv 2206.01251), of which the abstracts were at hand: the first version speaks of the
    learning speed, the later one of the accuracy of a nearest-neighbour classifier on k-means labels. One neighbour,
    Euclidean distance and the number of clusters are choices made here.
    """
    convention = resolve(convention, LEARNABILITY)
    rows = as_float64("features", features, "sample feature", (2, 1)).detach()

    def predicted(one: Tensor) -> Tensor:
        label = k_means(one, clusters, seed=seed)
        near = nearest(one, one, 1, known=convention.known)
        # The first sample has none before it, and so no neighbour.
        counted = near.distance[:, 0] < inf
        return (label[near.row[:, 0]] == label)[counted].to(torch.float64).mean()

    return Measured(one_by_one(predicted, [rows], [2]), convention)


def clid(
    learnability: Float[Array, "*batch model"],
    dimension: Float[Array, "*batch model"],
    *,
    convention: str | Convention = "exact",
) -> Measured:
    """CLID of several models: learnability and intrinsic dimension, each standardised over the models, added.

    Value: (*batch, model): a comparison among these models, no property of one of them. A number that all models share
    adds 0. Source: Lu et al. (2022), as recalled.
    """
    convention = resolve(convention, COMBINATION)
    first = as_float64("learnability", learnability, "model", (1,))
    second = as_float64("dimension", dimension, "model", (1,), beside=first)
    if first.shape[-1] != second.shape[-1]:
        raise invalid_value("dimension", tuple(second.shape), f"must be of the same {first.shape[-1]} models")
    require_alike("dimension", second.shape, first.shape)
    return Measured(_standardised(first) + _standardised(second), convention)


def _standardised(values: Tensor) -> Tensor:
    shifted = values - values[..., :1]
    shifted = shifted - shifted.mean(-1, keepdim=True)
    scale = shifted.square().mean(-1, keepdim=True).sqrt()
    return shifted / torch.where(scale == 0, 1.0, scale)


def _two_nearest(rows: Tensor, convention: DimensionConvention) -> float:
    """Return the dimension that fits the ratios of one set of samples."""
    distance = nearest(rows, rows, 2, known="others").distance
    # A sample with a duplicate has no ratio.
    distance = distance[distance[:, 0] > 0]
    if not len(distance):
        return nan
    ratios = (distance[:, 1] / distance[:, 0]).log().sort().values
    n = len(ratios)
    if convention.fit == "likelihood":
        total = float(ratios.sum())
        return n / total if total > 0 else inf
    kept = min(max(1, int(n * (1 - convention.discarded))), n - 1)  # the law's last point is at infinity
    if not kept:
        return nan
    ratios = ratios[:kept]
    law = -torch.log1p(-torch.arange(1, kept + 1, dtype=ratios.dtype, device=ratios.device) / n)
    total = float(ratios.square().sum())
    return float((law * ratios).sum()) / total if total > 0 else inf


def _closest(rows: Tensor, centres: Tensor) -> Int[Tensor, " sample"]:
    """Return the closest centre of each sample: by products of vectors, and by differences where those cannot tell."""
    apart = torch.cdist(rows, centres)
    label = apart.argmin(1)
    if len(centres) > 1:
        first, second = apart.topk(2, largest=False).values.square().unbind(1)
        doubtful = second - first <= product_error(rows, centres)
        by_differences = torch.cdist(rows[doubtful], centres, compute_mode="donot_use_mm_for_euclid_dist")
        label[doubtful] = by_differences.argmin(1)
    return label


def _spread_out(rows: Tensor, clusters: int, rng: np.random.Generator) -> list[int]:
    """Return the starts of k-means++: each next row is drawn in proportion to its squared distance to the last ones."""
    picked = [int(rng.integers(len(rows)))]
    apart = (rows - rows[picked[0]]).square().sum(-1)
    while len(picked) < clusters:
        share = apart.cpu().numpy()
        total = share.sum()
        # Where every row is a centre already, any row will do.
        law = share / total if total > 0 else None
        picked.append(int(rng.choice(len(rows), p=law)))
        apart = torch.minimum(apart, (rows - rows[picked[-1]]).square().sum(-1))
    return picked
