"""Attention summed over queries, for losses that pool: forward without an array (sample, area, query).

A block's weights are folded to a quarter of its lanes as soon as they are formed: for each (sample, area) a block adds
32 bytes to the sums of the blocks before it, where it would write 128 bytes of attention to memory.
"""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from vitdyn.kernels.cpu.simd import address_of, half, inner, load_row, splat, store_row
from vitdyn.kernels.cpu.weights import BATCHED_DIVISIONS, form_weights

FOLDED = 4
"""How many lanes of a block are added up at once: a full sum would cost more shuffles than it saves additions."""


@inner
def sum_attention(
    scratch, latents, k, exact, shifted, begin, end, block_sums
):  # pragma: no cover  (compiled)
    """Write Σ_p A of the queries of a block that are patches (``mark_patches``), folded, for a cluster's slots."""
    unnormalised, scales = scratch.unnormalised, scratch.scales
    areas, folded = latents.shape[1], block_sums.shape[1]
    inside = load_row(scratch.spare, 0)
    for group in range(begin, end, BATCHED_DIVISIONS):
        last = min(group + BATCHED_DIVISIONS, end)
        form_weights(scratch, latents, k, exact, shifted, group, last)
        for slot in range(group, last):
            place = slot - group
            # queries beyond the last patch have weights too: an inverse of 0 keeps them out of the mean
            inverse = load_row(scales, 2 * place) * inside
            for j in range(areas):
                target = np.uint64((slot * areas + j) * folded)
                store_folded(block_sums, target, load_row(unnormalised, place * areas + j) * inverse)


@inner
def mark_patches(first, patches, inside):  # pragma: no cover  (compiled)
    """Write 1 where a query of the block from ``first`` on is one of the patches, 0 beyond the last."""
    store_row(inside, 0, splat(inside.dtype.type(1)))
    for v in range(patches - first, inside.shape[1]):
        inside[0, v] = 0


@inner
def add_sums(block_sums, low, high, sums):  # pragma: no cover  (compiled)
    """Add rows ``low`` to ``high`` of a block's sums to those of the blocks before."""
    for index in range(low, high):
        for v in range(sums.shape[1]):
            sums[index, v] += block_sums[index, v]


@inner
def write_means(sums, slots, patches, means):  # pragma: no cover  (compiled)
    """Write means over the queries (sample, area) from folded sums (slot · area)."""
    areas = means.shape[1]
    for slot in range(slots.shape[0]):
        for j in range(areas):
            total = sums.dtype.type(0)
            for v in range(sums.shape[1]):
                total += sums[slot * areas + j, v]
            means[slots[slot], j] = total / sums.dtype.type(patches)


@intrinsic
def store_folded(context, array, offset, value):
    """Write a block, folded, to ``array`` from ``offset`` on."""

    def emit(context, builder, sig, args):
        folded = args[2]
        while folded.type.count > value.count // FOLDED:
            folded = builder.fadd(half(builder, folded, 0), half(builder, folded, folded.type.count // 2))
        pointer = address_of(context, builder, sig.args[0], *args[:2], folded.type)
        builder.store(folded, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.uint64, value), emit
