"""From area sums to attention weights and back, for a block of queries: what lies between the two sums of rows.

For each sample and area a few dozen operations on a block, all in registers or in L1 (equations and symbols:
``kernels/README.md``). Blocks of Φ come in units of log 2 (``read_phi``), as powers of two are quicker.
"""

from __future__ import annotations

import numpy as np

from vitdyn.kernels.cpu.powers import exp, exp2, exp2_mul
from vitdyn.kernels.cpu.simd import (
    broadcast_load,
    eq_zero,
    fma,
    inlined,
    inner,
    load_partial,
    load_row,
    maximum,
    minimum,
    splat,
    store_partial,
    store_row,
    where,
)
from vitdyn.kernels.cpu.subset_sums import rows_per_slot

MODERATE_EXPONENT = 17.0
"""Up to this |x_j|, in units of log 2, exponents are not shifted."""
LEAST_NORMALISER = 1 / 16
"""How small Z may be beside e^{−c} T where W_0 is a difference: Z has then lost four bits at most."""
BATCHED_DIVISIONS = 4
"""Samples whose weights are formed together, so that their divisions overlap."""


@inner
def exponentiate_logits(rows, total):  # pragma: no cover  (compiled)
    """Turn Υ (key, query) into E = exp(Υ − max) in place, and write its sum over keys to ``total``."""
    # the maximum is subtracted so that E cannot overflow; it cancels in the weights. In place: Υ is not read again
    most = load_row(rows, 0)
    for q in range(1, rows.shape[0]):
        most = maximum(most, load_row(rows, q))
    total_sum = splat(rows.dtype.type(0))
    for q in range(rows.shape[0]):
        value = exp(load_row(rows, q) - most)
        store_row(rows, q, value)
        total_sum = total_sum + value
    store_row(total, 0, total_sum)


@inner
def form_weights(scratch, latents, k, exact, shifted, begin, end):  # pragma: no cover  (compiled)
    """Write e^{x_j − c}, the same times W_j, and both 1/Z and e^{−c}, for the slots ``begin`` to ``end``.

    Where exponents are not ``shifted``, c is 0. W_0 is read where that is ``exact``, else it is T − Σ_j W_j; how far Z
    then stays above the error of that goes to row 1 of ``total``, if it is less than what is there.
    """
    total, area_sums, masked_sums, phi = scratch.total, scratch.area_sums, scratch.masked_sums, scratch.phi
    exp_shifted, unnormalised, scales = scratch.exp_shifted, scratch.unnormalised, scratch.scales
    areas, step = latents.shape[1], rows_per_slot(area_sums, masked_sums)
    zero, one = splat(area_sums.dtype.type(0)), splat(area_sums.dtype.type(1))
    tolerated = splat(area_sums.dtype.type(LEAST_NORMALISER)) * load_row(total, 0)
    margin = load_row(total, 1)
    for slot in range(begin, end):
        own = (slot - begin) * areas
        # T, which is positive, stands for a W_0 not known yet: masked keys then count for the shift. The difference
        # could round to 0 or less, and would hide them
        masked_sum = load_row(masked_sums, slot) if exact else load_row(total, 0)
        if shifted:
            normaliser, visible_sum, exp_minus_shift = _form_shifted(
                latents, phi, k, area_sums, step, slot, masked_sum, own, exp_shifted, unnormalised
            )
        else:
            normaliser, visible_sum = _form(
                latents, phi, k, area_sums, step, slot, own, exp_shifted, unnormalised
            )
            # where no key is masked none has a weight: a W_0 of round-off, times R_0, would cost digits
            exp_minus_shift = where(masked_sum > zero, one, zero) if exact else one
        normaliser = fma(exp_minus_shift, masked_sum if exact else masked_sum - visible_sum, normaliser)
        # a running minimum, not a branch: one test for a cluster's samples says whether any has lost its digits
        margin = minimum(margin, normaliser - exp_minus_shift * tolerated)
        # all divisions of a batch before any is used: each takes some 20 cycles, which the next ones fill
        store_row(scales, 2 * (slot - begin), one / normaliser)
        store_row(scales, 2 * (slot - begin) + 1, exp_minus_shift)
    store_row(total, 1, margin)


@inner
def loses_digits(total):  # pragma: no cover  (compiled)
    """Return whether W_0 as a difference was too uncertain for some Z, and reset the row that tells."""
    loses = False
    # lane by lane, once for a block and cluster; 0 is the margin's start, so that only a negative one remains
    for v in range(total.shape[1]):
        loses = loses or total[1, v] < 0
        total[1, v] = 0
    return loses


