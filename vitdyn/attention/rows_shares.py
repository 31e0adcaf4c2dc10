"""What lies between the two sums of rows, for a block of queries: from masses to shares of attention, and back.

For each sample and area a few dozen operations on a block, all in registers or the first cache:

    c = max(0 where a patch is masked, x_j over areas that show one), x_j = z_j Φ_j
    R_j = e^{x_j − c} / Z,  R_0 = e^{−c} / Z,  Z = e^{−c} W_0 + Σ_j e^{x_j − c} W_j,  A_j = R_j W_j

and for G = ∂L/∂A, Ḡ = Σ_j A_j G_j the pull on the area's visible keys, R_j (G_j − Ḡ) + R_0 Ḡ, less R_0 Ḡ on every
key; ∂L/∂Φ_j = Σ_b z_j W_j R_j (G_j − Ḡ). Blocks of Φ come in units of log 2 (``read_phi``), as powers of two are
quicker. W_0 is taken as T − Σ_j W_j, T the sum of E over all keys, unless that is too uncertain for a Z.
"""

from __future__ import annotations

import numpy as np

from vitdyn.attention.rows_powers import exponential, two_to, two_to_product
from vitdyn.attention.rows_vector import (
    are_zero,
    choose,
    compiled,
    larger,
    load_part,
    multiply_add,
    part,
    repeat,
    row,
    set_row,
    smaller,
    splat,
    store_part,
)

MODERATE_EXPONENT = 17.0
"""Up to this |x_j|, in units of log 2, exponents are not shifted."""
LEAST_SHARE = 1 / 16
"""How small Z may be beside e^{−c} T where W_0 is a difference."""
AHEAD = 4
"""Samples whose shares are formed together."""


@part
def slot_step(masses, masked):  # pragma: no cover  (compiled)
    """Return how many rows further the next slot's masses of areas are."""
    return masses.shape[0] // masked.shape[0]


@compiled
def to_kernel(rows, total):  # pragma: no cover  (compiled)
    """Turn Υ (key, query) into E = exp(Υ − max) in place, and write its sum over keys to ``total``."""
    most = row(rows, 0)
    for q in range(1, rows.shape[0]):
        most = larger(most, row(rows, q))
    summed = splat(rows.dtype.type(0))
    for q in range(rows.shape[0]):
        value = exponential(row(rows, q) - most)
        set_row(rows, q, value)
        summed = summed + value
    set_row(total, 0, summed)


@compiled
def weigh(
    latents, phi, k, total, masses, masked, summed, begin, end, shifted, ratios, weighted, scales
):  # pragma: no cover  (compiled)
    """Write e^{x_j − c} to ``ratios`` (slot · area), times W_j to ``weighted``, 1/Z and e^{−c} to ``scales`` (slot).

    For the slots ``begin`` to ``end``, all before any is used: a quotient takes long, and others fill the time.
    Where exponents are not ``shifted``, c is 0. Unless W_0 is ``summed`` it is T − Σ_j W_j; how far Z then stays above
    the error of that goes to row 1 of ``total``, if it is less than what is there.
    """
    areas, step = latents.shape[1], slot_step(masses, masked)
    zero, one = splat(masses.dtype.type(0)), splat(masses.dtype.type(1))
    tolerated = splat(masses.dtype.type(LEAST_SHARE)) * row(total, 0)
    margin = row(total, 1)
    for slot in range(begin, end):
        own = (slot - begin) * areas
        # a difference may be 0 or less where masked keys are left: then all of T stands for them
        evidence = row(masked, slot) if summed else row(total, 0)
        if shifted:
            whole, seen, lift = _weigh_carefully(
                latents, phi, k, masses, step, slot, evidence, own, ratios, weighted
            )
        else:
            whole, seen = _weigh(latents, phi, k, masses, step, slot, own, ratios, weighted)
            # where no key is masked, none has a share: that it cancels out would cost digits
            lift = choose(evidence > zero, one, zero) if summed else one
        whole = multiply_add(lift, evidence if summed else evidence - seen, whole)
        margin = smaller(margin, whole - lift * tolerated)
        set_row(scales, 2 * (slot - begin), one / whole)
        set_row(scales, 2 * (slot - begin) + 1, lift)
    set_row(total, 1, margin)


