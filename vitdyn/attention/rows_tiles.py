"""Sums of selected rows for a block of queries by the matrix unit of a core (AMX): exact products of three pieces.

A float32 number is the sum of three bfloat16 numbers of 8 bits each, cut off it one after the other, and a mask's 0
and 1 are bfloat16 numbers too. So a sum of selected rows is three products of tiles with exact terms, added in
float32: what rounds is the addition, as anywhere. A tile holds 16 rows of 64 bytes; 32 samples by 32 queries are
four tiles of sums, to which 32 keys add twelve products of 16 · 16 · 32 multiply-adds, 16 cycles each.

For P keys, B samples and N areas of whole chunks of 32 keys, all queries take 3 P²B multiply-adds each way at 512 a
cycle, and 11 operations on 16 numbers for every 32 that are cut to pieces: P² forward, P N B backward. The pieces of
four chunks, 24 KiB, stay in the first cache while all samples (or all keys of an area) pass by.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import llvmlite.binding
import numba
import numpy as np

from vitdyn.attention.rows_tile_unit import (
    PIECES,
    SIDE,
    clear,
    configure,
    cut,
    fetch,
    keep,
    multiply,
    release,
)
from vitdyn.attention.rows_vector import CHUNK, compiled, part, row, set_row, splat
from vitdyn.attention.rows_words import MARK
from vitdyn.data import PatchLayout

TOGETHER, PAIR = 4, 64
"""Chunks cut to pieces at a time; numbers of a pair of rows."""

NUMBERS = TOGETHER * PIECES * SIDE * PAIR
"""Numbers of all pieces together."""

_REQUEST_PERMISSION, _TILE_DATA = 0x1023, 18


@cache
def available() -> bool:
    """Say whether this machine has tiles of bfloat16, the compiler may use them, and the system lets this process."""
    if sys.platform != "linux":
        return False
    given = numba.config.CPU_FEATURES
    found = llvmlite.binding.get_host_cpu_features().flatten() if given is None else given
    generic = given is None and numba.config.CPU_NAME == "generic"
    if generic or not {"+amx-tile", "+amx-bf16", "+avx512bw"} <= set(found.split(",")):
        return False
    call = ctypes.CDLL(None).syscall
    return call(158, _REQUEST_PERMISSION, _TILE_DATA) == 0  # arch_prctl


def worthwhile(layout: PatchLayout, samples: int) -> bool:
    """Say whether tiles are quicker than tables: where chunks of keys and of samples are mostly full."""
    filled = -(-layout.sizes // CHUNK).sum(1).max() * CHUNK
    return 4 * filled <= 5 * layout.patches and samples >= 2 * CHUNK * layout.clusters


def settings() -> np.ndarray:
    """Return what ``configure`` reads: eight tiles of 16 rows of 64 bytes."""
    given = np.zeros(64, np.uint8)
    given[0] = 1
    given[16:32:2] = 64
    given[48:56] = 16
    return given


@compiled
def begin(marks, settings):  # pragma: no cover  (compiled)
    """Take the tiles."""
    configure(settings)


@compiled
def end(marks):  # pragma: no cover  (compiled)
    """Give the tiles back."""
    release()


@compiled
def flip_codes(marks, key_chunks, low, high, first, last, flipped):  # pragma: no cover  (compiled)
    """Write to ``flipped`` the marks of the masked keys of a cluster's slots; its chunks are ``low`` to ``high``."""
    for chunk in range(high - low):
        for slot in range(first, last):
            flipped[chunk, slot] = 0
            for i in range(key_chunks[low + chunk, 2]):
                flipped[chunk, slot, i] = marks[chunk, slot, i] ^ MARK


