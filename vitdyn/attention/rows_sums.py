"""Sums of selected rows for a block of queries: the two products with a 0/1 matrix, in half the additions or less.

A row is a block of queries. For every four rows a table holds the sums of all 16 subsets (the "method of the four
Russians"), so that four bits of a mask cost one load and one addition. A table of eight such groups, 32 rows, takes
16 KiB and stays in the first cache while all samples (or all keys of an area) pass by. For P keys, B samples and N
areas a block reads P·B/4 rows each way; the tables write 4·P rows forward and 4·B·N rows backward.
"""

from __future__ import annotations

import numpy as np

from vitdyn.attention.rows_vector import (
    compiled,
    row,
    set_row,
    splat,
    subset_row,
    transpose_pulls,
    transpose_tile,
)

GROUPS, SUBSETS = 8, 16
TABLE_ROWS = GROUPS * SUBSETS


@compiled
def fill_group(table, group, one, two, three, four):  # pragma: no cover  (compiled)
    """Write the sums of all subsets of four rows; that of none is zero from the start."""
    at = group * SUBSETS
    low = one + two
    high = three + four
    set_row(table, at + 1, one)
    set_row(table, at + 2, two)
    set_row(table, at + 3, low)
    set_row(table, at + 4, three)
    set_row(table, at + 5, three + one)
    set_row(table, at + 6, three + two)
    set_row(table, at + 7, three + low)
    set_row(table, at + 8, four)
    set_row(table, at + 9, four + one)
    set_row(table, at + 10, four + two)
    set_row(table, at + 11, four + low)
    set_row(table, at + 12, high)
    set_row(table, at + 13, high + one)
    set_row(table, at + 14, high + two)
    set_row(table, at + 15, high + low)


@compiled
def four_groups(table, codes, at):  # pragma: no cover  (compiled)
    """Return the sum of the rows that the codes of the first 16 rows select."""
    return (subset_row(table, 0, codes, at) + subset_row(table, 1, codes, at)) + (
        subset_row(table, 2, codes, at) + subset_row(table, 3, codes, at)
    )


@compiled
def eight_groups(table, codes, at):  # pragma: no cover  (compiled)
    """Return the sum of the rows that the codes of all 32 rows select."""
    high = (subset_row(table, 4, codes, at) + subset_row(table, 5, codes, at)) + (
        subset_row(table, 6, codes, at) + subset_row(table, 7, codes, at)
    )
    return four_groups(table, codes, at) + high


@compiled
def add_masses(kernel, order, key_chunks, codes, first, last, table, masses):  # pragma: no cover  (compiled)
    """Write W (area · sample) of the slots of one cluster: the kernel's rows of each area's keys in ``codes``."""
    zero = splat(kernel.dtype.type(0))
    samples = codes.shape[1]
    flat = codes.reshape(-1)
    for chunk in range(key_chunks.shape[0]):
        area, start, count = key_chunks[chunk, 0], key_chunks[chunk, 1], key_chunks[chunk, 2]
        for group in range((count + 3) // 4):
            at, left = start + 4 * group, count - 4 * group
            fill_group(
                table,
                group,
                row(kernel, order[at]),
                row(kernel, order[at + 1]) if left > 1 else zero,
                row(kernel, order[at + 2]) if left > 2 else zero,
                row(kernel, order[at + 3]) if left > 3 else zero,
            )
        begins = chunk == 0 or key_chunks[chunk - 1, 0] != area
        for slot in range(first, last):
            index, at = area * samples + slot, (chunk * samples + slot) * GROUPS
            found = zero if begins else row(masses, index)
            if count > 16:
                set_row(masses, index, found + eight_groups(table, flat, at))
            else:
                set_row(masses, index, found + four_groups(table, flat, at))


@compiled
def add_pulled(
    pulled, samples, order, spans, codes, first, count, begins, table, gathered
):  # pragma: no cover  (compiled)
    """Add to each key's row of ``gathered`` the rows of its area of the chunk's samples that show it.

    Where the chunk ``begins``, instead of adding, write.
    """
    zero = splat(pulled.dtype.type(0))
    flat = codes.reshape(-1)
    for area in range(spans.shape[0]):
        start, stop = spans[area, 0], spans[area, 1]
        if start == stop:
            continue
        for group in range((count + 3) // 4):
            at, left = area * samples + first + 4 * group, count - 4 * group
            fill_group(
                table,
                group,
                row(pulled, at),
                row(pulled, at + 1) if left > 1 else zero,
                row(pulled, at + 2) if left > 2 else zero,
                row(pulled, at + 3) if left > 3 else zero,
            )
        for i in range(start, stop):
            q = order[i]
            found = zero if begins else row(gathered, q)
            if count > 16:
                set_row(gathered, q, found + eight_groups(table, flat, q * GROUPS))
            else:
                set_row(gathered, q, found + four_groups(table, flat, q * GROUPS))


@compiled
def read_block(matrix, first, rows):  # pragma: no cover  (compiled)
    """Copy the queries ``first`` and on of a (query, key) matrix to ``rows`` (key, query); 0 beyond the last."""
    queries, keys = matrix.shape
    width = rows.shape[1]
    side = width // 2
    inside = min(width, queries - first)
    if inside < width:
        rows[:] = 0
    for v in range(0, width, side):
        whole = keys - keys % side if v + side <= inside else 0
        for q in range(0, whole, side):
            transpose_tile(
                matrix, np.uint64((first + v) * keys + q), np.uint64(keys),
                rows, np.uint64(q * width + v), np.uint64(width),
            )  # fmt: skip
        for u in range(v, min(v + side, inside)):
            for q in range(whole, keys):
                rows[q, u] = matrix[first + u, q]


@compiled
def write_block(pulls, everywhere, kernel, first, matrix):  # pragma: no cover  (compiled)
    """Write (pulls − everywhere) · kernel (key, query) to the queries ``first`` and on of a (query, key) matrix."""
    queries, keys = matrix.shape
    width = pulls.shape[1]
    side = width // 2
    inside = min(width, queries - first)
    for v in range(0, width, side):
        whole = keys - keys % side if v + side <= inside else 0
        for q in range(0, whole, side):
            transpose_pulls(
                pulls, np.uint64(q * width + v), np.uint64(width),
                matrix, np.uint64((first + v) * keys + q), np.uint64(keys),
                everywhere, np.uint64(v), kernel,
            )  # fmt: skip
        for u in range(v, min(v + side, inside)):
            for q in range(whole, keys):
                matrix[first + u, q] = (pulls[q, u] - everywhere[0, u]) * kernel[q, u]