@compiled
def loses_digits(total):  # pragma: no cover  (compiled)
    """Say whether W_0 as a difference was too uncertain for some Z, and reset what says so."""
    loses = False
    for v in range(total.shape[1]):
        loses = loses or total[1, v] < 0
    total[1] = 0
    return loses


@part
def _weigh(latents, phi, k, masses, step, slot, own, ratios, weighted):  # pragma: no cover  (compiled)
    """Write e^{x_j} and e^{x_j} W_j of a slot; return the sum of the latter, and Σ_j W_j."""
    areas = latents.shape[1]
    whole = seen = splat(masses.dtype.type(0))
    for j in range(areas):
        mass = row(masses, slot * step + j)
        ratio = two_to_product(repeat(latents, slot * areas + j), row(phi, k * areas + j))
        share = ratio * mass
        set_row(ratios, own + j, ratio)
        set_row(weighted, own + j, share)
        whole, seen = whole + share, seen + mass
    return whole, seen


@part
def _weigh_carefully(
    latents, phi, k, masses, step, slot, masked_mass, own, ratios, weighted
):  # pragma: no cover  (compiled)
    """Do as ``_weigh`` with exponents x_j − c, and 0 for areas that show nothing; return also e^{−c}."""
    areas = latents.shape[1]
    zero = splat(masses.dtype.type(0))
    some_masked = masked_mass > zero
    shift = choose(some_masked, zero, splat(masses.dtype.type(-np.inf)))
    for j in range(areas):
        exponent = repeat(latents, slot * areas + j) * row(phi, k * areas + j)
        shift = choose(row(masses, slot * step + j) > zero, larger(exponent, shift), shift)
    whole = seen = zero
    for j in range(areas):
        mass = row(masses, slot * step + j)
        exponent = repeat(latents, slot * areas + j) * row(phi, k * areas + j)
        ratio = choose(mass > zero, two_to(exponent - shift), zero)
        share = ratio * mass
        set_row(ratios, own + j, ratio)
        set_row(weighted, own + j, share)
        whole, seen = whole + share, seen + mass
    return whole, seen, choose(some_masked, two_to(zero - shift), zero)