@compiled
def add_masses(
    marks, kernel, order, k, key_chunks, low, high, in_one, first, last, table, pieces, masses
):  # pragma: no cover  (compiled)
    """Write W (area · slot) of the slots of cluster k: the kernel's rows of each area's keys in ``marks``, or of all.

    Its chunks of keys are ``low`` to ``high``; all count as one area if ``in_one``. Slots are taken by sixteens: up to
    15 after the last get numbers too, which mean nothing.
    """
    slots = marks.shape[1]
    chunk = low
    while chunk < high:
        area, together = 0 if in_one else key_chunks[chunk, 0], 0
        fresh = chunk == low or (not in_one and key_chunks[chunk - 1, 0] != area)
        while together < TOGETHER and chunk + together < high:
            if not in_one and key_chunks[chunk + together, 0] != area:
                break
            start, count = key_chunks[chunk + together, 1], key_chunks[chunk + together, 2]
            _cut_rows(kernel, order, k, start, count, pieces, together)
            together += 1
        for slot in range(first, last, CHUNK):
            add_products(
                marks, ((chunk - low) * slots + slot) * CHUNK, slots * CHUNK, together, pieces,
                masses, area * slots + slot, fresh, last - slot > SIDE,
            )  # fmt: skip
        chunk += together


@compiled
def add_pulled(
    marks, pulled, slots, order, k, spans, sample_chunks, low, high, begins, table, pieces, gathered
):  # pragma: no cover  (compiled)
    """Add to each key's row of ``gathered`` the rows of its area of the samples of cluster k that show it.

    Its chunks of samples are ``low`` to ``high``. Where the cluster ``begins``, instead of adding, write.
    """
    keys = marks.shape[1]
    for done in range(low, high, TOGETHER):
        together = min(TOGETHER, high - done)
        chunk = 0
        for area in range(spans.shape[1]):
            start, stop = spans[k, area, 0], spans[k, area, 1]
            if start == stop:
                continue
            for i in range(together):
                first, count = sample_chunks[done + i, 1], sample_chunks[done + i, 2]
                _cut_rows(pulled, None, k, area * slots + first, count, pieces, i)
            for at in range(start, stop, CHUNK):
                add_products(
                    marks, (done * keys + chunk * CHUNK) * CHUNK, keys * CHUNK, together, pieces,
                    table, 0, True, stop - at > SIDE,
                )  # fmt: skip
                chunk += 1
                for i in range(min(CHUNK, stop - at)):
                    found, q = row(table, i), order[k, at + i]
                    if not (begins and done == low):
                        found = found + row(gathered, q)
                    set_row(gathered, q, found)


@compiled
def _cut_rows(rows, order, k, start, count, pieces, chunk):  # pragma: no cover  (compiled)
    """Cut up to 32 rows to pieces, and fill up with zeros: from ``start`` on, of ``order`` [k] unless it is None."""
    zero = splat(rows.dtype.type(0))
    for pair in range(SIDE):
        at, left = start + 2 * pair, count - 2 * pair
        if order is None:
            one, two = row(rows, at) if left > 0 else zero, row(rows, at + 1) if left > 1 else zero
        else:
            one = row(rows, order[k, at]) if left > 0 else zero
            two = row(rows, order[k, at + 1]) if left > 1 else zero
        cut(one, two, pieces, (chunk * PIECES * SIDE + pair) * PAIR)


@part
def add_products(marks, at, step, count, pieces, target, place, fresh, both):  # pragma: no cover  (compiled)
    """Add the products of ``count`` chunks to 16 rows of ``target`` from ``place`` on, or to 32 where ``both``.

    A chunk's marks lie ``step`` numbers after those of the one before. A ``fresh`` sum starts at zero.
    """
    lanes = target.shape[1]
    low = place * lanes
    high = low + SIDE * lanes
    if fresh:
        clear(0)
        clear(1)
        clear(2)
        clear(3)
    else:
        fetch(0, target, low, lanes)
        fetch(1, target, low + SIDE, lanes)
        if both:
            fetch(2, target, high, lanes)
            fetch(3, target, high + SIDE, lanes)
    for chunk in range(count):
        fetch(4, marks, at + chunk * step, CHUNK)
        if both:
            fetch(5, marks, at + chunk * step + SIDE * CHUNK, CHUNK)
        for piece in range(PIECES):
            cut_at = (chunk * PIECES + piece) * SIDE * PAIR
            fetch(6, pieces, cut_at, PAIR)
            fetch(7, pieces, cut_at + PAIR // 2, PAIR)
            multiply(0, 4, 6)
            multiply(1, 4, 7)
            if both:
                multiply(2, 5, 6)
                multiply(3, 5, 7)
    keep(0, target, low, lanes)
    keep(1, target, low + SIDE, lanes)
    if both:
        keep(2, target, high, lanes)
        keep(3, target, high + SIDE, lanes)
