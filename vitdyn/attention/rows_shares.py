"""What lies between the two sums of rows, for a block of queries: from masses to shares of attention, and back.

For each sample and area a few dozen operations on a block, all in registers or the first cache:

    c = max(0 where a patch is masked, x_j over areas that show one), x_j = z_j Φ_j
    R_j = e^{x_j − c} / Z,  R_0 = e^{−c} / Z,  Z = e^{−c} W_0 + Σ_j e^{x_j − c} W_j,  A_j = R_j W_j

and for G = ∂L/∂A, Ḡ = Σ_j A_j G_j the pull on the area's visible keys, R_j (G_j − Ḡ) + R_0 Ḡ, less R_0 Ḡ on every
key; ∂L/∂Φ_j = Σ_b z_j W_j R_j (G_j − Ḡ).
"""

from __future__ import annotations

import numpy as np

from vitdyn.attention.rows_vector import (
    are_zero,
    choose,
    compiled,
    exponential,
    larger,
    load,
    load_part,
    multiply_add,
    part,
    row,
    set_row,
    splat,
    store_part,
)

MODERATE_EXPONENT, LEAST_SHARE = 12.0, 1 / 16


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
def subtract_masses(total, masses, areas, masked):  # pragma: no cover  (compiled)
    """Write T − Σ_j W_j, what is left to masked keys, to ``masked`` (slot); return whether that loses digits."""
    samples = masked.shape[0]
    whole = row(total, 0)
    least = whole
    for slot in range(samples):
        left = whole
        for j in range(areas):
            left = left - row(masses, j * samples + slot)
        set_row(masked, slot, left)
        least = choose(least > left, left, least)
    set_row(total, 1, least)
    loses = False
    for v in range(total.shape[1]):
        loses = loses or total[1, v] < LEAST_SHARE * total[0, v]
    return loses


@part
def weigh(phi, at, latents, b, masses, slot, ratios, weighted):  # pragma: no cover  (compiled)
    """Write e^{x_j} to ``ratios`` and e^{x_j} W_j to ``weighted`` (area); return the sum of the latter."""
    samples = latents.shape[0]
    whole = splat(masses.dtype.type(0))
    for j in range(ratios.shape[0]):
        ratio = exponential(splat(latents[b, j]) * row(phi, at + j))
        share = ratio * row(masses, j * samples + slot)
        set_row(ratios, j, ratio)
        set_row(weighted, j, share)
        whole = whole + share
    return whole


@part
def weigh_carefully(
    phi, at, latents, b, masses, slot, masked_mass, ratios, weighted
):  # pragma: no cover  (compiled)
    """Do as ``weigh`` with exponents x_j − c, and 0 for areas that show nothing; return also e^{−c}."""
    samples = latents.shape[0]
    zero = splat(masses.dtype.type(0))
    some_masked = masked_mass > zero
    shift = choose(some_masked, zero, splat(masses.dtype.type(-np.inf)))
    for j in range(ratios.shape[0]):
        exponent = splat(latents[b, j]) * row(phi, at + j)
        shift = choose(row(masses, j * samples + slot) > zero, larger(exponent, shift), shift)
    whole = zero
    for j in range(ratios.shape[0]):
        mass = row(masses, j * samples + slot)
        exponent = splat(latents[b, j]) * row(phi, at + j)
        ratio = choose(mass > zero, exponential(exponent - shift), zero)
        share = ratio * mass
        set_row(ratios, j, ratio)
        set_row(weighted, j, share)
        whole = whole + share
    return whole, choose(some_masked, exponential(zero - shift), zero)