@inlined
def _form(
    latents, phi, k, area_sums, step, slot, own, exp_shifted, unnormalised
):  # pragma: no cover  (compiled)
    """Write e^{x_j} and e^{x_j} W_j of a slot; return the sum of the latter, and Σ_j W_j."""
    areas = latents.shape[1]
    # an area without a visible key needs no care here: its power is finite, and W_j = 0
    normaliser = visible_sum = splat(area_sums.dtype.type(0))
    for j in range(areas):
        area_sum = load_row(area_sums, slot * step + j)
        power = exp2_mul(broadcast_load(latents, slot * areas + j), load_row(phi, k * areas + j))
        weight = power * area_sum
        store_row(exp_shifted, own + j, power)
        store_row(unnormalised, own + j, weight)
        normaliser, visible_sum = normaliser + weight, visible_sum + area_sum
    return normaliser, visible_sum


@inlined
def _form_shifted(
    latents, phi, k, area_sums, step, slot, masked_sum, own, exp_shifted, unnormalised
):  # pragma: no cover  (compiled)
    """Do as ``_form`` with exponents x_j − c, and 0 for areas without a visible key; return also e^{−c}."""
    areas = latents.shape[1]
    zero = splat(area_sums.dtype.type(0))
    some_masked = masked_sum > zero
    # c is the largest exponent that counts, so that the largest term is 1 and Z can neither overflow nor vanish
    shift = where(some_masked, zero, splat(area_sums.dtype.type(-np.inf)))
    for j in range(areas):
        exponent = broadcast_load(latents, slot * areas + j) * load_row(phi, k * areas + j)
        shift = where(load_row(area_sums, slot * step + j) > zero, maximum(exponent, shift), shift)
    normaliser = visible_sum = zero
    for j in range(areas):
        area_sum = load_row(area_sums, slot * step + j)
        exponent = broadcast_load(latents, slot * areas + j) * load_row(phi, k * areas + j)
        power = where(area_sum > zero, exp2(exponent - shift), zero)
        weight = power * area_sum
        store_row(exp_shifted, own + j, power)
        store_row(unnormalised, own + j, weight)
        normaliser, visible_sum = normaliser + weight, visible_sum + area_sum
    return normaliser, visible_sum, where(some_masked, exp2(zero - shift), zero)


@inner
def residual_backward(
    scratch, latents, residual_weights, k, exact, shifted, begin, end, first, member, owns, visible_bytes
):  # pragma: no cover  (compiled)
    """Replace the area sums of a cluster's slots by the gradient of masked reconstruction; return Σ_b R_0 Ḡ.

    G_j = residual_weight_j (A_j − member_j) at masked queries, 0 at the others. Adds to the gradient of Φ. G is formed
    twice rather than kept: with many areas a sample's rows do not fit into L1.
    """
    area_sums, exp_shifted, unnormalised = scratch.area_sums, scratch.exp_shifted, scratch.unnormalised
    scales, phi_gradient = scratch.scales, scratch.phi_gradient
    areas, step = latents.shape[1], rows_per_slot(area_sums, scratch.masked_sums)
    own = first // area_sums.shape[1] * scratch.phi.shape[0] + k * areas
    zero = splat(area_sums.dtype.type(0))
    masked_gradient_sum = zero
    for group in range(begin, end, BATCHED_DIVISIONS):
        last = min(group + BATCHED_DIVISIONS, end)
        form_weights(scratch, latents, k, exact, shifted, group, last)
        for slot in range(group, last):
            place = slot - group
            inverse, exp_minus_shift = load_row(scales, 2 * place), load_row(scales, 2 * place + 1)
            mean = zero
            for j in range(areas):
                attention = load_row(unnormalised, place * areas + j) * inverse
                residual = _residual(attention, member, owns, own + j)
                mean = fma(attention, broadcast_load(residual_weights, slot * areas + j) * residual, mean)
            # a visible query has no part in the loss: its 1/Z is set to 0, which takes it out of all that follows
            is_masked = eq_zero(visible_bytes, np.uint64(slot * visible_bytes.shape[1] + first), zero)
            masked_inverse = where(is_masked, inverse, zero)
            masked_gradient = exp_minus_shift * masked_inverse * mean
            less = zero - masked_inverse * mean
            for j in range(areas):
                at = place * areas + j
                residual = _residual(load_row(unnormalised, at) * inverse, member, owns, own + j)
                weight = broadcast_load(residual_weights, slot * areas + j) * masked_inverse
                centred = fma(weight, residual, less)
                _accumulate_gradient(
                    latents, k, slot, j, load_row(unnormalised, at), load_row(exp_shifted, at),
                    centred, masked_gradient, step, area_sums, phi_gradient,
                )  # fmt: skip
            masked_gradient_sum = masked_gradient_sum + masked_gradient
    return masked_gradient_sum


