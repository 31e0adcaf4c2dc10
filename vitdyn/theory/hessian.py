"""The Hessian of masked reconstruction and of contrast on the theory's layer, by classes of its symmetry.

With x_q what a direction x in (Φ_p, Υ_p) adds to the logit of key q, attention π_q, means x̄ = Σ_q π_q x_q, and pulls
g_q = −∂L/∂π_q, 0 for a masked key, the loss of one query has

    −∂_x L = Cov_π(g, x),   ∂_x∂_y L = Σ_j s_j Cov_π(1_j, x) Cov_π(1_j, y) − E_π[(g − ḡ)(x − x̄)(y − ȳ)]

1_j marks the visible keys of area j and s_j = z_j². The first term is the Gauss–Newton part, which is never negative.
The loss is a sum over queries: the Hessian is block diagonal over them. A query's block, averaged over masks and
latents, commutes with exchanges of keys within an area and of areas that are alike: it falls apart into small matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from vitdyn._errors import invalid_value, require_choice, require_integer, require_kind, require_real
from vitdyn.data import AreaSizes, Distribution
from vitdyn.seeds import stream
from vitdyn.theory.regime import checked
from vitdyn.theory.row_hessian import Average, Keys, Row, SymmetryClass
from vitdyn.theory.visible_counts import Polynomial, UniformMasks, latent_moments

QUERIES = ("local", "global")


@dataclass(frozen=True, kw_only=True)
class RowCorrelations:
    """The order parameters of a query's row: Φ to its own area, the global one and any other, Υ to keys of each.

    ``own`` and ``own_key`` are those of a local query to its own area; a query of the global area has none but
    ``global_area`` and ``global_key`` for it.
    """

    own: float = 0.0
    global_area: float = 0.0
    other: float = 0.0
    own_key: float = 0.0
    global_key: float = 0.0
    other_key: float = 0.0
    self_key: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require_real(name, value, low=-1e3, high=1e3)


@checked
def reconstruction_hessian(
    sizes: AreaSizes, distribution: Distribution, query: str = "local", *, mask_ratio: float = 0.5
) -> tuple[SymmetryClass, ...]:
    """Return the Hessian of masked reconstruction at Q = 0 of one query: exact, by moments of masks and latents.

    One cluster; with K clusters the second derivatives in Φ of each are 1/K of these. For a query of a local area the
    classes are

        the same for all keys of an area      7 × 7   once
        between local areas (not its own)     2 × 2   N − 3 times
        between keys of its own area          1 × 1   C_s − 2
        between keys of the global area       1 × 1   C_1 − 1
        between keys of another local area    1 × 1   (N − 2)(C_s − 1)

    with N areas in all: N + P numbers of the row. A query of the global area has a 5 × 5 matrix, and no own area
    besides the global one. γP patches are masked, whole or not. Source: our notes, landscape.md.

    >>> sizes = vd.AreaSizes(patches=64.0, global_size=44.0, local_size=5.0)
    >>> symmetric, *_ = vd.theory.reconstruction_hessian(sizes, vd.Constant(value=1.0))
    >>> [round(symmetric.along(f"Φ {area}")[1], 4) for area in ("own", "global")]
    [-0.0147, 0.0391]
    """
    _check(sizes, query, mask_ratio)
    P, gamma = Fraction(sizes.patches), Fraction(mask_ratio)
    names, singles, others, size = _areas(sizes, query)
    masks = UniformMasks(P - gamma * P, P - 1, tuple(singles), others, size, latent_moments(distribution))
    variables, V, z = Polynomial.variables(len(singles))
    keys = [
        *(Keys(name, n, *each, 1 / P, 1 / P) for name, n, each in zip(names, singles, variables, strict=True)),
        Keys("others", size, V, z, 1 / P, 1 / P),
        Keys("self", Fraction(1), Fraction(0), Fraction(0), 1 / P, 1 / P),
    ]  # fmt: skip
    average = Average(others, lambda each: each.total(), lambda each: gamma * masks.mean(each))
    return Row.of(_with_pulls(keys), average).classes()


@checked
def reconstruction_hessian_at(
    correlations: RowCorrelations,
    sizes: AreaSizes,
    distribution: Distribution,
    query: str = "local",
    *,
    mask_ratio: float = 0.5,
    samples: int = 4096,
) -> tuple[SymmetryClass, ...]:
    """Return the same where rows have moved but are alike up to exchanges, as they stay from Q = 0 on.

    A mean over ``samples`` masks and latents of a fixed stream, exact on these; sizes must be whole. Along a trajectory
    the correlations are means of ``feature_position`` and ``position_position`` over the areas of a kind.

    >>> sizes = vd.AreaSizes(patches=64.0, global_size=44.0, local_size=5.0)
    >>> late = vd.theory.RowCorrelations(own=9.0)
    >>> symmetric, *_ = vd.theory.reconstruction_hessian_at(late, sizes, vd.Constant(value=1.0))
    >>> symmetric.along("Φ own")[1] > 0
    True
    """
    require_kind("correlations", correlations, RowCorrelations)
    _check(sizes, query, mask_ratio)
    require_integer("samples", samples, at_least=2, at_most=10**7)
    _, singles, others, size = _areas(sizes, query)
    for name, value in {
        "sizes.local_size": size,
        "sizes.local_areas": others,
        "sizes.patches": Fraction(sizes.patches),
    }.items():
        if value != int(value):
            raise invalid_value(name, float(value), "must be whole: masks are drawn key by key")
    counts = [int(n) for n in (*singles, *[size] * int(others))]
    draw = stream(0, "user")
    hidden = round(mask_ratio * sizes.patches) - 1
    visible = np.array(counts) - draw.multivariate_hypergeometric(counts, hidden, samples)
    latents = distribution.sample(draw, visible.shape)
    return row_classes(correlations, counts, visible, latents, query, hidden_share=mask_ratio)


def row_classes(
    correlations: RowCorrelations,
    counts: Sequence[int],
    visible: np.ndarray,
    latents: np.ndarray,
    query: str,
    *,
    hidden_share: float,
) -> tuple[SymmetryClass, ...]:
    """Return the classes as means over given visible counts and latents, (sample, area) each, of a masked query.

    ``counts`` has the keys of each area but the query itself: its own and the global area, then the others.
    """
    at, names = correlations, QUERY_AREAS[query]
    feature = {"own": at.own, "global": at.global_area, "others": at.other}
    position = {"own": at.own_key, "global": at.global_key, "others": at.other_key, "self": at.self_key}
    columns = {name: slice(i, i + 1) for i, name in enumerate(names)} | {"others": slice(len(names), None)}
    V = {name: visible[:, at].astype(float) for name, at in columns.items()}
    z = {name: latents[:, at] for name, at in columns.items()}
    n = {name: counts[at.start] for name, at in columns.items()}
    # less the largest logit, before every exponential
    largest = max([*position.values(), *(float((position[k] + z[k] * feature[k]).max()) for k in columns)])
    a = {name: np.exp(position[name] + z[name] * feature[name] - largest) for name in columns}
    b = {name: np.exp(position[name] - largest) for name in position}
    total = b["self"] + sum((V[k] * a[k] + (n[k] - V[k]) * b[k]).sum(1, keepdims=True) for k in columns)
    keys = [Keys(k, n[k], V[k], z[k], a[k] / total, b[k] / total) for k in columns]
    keys.append(Keys("self", 1, 0.0, 0.0, b["self"] / total, b["self"] / total))
    average = Average(
        len(counts) - len(names),
        lambda each: each.sum(1, keepdims=True),
        lambda each: hidden_share * float(np.mean(each)),
    )
    return Row.of(_with_pulls(keys), average).classes()


@checked
def contrastive_hessian(
    sizes: AreaSizes,
    distribution: Distribution,
    *,
    clusters: int = 2,
    temperature: float = 1.0,
    negatives: int = 31,
    mask_ratio: float = 0.5,
) -> tuple[SymmetryClass, ...]:
    """Return the Hessian of contrast at Q = 0 of one query, in the correlations of one cluster, what is stopped frozen.

    At vanishing similarity h_j = κ z_j a_j (z_j − E z/K), κ = M/((M + 1) τ) with M = ``negatives`` and a_j the other
    view's attention to area j. All P queries are alike, with a factor 1/(P K). Left out, since it is smaller by the
    similarity: the second derivative of the softmax over negatives, which couples queries by their mean; so the
    Gauss–Newton part is 0 here. Source: our notes, landscape.md.

    >>> sizes = vd.AreaSizes(patches=64.0, global_size=44.0, local_size=5.0)
    >>> symmetric, *_ = vd.theory.contrastive_hessian(sizes, vd.Constant(value=1.0))
    >>> round(64 * symmetric.along("Φ global")[1], 4)
    -0.0056
    """
    _check(sizes, "global", mask_ratio)
    require_integer("clusters", clusters, at_least=1, at_most=10**15)
    require_integer("negatives", negatives, at_least=1, at_most=10**15)
    require_real("temperature", temperature, low=0.0, high=1e6, open_low=True)
    P, moments = Fraction(sizes.patches), latent_moments(distribution)
    size, first, shown = Fraction(sizes.local_size), Fraction(sizes.global_size), 1 - Fraction(mask_ratio)
    others = (P - first) / size
    masks = UniformMasks(shown * P, P, (first,), others, size, moments)
    (single,), V, z = Polynomial.variables(1)
    rate = Fraction(negatives, negatives + 1) / Fraction(temperature)
    keys = [
        replace(
            each,
            pull=each.z * (each.z - moments[1] / clusters) * (rate * shown * each.n / P),
            strength=0 * each.z,
        )
        for each in (Keys("global", first, *single, 1 / P, 1 / P), Keys("others", size, V, z, 1 / P, 1 / P))
    ]
    average = Average(others, lambda each: each.total(), lambda each: masks.mean(each) / (P * clusters))
    return Row.of(keys, average).classes()


QUERY_AREAS = {"local": ("own", "global"), "global": ("global",)}
"""Areas of which a query has one, its own first."""


def _check(sizes: AreaSizes, query: str, mask_ratio: float) -> None:
    require_kind("sizes", sizes, AreaSizes)
    require_choice("query", query, QUERIES)
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    if sizes.local_areas < 2 or min(sizes.local_size, sizes.global_size) < 2:
        words = "must have two local areas or more, and two patches or more in each area"
        raise invalid_value("sizes", (sizes.local_areas, sizes.local_size), words)


def _areas(sizes: AreaSizes, query: str) -> tuple[tuple[str, ...], list[Fraction], Fraction, Fraction]:
    """Return the single areas and their keys but the query itself, then the number of others and their keys."""
    first, size = Fraction(sizes.global_size), Fraction(sizes.local_size)
    count = (Fraction(sizes.patches) - first) / size
    if query == "local":
        return QUERY_AREAS[query], [size - 1, first], count - 1, size
    return QUERY_AREAS[query], [first - 1], count, size


def _with_pulls(keys: list[Keys]) -> list[Keys]:
    """Return keys with the pulls of the squared error: g = z² (1 − A) of the own area, the first, −z² A of others."""
    own, *others = keys
    pulled = [replace(own, pull=own.z * own.z * (1 - own.attention), strength=own.z * own.z)]
    return pulled + [
        replace(each, pull=-(each.z * each.z * each.attention), strength=each.z * each.z) for each in others
    ]
