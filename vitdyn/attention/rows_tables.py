"""Sums of selected rows for a block of queries by tables: on any processor, and in half the additions or less.

A row is a block of queries. For every four rows a table holds the sums of all 16 subsets (the "method of the four
Russians"), so that four bits of a mask cost one load and one addition. A table of eight such groups, 32 rows, takes
16 KiB and stays in the first cache while all samples (or all keys of an area) pass by. For P keys, B samples and N
areas a block reads P·B/4 rows each way; the tables write 4·P rows forward and 4·B·N rows backward.
"""

from __future__ import annotations

import numpy as np

from vitdyn.attention.rows_vector import compiled, part, row, set_row, splat, subset_row
from vitdyn.attention.rows_words import EVERY_HIGH

GROUPS, SUBSETS = 8, 16
TABLE_ROWS = GROUPS * SUBSETS


@compiled
def flip_codes(codes, key_chunks, low, high, first, last, flipped):  # pragma: no cover  (compiled)
    """Write to ``flipped`` the codes of the masked keys of a cluster's slots; its chunks are ``low`` to ``high``."""
    source, target = codes.view(np.uint32), flipped.view(np.uint32)
    for chunk in range(high - low):
        every = np.uint32((1 << key_chunks[low + chunk, 2]) - 1)
        for slot in range(first, last):
            target[chunk, slot, 0] = source[chunk, slot, 0] ^ ((every << np.uint32(4)) & EVERY_HIGH)
            target[chunk, slot, 1] = source[chunk, slot, 1] ^ (every & EVERY_HIGH)


@compiled
def fill_group(table, group, left, one, two, three, four):  # pragma: no cover  (compiled)
    """Write the sums of all subsets of the first ``left`` of four rows; that of none is zero from the start."""
    at = group * SUBSETS
    set_row(table, at + 1, one)
    if left == 1:
        return
    low = one + two
    set_row(table, at + 2, two)
    set_row(table, at + 3, low)
    if left == 2:
        return
    set_row(table, at + 4, three)
    set_row(table, at + 5, three + one)
    set_row(table, at + 6, three + two)
    set_row(table, at + 7, three + low)
    if left == 3:
        return
    high = three + four
    set_row(table, at + 8, four)
    set_row(table, at + 9, four + one)
    set_row(table, at + 10, four + two)
    set_row(table, at + 11, four + low)
    set_row(table, at + 12, high)
    set_row(table, at + 13, high + one)
    set_row(table, at + 14, high + two)
    set_row(table, at + 15, high + low)


@part
def selected(table, codes, at, count):  # pragma: no cover  (compiled)
    """Return the sum of the rows that the codes of the first ``count`` rows of a table select."""
    if count > 24:
        return four_groups(table, 0, codes, at) + four_groups(table, 4, codes, at)
    if count > 16:
        return four_groups(table, 0, codes, at) + (
            subset_row(table, 4, codes, at) + subset_row(table, 5, codes, at)
        )
    if count > 8:
        return four_groups(table, 0, codes, at)
    if count > 4:
        return subset_row(table, 0, codes, at) + subset_row(table, 1, codes, at)
    return subset_row(table, 0, codes, at)


@part
def four_groups(table, group, codes, at):  # pragma: no cover  (compiled)
    """Return the sum of the rows that the codes of 16 rows select, from those of ``group`` on."""
    return (subset_row(table, group, codes, at) + subset_row(table, group + 1, codes, at)) + (
        subset_row(table, group + 2, codes, at) + subset_row(table, group + 3, codes, at)
    )


@compiled
def add_masses(
    codes, kernel, cut, key_chunks, chunk_ends, first_cluster, last_cluster, ends, in_one, table, masses, step
):  # pragma: no cover  (compiled)
    """Write W (slot · ``step`` + area) of the slots of clusters: the kernel's rows of each area's keys in ``codes``.

    The clusters are cut alike, and all areas count as one if ``in_one``; cluster k has the slots ``ends[k]`` to
    ``ends[k + 1]``.
    """
    if ends[first_cluster] == ends[last_cluster]:
        return
    zero = splat(kernel.dtype.type(0))
    low, high = chunk_ends[first_cluster], chunk_ends[first_cluster + 1]
    for own in range(high - low):
        start, count = key_chunks[low + own, 1], key_chunks[low + own, 2]
        for group in range((count + 3) // 4):
            at, left = start + 4 * group, count - 4 * group
            fill_group(
                table,
                group,
                left,
                row(kernel, cut[first_cluster, at]),
                row(kernel, cut[first_cluster, at + 1]) if left > 1 else zero,
                row(kernel, cut[first_cluster, at + 2]) if left > 2 else zero,
                row(kernel, cut[first_cluster, at + 3]) if left > 3 else zero,
            )
        for k in range(first_cluster, last_cluster):
            area, begins = key_chunks[chunk_ends[k] + own, 0], key_chunks[chunk_ends[k] + own, 3] == 1
            if in_one:
                area, begins = 0, own == 0
            for slot in range(ends[k], ends[k + 1]):
                index, at = slot * step + area, (own * codes.shape[1] + slot) * GROUPS
                found = zero if begins else row(masses, index)
                set_row(masses, index, found + selected(table, codes, at, count))


@compiled
def add_pulled(
    codes, pulled, step, order, k, spans, sample_chunks, low, high, begins, table, gathered
):  # pragma: no cover  (compiled)
    """Add to each key's row of ``gathered`` the rows of its area of the samples of cluster k that show it.

    Its chunks of samples are ``low`` to ``high``. Where the cluster ``begins``, instead of adding, write.
    """
    zero = splat(pulled.dtype.type(0))
    for chunk in range(low, high):
        fresh = begins and chunk == low
        first, count = sample_chunks[chunk, 1], sample_chunks[chunk, 2]
        for area in range(spans.shape[1]):
            start, stop = spans[k, area, 0], spans[k, area, 1]
            if start == stop:
                continue
            for group in range((count + 3) // 4):
                at, left = (first + 4 * group) * step + area, count - 4 * group
                fill_group(
                    table,
                    group,
                    left,
                    row(pulled, at),
                    row(pulled, at + step) if left > 1 else zero,
                    row(pulled, at + 2 * step) if left > 2 else zero,
                    row(pulled, at + 3 * step) if left > 3 else zero,
                )
            for place in range(start, stop):
                q, at = order[k, place], (chunk * codes.shape[1] + place) * GROUPS
                found = zero if fresh else row(gathered, q)
                set_row(gathered, q, found + selected(table, codes, at, count))