@inlined
def _residual(attention, member, owns, own):  # pragma: no cover  (compiled)
    """Return A_j − member_j; rows of ``member`` that are all 0, most where areas are many, are not read."""
    return attention - load_row(member, own) if owns[own] else attention


@inlined
def _accumulate_gradient(
    latents, k, slot, j, unnormalised, exp_shifted, centred, masked_gradient, step, area_sums, phi_gradient
):  # pragma: no cover  (compiled)
    """Replace a slot's area sum by e^{x_j − c} ``centred`` + R_0 Ḡ, and add its part of ∂L/∂Φ to ``phi_gradient``.

    ``centred`` is (G_j − Ḡ) / Z, and ``unnormalised`` e^{x_j − c} W_j.
    """
    areas = latents.shape[1]
    latent, at = broadcast_load(latents, slot * areas + j), k * areas + j
    store_row(phi_gradient, at, fma(latent, unnormalised * centred, load_row(phi_gradient, at)))
    # in place: the sum that is no longer needed makes room for what its keys receive
    store_row(area_sums, slot * step + j, fma(exp_shifted, centred, masked_gradient))


@inner
def write_attention(
    scratch, slots, latents, k, exact, shifted, begin, end, first, attention
):  # pragma: no cover  (compiled)
    """Write A (sample, area, query) of a block of queries, for a cluster's slots."""
    unnormalised, scales = scratch.unnormalised, scratch.scales
    areas, queries = attention.shape[1:]
    count = min(unnormalised.shape[1], queries - first)
    for group in range(begin, end, BATCHED_DIVISIONS):
        last = min(group + BATCHED_DIVISIONS, end)
        form_weights(scratch, latents, k, exact, shifted, group, last)
        for slot in range(group, last):
            place = slot - group
            inverse = load_row(scales, 2 * place)
            for j in range(areas):
                target = np.uint64((slots[slot] * areas + j) * queries + first)
                store_partial(attention, target, count, load_row(unnormalised, place * areas + j) * inverse)


@inner
def attention_backward(
    scratch, slots, latents, k, exact, shifted, begin, end, first, cotangent
):  # pragma: no cover  (compiled)
    """Replace the area sums of a cluster's slots by the gradient of any loss; return Σ_b R_0 Ḡ.

    G is ``cotangent`` (sample, area, query); one with a single query stands for all. Adds to the gradient of Φ.
    """
    area_sums, exp_shifted, unnormalised = scratch.area_sums, scratch.exp_shifted, scratch.unnormalised
    scales, own_cotangent, phi_gradient = scratch.scales, scratch.cotangent, scratch.phi_gradient
    areas, queries = latents.shape[1], cotangent.shape[2]
    step = rows_per_slot(area_sums, scratch.masked_sums)
    count = min(area_sums.shape[1], queries - first)
    masked_gradient_sum = splat(area_sums.dtype.type(0))
    for group in range(begin, end, BATCHED_DIVISIONS):
        last = min(group + BATCHED_DIVISIONS, end)
        form_weights(scratch, latents, k, exact, shifted, group, last)
        for slot in range(group, last):
            b, place = slots[slot], slot - group
            inverse, exp_minus_shift = load_row(scales, 2 * place), load_row(scales, 2 * place + 1)
            mean = splat(area_sums.dtype.type(0))
            for j in range(areas):
                # a mean-pooled loss gives one number for all queries: its array (sample, area, query) is never made
                if queries > 1:
                    of_area = load_partial(cotangent, np.uint64((b * areas + j) * queries + first), count)
                else:
                    of_area = broadcast_load(cotangent, b * areas + j)
                mean = fma(load_row(unnormalised, place * areas + j) * inverse, of_area, mean)
                store_row(own_cotangent, j, of_area)
            masked_gradient = exp_minus_shift * inverse * mean
            for j in range(areas):
                centred, at = inverse * (load_row(own_cotangent, j) - mean), place * areas + j
                _accumulate_gradient(
                    latents, k, slot, j, load_row(unnormalised, at), load_row(exp_shifted, at),
                    centred, masked_gradient, step, area_sums, phi_gradient,
                )  # fmt: skip
            masked_gradient_sum = masked_gradient_sum + masked_gradient
    return masked_gradient_sum