@compiled
def reconstruct(
    slots, cluster, latents, strength, phi, member, shown, first,
    masses, masked, shifted, ratios, weighted, pulls, d_phi,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Replace each sample's masses by the pulls of masked reconstruction, and add to ``d_phi``; return Σ_b R_0 Ḡ.

    G_j = strength_j (A_j − member_j) for the queries that ``shown`` hides, 0 for the others.
    """
    samples, areas = slots.shape[0], ratios.shape[0]
    zero, one = splat(masses.dtype.type(0)), splat(masses.dtype.type(1))
    everywhere = zero
    for slot in range(samples):
        b = slots[slot]
        k = cluster[b]
        at = k * areas
        lift, left = one, row(masked, slot)
        if shifted:
            whole, lift = weigh_carefully(phi, at, latents, b, masses, slot, left, ratios, weighted)
            inverse = one / multiply_add(lift, left, whole)
        else:
            inverse = one / (left + weigh(phi, at, latents, b, masses, slot, ratios, weighted))
        mean = zero
        for j in range(areas):
            share = row(weighted, j) * inverse
            own_area = load(member, np.uint64((at + j) * member.shape[2] + first))
            pull = splat(strength[b, j]) * (share - own_area)
            mean = multiply_add(share, pull, mean)
            set_row(pulls, j, pull)
        hidden = choose(are_zero(shown, np.uint64(slot * shown.shape[1] + first), zero), inverse, zero)
        pull_of_masked = lift * hidden * mean
        for j in range(areas):
            pull = hidden * (row(pulls, j) - mean)
            by_feature = row(weighted, j) * pull
            set_row(d_phi, at + j, multiply_add(splat(latents[b, j]), by_feature, row(d_phi, at + j)))
            set_row(masses, j * samples + slot, multiply_add(row(ratios, j), pull, pull_of_masked))
        everywhere = everywhere + pull_of_masked
    return everywhere


@compiled
def attend(
    slots, cluster, latents, phi, first, masses, masked, shifted, spare, ratios, weighted, attention
):  # pragma: no cover  (compiled)
    """Write A (sample, area, query) of a block of queries."""
    samples, areas, queries = attention.shape
    count = min(spare.shape[1], queries - first)
    one = splat(masses.dtype.type(1))
    for slot in range(samples):
        b = slots[slot]
        at = cluster[b] * areas
        left = row(masked, slot)
        if shifted:
            whole, lift = weigh_carefully(phi, at, latents, b, masses, slot, left, ratios, weighted)
            inverse = one / multiply_add(lift, left, whole)
        else:
            inverse = one / (left + weigh(phi, at, latents, b, masses, slot, ratios, weighted))
        for j in range(areas):
            place = (b * areas + j) * queries + first
            store_part(attention, place, count, row(weighted, j) * inverse, spare)


@compiled
def pull(
    slots,
    cluster,
    latents,
    adjoint,
    weight,
    phi,
    first,
    masses,
    masked,
    shifted,
    spare,
    ratios,
    weighted,
    pulls,
    d_phi,
):  # pragma: no cover  (compiled)
    """Replace each sample's masses by the pulls of any loss, and add to ``d_phi``; return Σ_b R_0 Ḡ.

    G is ``weight`` · ``adjoint``. An ``adjoint`` with one query stands for all; a ``weight`` without samples is 1.
    """
    samples, areas, queries = slots.shape[0], ratios.shape[0], adjoint.shape[2]
    count = min(spare.shape[1], weight.shape[1] - first)
    zero, one = splat(masses.dtype.type(0)), splat(masses.dtype.type(1))
    everywhere = zero
    for slot in range(samples):
        b = slots[slot]
        at = cluster[b] * areas
        lift, left = one, row(masked, slot)
        if shifted:
            whole, lift = weigh_carefully(phi, at, latents, b, masses, slot, left, ratios, weighted)
            inverse = one / multiply_add(lift, left, whole)
        else:
            inverse = one / (left + weigh(phi, at, latents, b, masses, slot, ratios, weighted))
        mean = zero
        for j in range(areas):
            if queries > 1:
                of_area = load_part(adjoint, (b * areas + j) * queries + first, count, spare)
            else:
                of_area = splat(adjoint[b, j, 0])
            mean = multiply_add(row(weighted, j) * inverse, of_area, mean)
            set_row(pulls, j, of_area)
        scale = inverse
        if weight.shape[0] > 0:
            scale = inverse * load_part(weight, b * weight.shape[1] + first, count, spare)
        pull_of_masked = lift * scale * mean
        for j in range(areas):
            own = scale * (row(pulls, j) - mean)
            by_feature = row(weighted, j) * own
            set_row(d_phi, at + j, multiply_add(splat(latents[b, j]), by_feature, row(d_phi, at + j)))
            set_row(masses, j * samples + slot, multiply_add(row(ratios, j), own, pull_of_masked))
        everywhere = everywhere + pull_of_masked
    return everywhere