@compiled
def reconstruct(
    latents, strength, phi, k, member, owns, shown, first, total, masses, masked, summed, begin, end, shifted,
    ratios, weighted, scales, d_phi,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Replace the masses of a cluster's slots by the pulls of masked reconstruction; return Σ_b R_0 Ḡ.

    G_j = strength_j (A_j − member_j) for the queries that ``shown`` hides, 0 for the others. Adds to ``d_phi``. Rows of
    ``member`` are read where there is something in them, and G is formed twice rather than kept: with many areas a
    sample's rows do not fit the first cache.
    """
    areas, step = latents.shape[1], slot_step(masses, masked)
    own = first // masses.shape[1] * phi.shape[0] + k * areas
    zero = splat(masses.dtype.type(0))
    everywhere = zero
    for group in range(begin, end, AHEAD):
        last = min(group + AHEAD, end)
        weigh(latents, phi, k, total, masses, masked, summed, group, last, shifted, ratios, weighted, scales)
        for slot in range(group, last):
            place = slot - group
            inverse, lift = row(scales, 2 * place), row(scales, 2 * place + 1)
            mean = zero
            for j in range(areas):
                share = row(weighted, place * areas + j) * inverse
                missed = _missed(share, member, owns, own + j)
                mean = multiply_add(share, repeat(strength, slot * areas + j) * missed, mean)
            hidden = choose(are_zero(shown, np.uint64(slot * shown.shape[1] + first), zero), inverse, zero)
            pull_of_masked = lift * hidden * mean
            less = zero - hidden * mean
            for j in range(areas):
                at = place * areas + j
                missed = _missed(row(weighted, at) * inverse, member, owns, own + j)
                away = multiply_add(repeat(strength, slot * areas + j) * hidden, missed, less)
                _push_back(
                    latents, k, slot, j, row(weighted, at), row(ratios, at), away, pull_of_masked, step, masses, d_phi
                )  # fmt: skip
            everywhere = everywhere + pull_of_masked
    return everywhere


@part
def _missed(share, member, owns, own):  # pragma: no cover  (compiled)
    """Return A_j − member_j."""
    return share - row(member, own) if owns[own] else share


@part
def _push_back(
    latents, k, slot, j, weighted, ratio, away, pull_of_masked, step, masses, d_phi
):  # pragma: no cover  (compiled)
    """Replace a slot's mass of an area by e^{x_j − c} ``away`` + R_0 Ḡ, and add its part of ∂L/∂Φ to ``d_phi``.

    ``away`` is (G_j − Ḡ) / Z, and ``weighted`` e^{x_j − c} W_j.
    """
    areas = latents.shape[1]
    slope = multiply_add(repeat(latents, slot * areas + j), weighted * away, row(d_phi, k * areas + j))
    set_row(d_phi, k * areas + j, slope)
    set_row(masses, slot * step + j, multiply_add(ratio, away, pull_of_masked))


@compiled
def attend(
    slots, latents, phi, k, first, total, masses, masked, summed, begin, end, shifted,
    ratios, weighted, scales, attention,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write A (sample, area, query) of a block of queries, for a cluster's slots."""
    areas, queries = attention.shape[1:]
    count = min(masses.shape[1], queries - first)
    for group in range(begin, end, AHEAD):
        last = min(group + AHEAD, end)
        weigh(latents, phi, k, total, masses, masked, summed, group, last, shifted, ratios, weighted, scales)
        for slot in range(group, last):
            place = slot - group
            inverse = row(scales, 2 * place)
            for j in range(areas):
                target = np.uint64((slots[slot] * areas + j) * queries + first)
                store_part(attention, target, count, row(weighted, place * areas + j) * inverse)


@compiled
def pull(
    slots, latents, adjoint, weight, phi, k, first, total, masses, masked, summed, begin, end, shifted,
    ratios, weighted, scales, pulls, d_phi,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Replace the masses of a cluster's slots by the pulls of any loss; return Σ_b R_0 Ḡ. Adds to ``d_phi``.

    G is ``weight`` · ``adjoint``. An ``adjoint`` with one query stands for all; a ``weight`` without samples is 1.
    """
    areas, queries = latents.shape[1], adjoint.shape[2]
    step = slot_step(masses, masked)
    count = min(masses.shape[1], weight.shape[1] - first)
    zero = splat(masses.dtype.type(0))
    everywhere = zero
    for group in range(begin, end, AHEAD):
        last = min(group + AHEAD, end)
        weigh(latents, phi, k, total, masses, masked, summed, group, last, shifted, ratios, weighted, scales)
        for slot in range(group, last):
            b, place = slots[slot], slot - group
            inverse, lift = row(scales, 2 * place), row(scales, 2 * place + 1)
            mean = zero
            for j in range(areas):
                if queries > 1:
                    of_area = load_part(adjoint, np.uint64((b * areas + j) * queries + first), count)
                else:
                    of_area = repeat(adjoint, b * areas + j)
                mean = multiply_add(row(weighted, place * areas + j) * inverse, of_area, mean)
                set_row(pulls, j, of_area)
            scale = inverse
            if weight.shape[0] > 0:
                scale = inverse * load_part(weight, np.uint64(b * weight.shape[1] + first), count)
            pull_of_masked = lift * scale * mean
            for j in range(areas):
                away, at = scale * (row(pulls, j) - mean), place * areas + j
                _push_back(
                    latents, k, slot, j, row(weighted, at), row(ratios, at), away, pull_of_masked, step, masses, d_phi
                )  # fmt: skip
            everywhere = everywhere + pull_of_masked
    return everywhere
