"""Several heads, F = (1/H) Σ_h A^h z: the pace of equal heads, and whether differences between heads grow or fade.

With L(Q_1, …, Q_H) = ℓ(mean of outputs), a second derivative between two heads acts on the mean output alone (ℓ''),
one within a head has the residual's curvature besides. Differences δ, Σ_h δ_h = 0, leave the mean as it is to first
order:

    dδ/dt = −(1/H) R δ,   R = ∂²L − (Gauss–Newton part) of one head

Derived in the notes, beyond_one_layer.md; heads are averages, so none has a reason of its own to differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from vitdyn._errors import (
    as_array,
    as_tuple,
    invalid_value,
    require_choice,
    require_integer,
    require_kind,
    require_real,
)
from vitdyn.data import AreaSizes, Distribution
from vitdyn.theory.predictions import OURS, Prediction
from vitdyn.theory.regime import checked
from vitdyn.theory.row_hessian import SymmetryClass

NOTE = "beyond_one_layer.md#heads-from-a-random-start"
AREAS = ("local", "global")


def one_head_twin(heads: int, learning_rate: float, weight_decay: float = 0.0) -> tuple[float, float]:
    """Return (η/H, λH): one head with these goes, step by step, the way that H heads from equal starts go together.

    Each head's gradient is 1/H of one head's, in masked reconstruction and in contrast; decay is not divided. Plain
    gradient descent: Adam, which divides by the gradient's size, takes no longer with more heads. Exact. Source: ours.

    >>> vd.theory.one_head_twin(4, learning_rate=2.0)
    (0.5, 0.0)
    """
    require_integer("heads", heads, at_least=1)
    require_real("learning_rate", learning_rate, low=0.0, high=1e6)
    require_real("weight_decay", weight_decay, low=0.0, high=1e6)
    return learning_rate / heads, weight_decay * heads


def head_difference_rates(hessian: Sequence[SymmetryClass], heads: int = 2) -> dict[str, float]:
    """Return the rates dδ/dt / δ of a difference between heads, by coordinate of the symmetric class of one row.

    −(∂²L − Gauss–Newton)/H along each coordinate: positive where heads part, negative where they become copies. Exact
    to first order in δ, for MAE and InfoNCE. ``hessian`` has the classes of ``reconstruction_hessian`` (at Q = 0),
    ``reconstruction_hessian_at`` (along a trajectory) or ``contrastive_hessian``; times are η · steps.

    At Q = 0, to leading order, with ν = 1 − γ and m_4 = E z⁴: own area of a local query +γν m_4 P^{−(1−κ_s)}/H, global
    area −γν² m_4 P^{−2(1−κ_c)}/H. Source: ours.

    >>> sizes = vd.AreaSizes(patches=64.0, global_size=44.0, local_size=5.0)
    >>> rates = vd.theory.head_difference_rates(vd.theory.reconstruction_hessian(sizes, vd.Constant(value=1.0)))
    >>> rates["Φ own"] > 0 > rates["Φ global"]
    True
    """
    symmetric, *_ = (*as_tuple("hessian", hessian, SymmetryClass), None)
    require_integer("heads", heads, at_least=1)
    if symmetric is None:
        raise invalid_value("hessian", hessian, "must hold a SymmetryClass, the symmetric one first")
    residual = np.diag(symmetric.hessian - symmetric.gauss_newton)
    return {name: float(-each / heads) for name, each in zip(symmetric.coordinates, residual, strict=True)}


def head_difference_growth(attention: ArrayLike, start: ArrayLike) -> Float[np.ndarray, "*time"]:
    """Return δ(t)/δ(0) = A(1 − A)/(A_0(1 − A_0)) of a difference in the logit to an area with attention A, from A_0.

    It holds in every phase at constant z while the other areas' attention is one weight, so for each area in its
    turn: own areas and, in contrast, the global one grow by 1/(4 A_0) until A = 1/2 and become copies after; the
    correlation with the global area, which falls in phase I, becomes a copy at once. The small-δ limit of
    ``head_invariant``. Source: ours.

    >>> vd.theory.head_difference_growth([0.1, 0.5, 0.99], 0.02).round(2)
    array([ 4.59, 12.76,  0.51])
    """
    now, before = _attention("attention", attention), _attention("start", start)
    try:
        return now * (1 - now) / (before * (1 - before))
    except ValueError as error:
        raise invalid_value("start", before, f"must fit attention's shape {now.shape}") from error


def head_invariant(attention: ArrayLike) -> Float[np.ndarray, "*head"]:
    """Return Ψ = o − 1/o + 2 log o, o = A/(1 − A), whose difference between two heads is conserved, however large.

    dφ_h/dt = (1/H) g z A_h(1 − A_h) with the same pull g for all heads, since it belongs to their mean: dΨ/dt = z²
    g/H. In the tail 1/(1 − A_h) differ by constants while they grow, so heads end as copies. Constant z, one weight
    of all else. In contrast the same holds of every query and head. Source: ours.
    """
    now = _attention("attention", attention)
    odds = now / (1 - now)
    return odds - 1 / odds + 2 * np.log(odds)


@checked
def parting_size(
    sizes: AreaSizes, distribution: Distribution, area: str = "local", *, mask_ratio: float = 0.5
) -> float:
    """Return the size σ of initial entries at which two heads' logits to an area differ by 1 at their farthest.

        σ = 4 A_0 (1 − A_0)/√(2 (m_2 + 1/V)),   A_0 = (1 − γ)C/P,   V = (1 − γ)C,  C without the query

    ≍ P^{−(1−κ_s)} for a local area. Well below it heads are copies all along; above it they take the area one after
    the other, and are copies again at the end. Linear in σ (``head_difference_growth`` at A = 1/2). Source: ours.

    >>> sizes = vd.AreaSizes.from_exponents(1e4, kappa_c=0.9, kappa_s=0.3)
    >>> round(vd.theory.parting_size(sizes, vd.Constant(value=1.0)), 4)
    0.002
    """
    seen = _visible(sizes, area, mask_ratio)
    start = seen / sizes.patches
    return 4 * start * (1 - start) / sqrt(2 * (distribution.second_moment + 1 / seen))


@checked
def disorder_size(sizes: AreaSizes, distribution: Distribution) -> Prediction:
    """σ from which on initial disorder is as large as what is learned: [√(log N/2), √(2 log N)]/√m_2, N areas.

    Of N random logits of size σ√m_2 the largest is σ√(2 m_2 log N). At the lower end it equals log N, the logit with
    which an area takes over from equal ones; at the upper end a head's attention is condensed on one random area (the
    random energy model's transition). Leading order in log N: a border of tens of per cent. Source: ours.
    """
    require_kind("sizes", sizes, AreaSizes)
    scale = sqrt(log(1 + sizes.local_areas) / distribution.second_moment)
    words = "size of a head's initial correlations that is as large as learned ones"
    return Prediction(
        symbol="σ", low=scale / sqrt(2), high=scale * sqrt(2), statement=words, source=OURS, note=NOTE
    )


def _attention(field: str, value: ArrayLike) -> np.ndarray:
    array = as_array(field, value)
    if array.dtype.kind not in "fiu" or not ((array > 0) & (array < 1)).all():
        raise invalid_value(field, value, "must lie in (0, 1)")
    return array.astype(np.float64, copy=False)


def _visible(sizes: AreaSizes, area: str, mask_ratio: float) -> float:
    """Return the mean number of visible keys in a masked query's own area."""
    require_kind("sizes", sizes, AreaSizes)
    require_choice("area", area, AREAS)
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    own = sizes.local_size if area == "local" else sizes.global_size
    if own < 2:
        raise invalid_value("sizes", own, "must have two patches or more in the area")
    return (1 - mask_ratio) * sizes.patches / (sizes.patches - 1) * (own - 1)
