"""Subsets of an exact size from random words: a start of independent members, then changes of side one by one.

A compiled loop holds no lock of the interpreter, so that groups of seeds draw side by side on threads.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt, UInt8, UInt64

from vitdyn._compiler import compiled
from vitdyn.data.stream_words import BLOCK, fill_words

_compiled = compiled(needs_folder=False)

SPARE = 64
"""How many words are made at a time where the first ones do not suffice."""


@_compiled
def start(
    words: UInt64[np.ndarray, " word"],
    depth: int,
    numerator: int,
    members: UInt8[np.ndarray, "sample place"],
    counts: Int[np.ndarray, " sample"],
) -> None:  # pragma: no cover  (compiled)
    """Make each place a member with probability numerator / 2^depth, independently, and count the members.

    A bit is put together from ``depth`` random ones, by OR or AND from the numerator's last binary digit to
    its first: w OR b has probability ½ + p/2 where b has p, w AND b has p/2. A word does so for 64 places at once.
    """
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


@_compiled
def repair(
    members: UInt8[np.ndarray, "sample place"],
    counts: Int[np.ndarray, " sample"],
    size: int,
    chunks: UInt[np.ndarray, " chunk"],
    width: int,
    used: int,
    first: int,
) -> int:  # pragma: no cover  (compiled)
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
            # Lemire's rejection: the low bits tell chunks that would favour some places
            if product & ones >= unfair:
                place = product >> width
                # written without a branch, which would be mispredicted half the time: a place on the other side stays
                left -= row[place] == side
                row[place] = 1 - side
    return members.shape[0]


@_compiled
def start_and_repair(
    words: UInt64[np.ndarray, " word"],
    need: int,
    depth: int,
    numerator: int,
    members: UInt8[np.ndarray, "sample place"],
    counts: Int[np.ndarray, " sample"],
    size: int,
    chunks: UInt[np.ndarray, " chunk"],
    width: int,
) -> int:  # pragma: no cover  (compiled)
    """Start from the first ``need`` words and repair from the rest, which ``chunks`` shows in its own width."""
    start(words[:need], depth, numerator, members, counts)
    return repair(members, counts, size, chunks, width, need * (64 // width), np.int64(0))


@_compiled
def draw_of_seeds(
    keys: UInt64[np.ndarray, "seed 2"],
    step: int,
    need: int,
    depth: int,
    numerator: int,
    members: UInt8[np.ndarray, "seed sample place"],
    size: int,
    spare: UInt[np.ndarray, " chunk"],
    width: int,
) -> None:  # pragma: no cover  (compiled)
    """Do for each seed what ``start_and_repair`` and ``repair`` do, with words made as they are needed.

    ``spare`` is room for the chunks of ``SPARE`` words, of the kind to draw with.
    """
    samples, none = members.shape[1], np.int64(0)  # as a literal it would be compiled for apart
    words, more = np.empty(-(-need // BLOCK) * BLOCK, np.uint64), spare.view(np.uint64)
    counts = np.empty(samples, np.int64)
    for seed in range(members.shape[0]):
        fill_words(keys[seed], step, 0, words)
        start(words[:need], depth, numerator, members[seed], counts)
        block, left, done = words.size // BLOCK, words[need:].view(spare.dtype), none
        while True:
            done = repair(members[seed], counts, size, left, width, none, done)
            if done == samples:
                break
            fill_words(keys[seed], step, block, more)
            block, left = block + SPARE // BLOCK, spare
