"""Sums of selected rows for a block of queries, by tables of subset sums: half the additions or less.

A row is a block of queries. For every four rows a table holds the sums of all 16 subsets (the "method of the four
Russians"), so that four bits of a mask cost one load and one addition. A table of eight such groups, 32 rows, takes
16 KiB and stays in L1 while all samples (or all keys of an area) pass by. For P keys, B samples and N areas a block
reads P·B/4 rows each way; the tables write 4·P rows forward and 4·B·N rows backward.
"""

from __future__ import annotations

import numpy as np

from vitdyn.kernels.cpu.simd import inlined, inner, load_row, load_subset_sum, splat, store_row

GROUPS, SUBSETS = 8, 16
TABLE_ROWS = GROUPS * SUBSETS


@inlined
def rows_per_slot(area_sums, masked_sums):  # pragma: no cover  (compiled)
    """Return how many rows further the area sums of the next slot are."""
    return area_sums.shape[0] // masked_sums.shape[0]


@inner
def flip_index_bytes(
    index_bytes, key_chunks, low, high, first, last, flipped
):  # pragma: no cover  (compiled)
    """Write to ``flipped`` the index bytes of masked keys of a cluster's slots, in its chunks ``low`` to ``high``."""
    # a key's bit is flipped only where the chunk has that key: bits beyond its last stay 0 and select no row
    for chunk in range(high - low):
        every = (1 << key_chunks[low + chunk, 2]) - 1
        for slot in range(first, last):
            for place in range(GROUPS):
                nibble = (
                    every >> (8 * (place % 4) + 4 * (place // 4))
                ) & 15  # as ``store_index_bytes`` has them
                flipped[chunk, slot, place] = index_bytes[chunk, slot, place] ^ np.uint8(16 * nibble)


@inner
def fill_subset_sums(table, group, left, one, two, three, four):  # pragma: no cover  (compiled)
    """Write the sums of all subsets of the first ``left`` of four rows; that of none is zero from the start."""
    at = group * SUBSETS
    store_row(table, at + 1, one)
    low = one + two
    if left > 1:
        store_row(table, at + 2, two)
        store_row(table, at + 3, low)
    if left > 2:
        # each sum is one addition to an earlier one: eleven additions for sixteen subsets
        store_row(table, at + 4, three)
        store_row(table, at + 5, three + one)
        store_row(table, at + 6, three + two)
        store_row(table, at + 7, three + low)
    if left > 3:
        high = three + four
        store_row(table, at + 8, four)
        store_row(table, at + 9, four + one)
        store_row(table, at + 10, four + two)
        store_row(table, at + 11, four + low)
        store_row(table, at + 12, high)
        store_row(table, at + 13, high + one)
        store_row(table, at + 14, high + two)
        store_row(table, at + 15, high + low)


@inlined
def lookup(table, index_bytes, at, count):  # pragma: no cover  (compiled)
    """Return the sum of the rows that index bytes select, of the first ``count`` rows of a table."""
    # the fewest loads that reach all rows; two chains of additions, since one waits four cycles for each
    if count > 24:
        return four_groups(table, 0, index_bytes, at) + four_groups(table, 4, index_bytes, at)
    if count > 16:
        return four_groups(table, 0, index_bytes, at) + (
            load_subset_sum(table, 4, index_bytes, at) + load_subset_sum(table, 5, index_bytes, at)
        )
    if count > 8:
        return four_groups(table, 0, index_bytes, at)
    if count > 4:
        return load_subset_sum(table, 0, index_bytes, at) + load_subset_sum(table, 1, index_bytes, at)
    return load_subset_sum(table, 0, index_bytes, at)


@inlined
def four_groups(table, group, index_bytes, at):  # pragma: no cover  (compiled)
    """Return the sum of the rows that the index bytes of 16 rows select, from those of ``group`` on."""
    low = load_subset_sum(table, group, index_bytes, at) + load_subset_sum(table, group + 1, index_bytes, at)
    return low + (
        load_subset_sum(table, group + 2, index_bytes, at)
        + load_subset_sum(table, group + 3, index_bytes, at)
    )


@inner
def sum_keys_by_area(
    index_bytes, exp_logits, cut, key_chunks, chunk_ends, first_cluster, last_cluster, ends, table, area_sums, step
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write W (slot · ``step`` + area) of the slots of clusters: sums of those rows of E that ``index_bytes`` select.

    The clusters are cut alike; cluster k has the slots ``ends[k]`` to ``ends[k + 1]``. With a ``step`` of 1 all areas
    count as one.
    """
    if ends[first_cluster] == ends[last_cluster]:
        return
    zero = splat(exp_logits.dtype.type(0))
    low, high = chunk_ends[first_cluster], chunk_ends[first_cluster + 1]
    for own in range(high - low):
        start, count = key_chunks[low + own, 1], key_chunks[low + own, 2]
        for group in range((count + 3) // 4):
            at, left = start + 4 * group, count - 4 * group
            fill_subset_sums(
                table,
                group,
                left,
                load_row(exp_logits, cut[first_cluster, at]),
                load_row(exp_logits, cut[first_cluster, at + 1]) if left > 1 else zero,
                load_row(exp_logits, cut[first_cluster, at + 2]) if left > 2 else zero,
                load_row(exp_logits, cut[first_cluster, at + 3]) if left > 3 else zero,
            )
        # the table is filled once and read by all samples: chunk by chunk outside, samples inside
        for k in range(first_cluster, last_cluster):
            area, begins = key_chunks[chunk_ends[k] + own, 0], key_chunks[chunk_ends[k] + own, 3] == 1
            if step == 1:
                area, begins = 0, own == 0
            for slot in range(ends[k], ends[k + 1]):
                index, at = slot * step + area, (own * index_bytes.shape[1] + slot) * GROUPS
                found = zero if begins else load_row(area_sums, index)
                store_row(area_sums, index, found + lookup(table, index_bytes, at, count))


@inner
def sum_keys(
    scratch, spans, cut, key_chunks, chunk_ends, together, by_sample, k, ends, exact
):  # pragma: no cover  (compiled)
    """Write W of a cluster's slots, and with ``exact`` also W_0, where it has lost its digits as a difference.

    Where clusters are taken ``together`` the call for the first one writes W of all. With ``exact`` a cluster's W are
    written again, since the backward has put gradients in their place.
    """
    if not exact and k % together > 0:
        return
    table, exp_logits = scratch.table, scratch.exp_logits
    area_sums, masked_sums = scratch.area_sums, scratch.masked_sums
    last, step = k + (1 if exact else together), rows_per_slot(area_sums, masked_sums)
    sum_keys_by_area(
        by_sample[0], exp_logits, cut, key_chunks, chunk_ends, k, last, ends, table, area_sums, step
    )
    for own in range(k, last):
        for area in range(spans.shape[1]):
            if spans[own, area, 0] == spans[own, area, 1]:  # an area that this cluster does not have
                for slot in range(ends[own], ends[own + 1]):
                    store_row(area_sums, slot * step + area, splat(area_sums.dtype.type(0)))
    if exact:
        low, high = chunk_ends[k], chunk_ends[k + 1]
        flip_index_bytes(by_sample[0], key_chunks, low, high, ends[k], ends[k + 1], by_sample[1])
        # a ratio in place of 1: for a number in the text the compiler would make a function of its own
        one = masked_sums.shape[0] // masked_sums.shape[0]
        sum_keys_by_area(
            by_sample[1], exp_logits, cut, key_chunks, chunk_ends, k, last, ends, table, masked_sums, one
        )


@inner
def sum_samples_by_key(
    scratch, index_bytes, order, k, spans, sample_chunks, low, high, begins
):  # pragma: no cover  (compiled)
    """Add to each key's gradient the rows of its area, for those samples of cluster k in which the key is visible.

    The cluster's chunks of samples are ``low`` to ``high``. Where it is a block's first with samples
    (``begins``) rows are written, not added to, so that nothing has to be cleared.
    """
    table, area_gradient, key_gradient = scratch.table, scratch.area_sums, scratch.key_gradient
    step = rows_per_slot(area_gradient, scratch.masked_sums)
    zero = splat(area_gradient.dtype.type(0))
    for chunk in range(low, high):
        fresh = begins and chunk == low
        first, count = sample_chunks[chunk, 1], sample_chunks[chunk, 2]
        for area in range(spans.shape[1]):
            start, stop = spans[k, area, 0], spans[k, area, 1]
            if start == stop:
                continue
            for group in range((count + 3) // 4):
                at, left = (first + 4 * group) * step + area, count - 4 * group
                fill_subset_sums(
                    table,
                    group,
                    left,
                    load_row(area_gradient, at),
                    load_row(area_gradient, at + step) if left > 1 else zero,
                    load_row(area_gradient, at + 2 * step) if left > 2 else zero,
                    load_row(area_gradient, at + 3 * step) if left > 3 else zero,
                )
            for place in range(start, stop):
                q, at = order[k, place], (chunk * index_bytes.shape[1] + place) * GROUPS
                found = zero if fresh else load_row(key_gradient, q)
                store_row(key_gradient, q, found + lookup(table, index_bytes, at, count))
