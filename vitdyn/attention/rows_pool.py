"""Attention summed over queries, for losses that pool: forward without an array (sample, area, query).

A block's shares are folded to a quarter of its lanes as soon as they are formed: for B samples and N areas 32 bytes a
block of each (sample, area), added to what the blocks before left, in place of 128 bytes written to memory.
"""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from vitdyn.attention.rows_shares import AHEAD, weigh
from vitdyn.attention.rows_vector import address_of, compiled, half, row, set_row, splat

FOLDED = 4
"""Lanes of a block that are added up at once, the others stay apart."""


@compiled
def pool(
    latents, phi, k, total, masses, masked, summed, begin, end, shifted, ratios, weighted, scales, inside, block_sums
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write Σ_p A of a block's queries p ``inside`` to ``block_sums`` (slot · area), folded, for a cluster's slots."""
    areas, lanes = latents.shape[1], block_sums.shape[1]
    counted = row(inside, 0)
    for group in range(begin, end, AHEAD):
        last = min(group + AHEAD, end)
        weigh(latents, phi, k, total, masses, masked, summed, group, last, shifted, ratios, weighted, scales)
        for slot in range(group, last):
            place = slot - group
            inverse = row(scales, 2 * place) * counted
            for j in range(areas):
                target = np.uint64((slot * areas + j) * lanes)
                store_folded(block_sums, target, row(weighted, place * areas + j) * inverse)


@compiled
def mark_inside(first, patches, inside):  # pragma: no cover  (compiled)
    """Write 1 where a query of the block from ``first`` on is one of the patches, 0 beyond the last."""
    set_row(inside, 0, splat(inside.dtype.type(1)))
    for v in range(patches - first, inside.shape[1]):
        inside[0, v] = 0


@compiled
def add_sums(block_sums, low, high, sums):  # pragma: no cover  (compiled)
    """Add rows ``low`` to ``high`` of a block's sums to those of the blocks before."""
    for index in range(low, high):
        for v in range(sums.shape[1]):
            sums[index, v] += block_sums[index, v]


@compiled
def write_means(sums, slots, patches, means):  # pragma: no cover  (compiled)
    """Write means over the queries (sample, area) from folded sums (slot · area)."""
    areas = means.shape[1]
    for slot in range(slots.shape[0]):
        for j in range(areas):
            whole = sums.dtype.type(0)
            for v in range(sums.shape[1]):
                whole += sums[slot * areas + j, v]
            means[slots[slot], j] = whole / sums.dtype.type(patches)


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
