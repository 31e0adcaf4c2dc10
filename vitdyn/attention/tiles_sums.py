"""Sums of selected keys, and of selected samples, for 16 queries by the matrix unit: exact products of three pieces.

A float32 number is the sum of three bfloat16 numbers of 8 bits each, cut off it one after the other, and a mark's 0
and 1 are bfloat16 numbers too. So a sum of selected numbers is three products of tiles with exact terms, added in
float32: what rounds is the addition, as anywhere. For P keys and B samples, all queries take 3 P²B multiply-adds each
way at 512 a cycle where areas fill chunks of 32 keys. Marks pass by the first cache, in which pieces stay.
"""

from __future__ import annotations

import numpy as np

from vitdyn.attention.rows_powers import LOG2_E, two_to_product
from vitdyn.attention.rows_vector import (
    CHUNK,
    choose,
    load,
    part,
    row,
    set_row,
    splat,
    store,
    store_part,
)
from vitdyn.attention.tiles_lanes import bits_of, gather, total_of
from vitdyn.attention.tiles_unit import (
    AWAKE,
    PIECES,
    SIDE,
    TILE,
    clear,
    cut,
    fetch,
    fetch_once,
    keep,
    multiply,
    stay_awake,
)

PAIR = SIDE * 2 * CHUNK
"""Numbers of a pair of tiles of marks."""
MODERATE_TOTAL = 2.0**30
"""Where T and 1/T are up to this, nothing that is made of them leaves the range of float32."""


@part
def read_queries(
    upsilon, first, queries, order, in_order, step, kernel, pieces, totals
):  # pragma: no cover  (compiled)
    """Write E = exp(Υ) of a block of queries to ``kernel``, its pieces, and T = Σ_q E to ``totals``.

    Query u has the rows of ``kernel`` from u · ``step`` on, keys sorted, and 0 beyond the last. Returns whether each T
    is moderate.
    """
    patches, moderate = upsilon.shape[1], True
    zero, log2_e = splat(upsilon.dtype.type(0)), splat(upsilon.dtype.type(LOG2_E))
    for u in range(queries):
        if u % AWAKE == 0:
            stay_awake()
        start = (first + u) * patches
        summed = zero
        for at in range(order.shape[0]):
            place = np.uint64(start + at * CHUNK)
            value = load(upsilon, place) if in_order else gather(upsilon, start, order, at)
            power = two_to_product(value, log2_e)
            if patches < (at + 1) * CHUNK:
                inside = np.uint32((1 << (patches - at * CHUNK)) - 1)
                power = choose(bits_of(inside, power), power, zero)
            set_row(kernel, u * step + at, power)
            cut(power, pieces, (at * PIECES * SIDE + u) * CHUNK)
            summed = summed + power
        totals[u] = total_of(summed)
        moderate = moderate and 1 / MODERATE_TOTAL <= totals[u] <= MODERATE_TOTAL
    return moderate


@part
def _add_pair(marks, pair, pieces, place, low, high):  # pragma: no cover  (compiled)
    """Add the products of all pieces at ``place`` with the first tile of a pair of marks, the second, or both."""
    fetch_once(2, marks, pair * PAIR, 2 * CHUNK)
    fetch_once(3, marks, pair * PAIR + CHUNK, 2 * CHUNK)
    for piece in range(PIECES):
        fetch(4, pieces, (place * PIECES + piece) * TILE, CHUNK)
        if low:
            multiply(0, 4, 2)
        if high:
            multiply(1, 4, 3)


@part
def sum_keys(marks, pieces, present, masses, step):  # pragma: no cover  (compiled)
    """Write W to ``masses`` ((chunk of samples · area) · ``step`` + query)."""
    (chunks, areas, of_keys), pair = present.shape, 0
    for chunk in range(chunks):
        for area in range(areas):
            clear(0)
            clear(1)
            for at in range(of_keys):
                if present[chunk, area, at]:
                    _add_pair(marks, pair, pieces, at, True, True)
                    pair += 1
            target = (chunk * areas + area) * step * CHUNK
            keep(0, masses, target, CHUNK)
            keep(1, masses, target + SIDE, CHUNK)


@part
def write_queries(
    marks, pieces, present, everywhere, kernel, step, losses, gathered,
    first, queries, place, in_order, d_upsilon,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write ∂L/∂Υ of a block of queries: E (what the samples that show a key pull − what every key loses).

    Keys get back to their own order. Each chunk's sums are used when those of the next are under way.
    """
    patches, of_keys, pair = d_upsilon.shape[1], present.shape[2], 0
    for u in range(queries):
        losses[u] = total_of(row(everywhere, u))
    for at in range(of_keys + 1):
        if at < of_keys:
            pair = _sum_samples(marks, pair, pieces, present, at, gathered)
        if at > 0:
            for u in range(queries):
                pulled = row(gathered, (at - 1) % 2 * SIDE + u) - splat(losses[u])
                value = pulled * row(kernel, u * step + at - 1)
                if in_order:
                    store(d_upsilon, np.uint64((first + u) * patches + (at - 1) * CHUNK), value)
                else:
                    set_row(kernel, u * step + at - 1, value)
    if not in_order:
        for u in range(queries):
            for at in range(of_keys):
                value = gather(kernel, u * step * CHUNK, place, at)
                count = min(CHUNK, patches - at * CHUNK)
                store_part(d_upsilon, np.uint64((first + u) * patches + at * CHUNK), count, value)


@part
def _sum_samples(marks, pair, pieces, present, at, gathered):  # pragma: no cover  (compiled)
    """Write for a chunk of keys what the samples that show it pull, to one half of ``gathered`` or the other in turns.

    Returns the next pair of marks.
    """
    chunks, areas = present.shape[:2]
    clear(0)
    clear(1)
    for chunk in range(chunks):
        for area in range(areas):
            keys = present[chunk, area, at]
            if keys:
                _add_pair(marks, pair, pieces, chunk * areas + area, keys & 0xFFFF, keys >> SIDE)
                pair += 1
    target = at % 2 * TILE
    keep(0, gathered, target, CHUNK)
    keep(1, gathered, target + SIDE, CHUNK)
    return pair
