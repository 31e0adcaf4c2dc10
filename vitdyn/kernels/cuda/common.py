"""What the fused kernels have in common: tiles of E and of masks, products in three parts, attention weights.

Functions of the device, in Triton. Arrays lie as (query, key), (query, sample) or (sample, key).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(left, right, total, NATIVE: tl.constexpr, SPLIT: tl.constexpr):  # pragma: no cover  (compiled)
    """Return ``total`` + left · right for a ``right`` of zeros and ones (integers), at the accuracy of float32.

    With SPLIT, ``left`` is cut into three bfloat16 numbers of 8 binary digits each, its 24 in all: three exact products
    on tensor cores, summed in float32. Without NATIVE, under the interpreter, the parts are multiplied as float32.
    """
    if SPLIT:
        high = high_bits(left)
        middle = high_bits(left - high)
        low = left - high - middle
        if NATIVE:
            ones = (right * 0x3F80).to(tl.int16).to(tl.bfloat16, bitcast=True)  # 0x3F80 is 1.0
            total = tl.dot(to_bfloat16(high), ones, total)
            total = tl.dot(to_bfloat16(middle), ones, total)
            total = tl.dot(to_bfloat16(low), ones, total)
        else:
            ones = right.to(tl.float32)
            total = tl.dot(high, ones, total, input_precision="ieee")
            total = tl.dot(middle, ones, total, input_precision="ieee")
            total = tl.dot(low, ones, total, input_precision="ieee")
    else:
        total = tl.dot(left, right.to(tl.float32), total, input_precision="ieee")
    return total


@triton.jit
def high_bits(number):  # pragma: no cover  (compiled)
    """Return the upper 8 binary digits of float32 numbers, the others cut off by bits, since conversions are slow."""
    return (number.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)


@triton.jit
def to_bfloat16(number):  # pragma: no cover  (compiled)
    """Return float32 numbers of 8 binary digits as the bfloat16 numbers that they are."""
    return (number.to(tl.int32, bitcast=True) >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)


@triton.jit
def row_statistics(upsilon, rows, valid, patches, BQ: tl.constexpr):  # pragma: no cover  (compiled)
    """Return the largest Υ_pq of each row and Σ_q E_pq."""
    column = tl.arange(0, 64)
    highest = tl.full((BQ,), -float("inf"), tl.float32)
    for first in range(0, patches, 64):
        inside = valid[:, None] & (first + column < patches)[None, :]
        found = tl.load(upsilon + rows[:, None] + (first + column)[None, :], mask=inside, other=-float("inf"))
        highest = tl.maximum(highest, tl.max(found, 1))
    highest = tl.where(valid, highest, 0.0)  # a query beyond the last: −∞ − (−∞) would be NaN
    total = tl.zeros((BQ,), tl.float32)
    for first in range(0, patches, 64):
        inside = valid[:, None] & (first + column < patches)[None, :]
        found = tl.load(upsilon + rows[:, None] + (first + column)[None, :], mask=inside, other=-float("inf"))
        total += tl.sum(tl.exp(found - highest[:, None]), 1)
    return highest, total


@triton.jit
def exp_logits_tile(upsilon, rows, valid, highest, position):  # pragma: no cover  (compiled)
    """Return E_pq for the keys of one tile, 0 where a slot holds no key or a query is beyond the last."""
    inside = valid[:, None] & (position >= 0)[None, :]
    found = tl.load(upsilon + rows[:, None] + position[None, :], mask=inside, other=-float("inf"))
    return tl.exp(found - highest[:, None])


@triton.jit
def sum_keys(
    upsilon, rows, valid, highest, words, position, first, last, sample, shown, samples,
    MASKED: tl.constexpr, NATIVE: tl.constexpr, SPLIT: tl.constexpr, BQ: tl.constexpr, BB: tl.constexpr
):  # pragma: no cover  (compiled)  # fmt: skip
    """Return Σ E_pq u_bq over the key tiles from ``first`` to ``last``; with MASKED Σ E_pq (1 − u_bq)."""
    bit = tl.arange(0, 32)
    own_sum = tl.zeros((BQ, BB), tl.float32)
    for tile in range(first, last):
        key = tl.load(position + tile * 32 + bit)
        word = tl.load(words + tile * samples + sample, mask=shown, other=0)
        visible = (word[None, :] >> bit[:, None]) & 1
        if MASKED:
            visible = 1 - visible  # a slot of no position has E = 0
        own_sum = product(
            exp_logits_tile(upsilon, rows, valid, highest, key), visible, own_sum, NATIVE, SPLIT
        )
    return own_sum


@triton.jit
def sum_areas(
    upsilon, rows, valid, highest, total, words, position, edges, sample, shown, samples,
    N: tl.constexpr, NATIVE: tl.constexpr, SPLIT: tl.constexpr, BQ: tl.constexpr, BB: tl.constexpr
):  # pragma: no cover  (compiled)  # fmt: skip
    """Return W_j of every area and W_0, for a tile of queries and one of samples.

    W_0 is Σ_q E_pq − Σ_j W_j where that leaves a sixteenth or more of the sum, which costs 4 of 24 digits at
    most; else, for this tile, a sum of its own.
    """
    area_sums = ()
    left = tl.zeros((BQ, BB), tl.float32) + total[:, None]
    # unrolled, since the sums of all areas live in registers, which have no index
    for area in tl.static_range(N):
        own_sum = sum_keys(
            upsilon, rows, valid, highest, words, position, tl.load(edges + area), tl.load(edges + area + 1),
            sample, shown, samples, False, NATIVE, SPLIT, BQ, BB
        )  # fmt: skip
        area_sums = area_sums + (own_sum,)  # type: ignore[assignment]  # noqa: RUF005
        left -= own_sum
    # the same branch for the whole program: where any entry has lost its digits all are summed
    lost = (left * 16 < total[:, None]) & shown[None, :]
    if tl.max(tl.max(lost.to(tl.int32), 1), 0) > 0:
        left = sum_keys(
            upsilon, rows, valid, highest, words, position, 0, tl.load(edges + N),
            sample, shown, samples, True, NATIVE, SPLIT, BQ, BB
        )  # fmt: skip
    return area_sums, tl.where(shown[None, :], left, 0.0)


@triton.jit
def exponent(
    phi, features, valid, latents, sample, shown, area, N: tl.constexpr
):  # pragma: no cover  (compiled)
    """Return z_bj Φ_pj of one area, and z_bj."""
    feature = tl.load(phi + features + area, mask=valid, other=0.0)
    latent = tl.load(latents + sample * N + area, mask=shown, other=0.0)
    return feature[:, None] * latent[None, :], latent


@triton.jit
def normaliser(
    area_sums, masked_sums, phi, features, valid, latents, sample, shown, N: tl.constexpr
):  # pragma: no cover  (compiled)
    """Return c = max(0 if any key is masked, z_j Φ_j of the areas with a visible key), and 1/Z."""
    shift = tl.where(masked_sums > 0, 0.0, -float("inf"))
    for area in tl.static_range(N):
        power, _ = exponent(phi, features, valid, latents, sample, shown, area, N)
        shift = tl.maximum(shift, tl.where(area_sums[area] > 0, power, -float("inf")))
    shift = tl.where(shift == -float("inf"), 0.0, shift)  # a query or a sample beyond the last
    total = tl.where(masked_sums > 0, tl.exp(-shift), 0.0) * masked_sums
    for area in tl.static_range(N):
        power, _ = exponent(phi, features, valid, latents, sample, shown, area, N)
        # only areas without a visible key lie beyond the shift: limited, since their ∞ · 0 would be NaN
        total += tl.exp(tl.minimum(power - shift, 0.0)) * area_sums[area]
    return shift, tl.where(total > 0, 1.0 / tl.where(total > 0, total, 1.0), 0.0)


@triton.jit
def accumulate_gradient(
    key_gradient, area, first_tile, last_tile, upsilon, gradient, rows, valid, highest, masked, words, position, edges,
    sample, shown, samples, rate_pointer, not_finite, UPDATE: tl.constexpr,
    NATIVE: tl.constexpr, SPLIT: tl.constexpr, BQ: tl.constexpr, BB: tl.constexpr
):  # pragma: no cover  (compiled)  # fmt: skip
    """Add Σ_b u_bq g_bp for the keys of one area (g: ``key_gradient``); after the last tile of samples finish ∂L/∂Υ.

    With UPDATE, Υ then takes a step of the seed's rate against ∂L/∂Υ, which is not written. Returns ``not_finite``,
    which turns into NaN where a new Υ is not finite.
    """
    bit = tl.arange(0, 32)
    for tile in range(tl.load(edges + area), tl.load(edges + area + 1)):
        key = tl.load(position + tile * 32 + bit)
        word = tl.load(words + tile * samples + sample, mask=shown, other=0)
        visible = (word[:, None] >> bit[None, :]) & 1
        part = product(key_gradient, visible, tl.zeros((BQ, 32), tl.float32), NATIVE, SPLIT)
        where = rows[:, None] + key[None, :]
        inside = valid[:, None] & (key >= 0)[None, :]
        # partial sums in device memory, in the place of the result: no other program has these queries of this seed
        if first_tile == 0:
            part += tl.load(gradient + where, mask=inside, other=0.0)
        if last_tile == 0:
            tl.store(gradient + where, part, mask=inside)
        else:
            found = tl.load(upsilon + where, mask=inside, other=0.0)
            part = tl.exp(found - highest[:, None]) * (part - masked[:, None])
            if UPDATE:
                moved = found - tl.load(rate_pointer) * part
                not_finite += tl.sum(
                    tl.where(inside, moved - moved, 0.0), 1
                )  # x − x is NaN iff x is not finite
                tl.store(upsilon + where, moved, mask=inside)
            else:
                tl.store(gradient + where, part, mask=inside)
    return not_finite
