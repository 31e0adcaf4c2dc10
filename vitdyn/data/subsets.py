"""Subsets of an exact size from random words: a start of independent members, then changes of side one by one.

Loops compiled by numba where it is at hand; else the same from numpy and plain Python, to the same bits. A
compiled loop holds no lock of the interpreter, so that groups of seeds draw side by side on threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int, UInt, UInt8, UInt64


def _compiled(function: Any) -> Any:
    """Compile with a cache on disk; return the function as it is where there is no numba or no such folder."""
    try:
        from vitdyn._compiler import compiled

        return compiled()(function)
    except (ImportError, RuntimeError):
        return function


def start(
    words: UInt64[np.ndarray, " word"],
    depth: int,
    numerator: int,
    members: UInt8[np.ndarray, "sample place"],
    counts: Int[np.ndarray, " sample"],
) -> None:
    """Make each place a member with probability numerator / 2^depth, independently, and count the members.

    A bit is put together from ``depth`` random ones, by OR or AND from the numerator's last binary digit to
    its first: w OR b has probability ½ + p/2 where b has p, w AND b has p/2.
    """
    if not depth:
        members[:] = numerator
    else:
        layers = words.reshape(depth, -1)
        bits = layers[0].copy()
        for digit, layer in enumerate(layers[1:], 1):
            combine = np.bitwise_or if numerator >> digit & 1 else np.bitwise_and
            combine(bits, layer, out=bits)
        unpacked = np.unpackbits(bits.view(np.uint8), count=members.size, bitorder="little")
        members[:] = unpacked.reshape(members.shape)
    counts[:] = members.sum(1)


def _start_in_loops(
    words: UInt64[np.ndarray, " word"],
    depth: int,
    numerator: int,
    members: UInt8[np.ndarray, "sample place"],
    counts: Int[np.ndarray, " sample"],
) -> None:  # pragma: no cover  (compiled)
    """Do what ``start`` does, faster where compiled."""
    flat = members.reshape(-1)
    if depth == 0:
        flat[:] = numerator
    else:
        count = words.size // depth
        one = np.uint64(1)
        for index in range(count):
            bits = words[index]
            for digit in range(1, depth):
                layer = words[digit * count + index]
                bits = (bits | layer) if (numerator >> digit) & 1 else (bits & layer)
            first = 64 * index
            if first + 64 <= flat.size:  # a fixed length becomes vector instructions
                for place in range(64):
                    flat[first + place] = (bits >> np.uint64(place)) & one
            else:
                for place in range(flat.size - first):
                    flat[first + place] = (bits >> np.uint64(place)) & one
    samples, places = members.shape
    for sample in range(samples):
        total = np.int32(0)
        for place in range(places):
            total = np.int32(total + members[sample, place])
        counts[sample] = total


def repair(
    members: UInt8[np.ndarray, "sample place"],
    counts: Int[np.ndarray, " sample"],
    size: int,
    chunks: UInt[np.ndarray, " chunk"],
    width: int,
    used: int,
    first: int,
) -> int:
    """Change sides, sample by sample from ``first`` on, until each has ``size`` members; return the first left undone.

    A place is chosen by ``width`` random bits, from the chunk at ``used`` on, and changes side if it is one of
    those in excess. Where the chunks run out, ``counts`` says how far the sample at hand has come.
    """
    places = members.shape[1]
    ones = (1 << width) - 1
    unfair = (1 << width) % places
    for sample in range(first, members.shape[0]):
        row = members[sample]
        excess = counts[sample] - size
        side = 1 if excess > 0 else 0
        left = abs(excess)
        while left > 0:
            if used == chunks.size:
                counts[sample] = size + left if side else size - left
                return sample
            product = np.int64(chunks[used]) * places
            used += 1
            if product & ones >= unfair:
                place = product >> width
                left -= row[place] == side
                row[place] = 1 - side
    return members.shape[0]


def _start_and_repair(
    words: UInt64[np.ndarray, " word"],
    need: int,
    depth: int,
    numerator: int,
    members: UInt8[np.ndarray, "sample place"],
    counts: Int[np.ndarray, " sample"],
    size: int,
    chunks: UInt[np.ndarray, " chunk"],
    width: int,
) -> int:
    """Start from the first ``need`` words and repair from the rest, which ``chunks`` shows in its own width."""
    _start(words[:need], depth, numerator, members, counts)
    return _repair(members, counts, size, chunks, width, need * (64 // width), 0)


def _draw_of_seeds(
    keys: UInt64[np.ndarray, "seed 2"],
    step: int,
    need: int,
    depth: int,
    numerator: int,
    members: UInt8[np.ndarray, "seed sample place"],
    size: int,
    width: int,
) -> None:  # pragma: no cover  (compiled)
    """Do for each seed what ``draw`` and ``go_on`` do, with words made as they are needed."""
    samples = members.shape[1]
    words, spare = np.empty(-(-need // BLOCK) * BLOCK, np.uint64), np.empty(_SPARE, np.uint64)
    counts = np.empty(samples, np.int64)
    for seed in range(members.shape[0]):
        fill_words(keys[seed], step, 0, words)
        _start(words[:need], depth, numerator, members[seed], counts)
        block, left, done = words.size // BLOCK, words[need:], 0
        while True:
            if width == 16:
                done = _repair(members[seed], counts, size, left.view(np.uint16), width, 0, done)
            else:
                done = _repair(members[seed], counts, size, left.view(np.uint32), width, 0, done)
            if done == samples:
                break
            fill_words(keys[seed], step, block, spare)
            block, left = block + _SPARE // BLOCK, spare


_SPARE = 64
"""Words that are made at a time where the first do not suffice."""
_repair = _compiled(repair)
_start = start if _repair is repair else _compiled(_start_in_loops)
draw = _start_and_repair if _repair is repair else _compiled(_start_and_repair)
go_on = _repair
draw_of_seeds = None
"""Draws for many seeds, where there is a compiler."""
if _repair is not repair:
    from vitdyn.data.stream_words import BLOCK, fill_words

    draw_of_seeds = _compiled(_draw_of_seeds)
