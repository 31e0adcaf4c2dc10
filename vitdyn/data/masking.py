"""Masks of an exact size, uniform among all subsets of that size, and pairs of masked views of one sample."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, erf, exp, floor, log, pi, sqrt
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt64

from vitdyn._errors import invalid_value, require_choice, require_integer, require_real
from vitdyn.seeds import Streams

VIEW_KINDS = ("independent", "complementary")

_MOST_PATCHES = 2**31 - 1
_MOST_DEPTH = 8
_SMALL = 2**12
"""Up to how many patches a position is chosen by 16 random bits: fewer than one try in 16 is then rejected."""

_WORDS_OF_64_BITS = (np.random.Philox, np.random.PCG64, np.random.PCG64DXSM, np.random.SFC64)
_WORDS_FOR_A_TRY = 1.2
"""What a try at a position costs, in units of drawing and combining one 64-bit word (measured)."""


def masked_count(patches: int, ratio: float) -> int:
    """Return the number of masked patches, γP rounded to the nearest whole number.

    Raises ``ValueError`` unless at least one patch is masked and at least one stays visible.
    """
    require_integer("patches", patches, at_least=2)
    require_real("mask_ratio", ratio, low=0.0, high=1.0)
    count = round(ratio * patches)
    if not 0 < count < patches:
        raise invalid_value(
            "mask_ratio",
            ratio,
            f"masks {count} of {patches} patches; at least one must be masked and one visible: "
            f"take a ratio from {1 / patches:.4g} to {1 - 1 / patches:.4g}",
        )
    return count


def draw_visible(
    generator: np.random.Generator | Streams, samples: int, patches: int, masked: int
) -> Bool[np.ndarray, "*seed sample patch"]:
    """Draw which patches are visible: in each sample ``masked`` patches, a uniform subset, are not.

    Of ``Streams`` each seed draws what its own stream would, all in one call.

    Each patch is first visible with probability k/2^d near (P − m)/P, independently, by d random bits. Then,
    until exactly P − m are visible, a uniform one of those in excess (visible or masked) changes sides. The
    distribution is exactly uniform whatever k/2^d is: given its size a set of independent members is uniform
    among the sets of that size, and to remove (add) a uniform member of a uniform set leaves a uniform set.
    Positions are chosen by multiplication with rejection (Lemire, 2019, doi:10.1145/3230636), which has no bias either.

    Raises ``ValueError`` unless 1 ≤ m < P < 2^31.
    """
    require_integer("samples", samples, at_least=0)
    require_integer("patches", patches, at_least=2)
    require_integer("masked", masked, at_least=1)
    if not isinstance(generator, Streams | np.random.Generator):
        raise invalid_value(
            "generator", generator, "must be a numpy Generator, as vitdyn.seeds.stream gives, or Streams"
        )
    if not masked < patches <= _MOST_PATCHES:
        raise invalid_value(
            "masked", masked, f"must leave one of {patches} patches visible; {_MOST_PATCHES} patches at most"
        )
    from vitdyn.data import subsets  # which loads the compiler

    plan = _plan(int(samples), int(patches), int(masked))
    kind, width, size = plan.kind, plan.width, patches - masked
    if isinstance(generator, Streams):
        members = np.empty((len(generator.seeds), samples, patches), dtype=np.uint8)
        start, spare = (plan.need, plan.depth, plan.numerator), np.empty(subsets.SPARE, np.uint64).view(kind)
        subsets.draw_of_seeds(generator.keys, generator.step, *start, members, size, spare, width)
        return members.view(bool)
    words = _words(generator, plan.words)
    visible, counts = np.empty((samples, patches), dtype=np.uint8), np.empty(samples, dtype=np.int64)
    done = subsets.start_and_repair(
        words, plan.need, plan.depth, plan.numerator, visible, counts, size, words.view(kind), width
    )
    while done < samples:  # rare: the plan brings words for more tries than nearly every batch needs
        spare = _words(generator, _budget(samples - done, plan.tries, width)).view(kind)
        done = subsets.repair(visible, counts, size, spare, width, 0, done)
    return visible.view(bool)


def draw_view_pair(
    generator: np.random.Generator | Streams,
    samples: int,
    patches: int,
    masked: int,
    kind: str = "independent",
) -> tuple[Bool[np.ndarray, "*seed sample patch"], Bool[np.ndarray, "*seed sample patch"]]:
    """Draw which patches each of two views shows.

    ``independent``: two masks of the same size, drawn independently. ``complementary``: the second view
    shows exactly what the first one hides (so it hides ``patches − masked``). Of ``Streams`` all seeds at once.
    """
    require_choice("views", kind, VIEW_KINDS)
    require_integer("samples", samples, at_least=0)
    if kind == "complementary":
        first = draw_visible(generator, samples, patches, masked)
        return first, ~first
    both = draw_visible(generator, 2 * samples, patches, masked)
    return both[..., :samples, :], both[..., samples:, :]


class _Plan(NamedTuple):
    """How a batch is drawn: the start's probability numerator / 2^depth, and how many words each part takes.

    The start takes ``need`` of all ``words``; the rest, in chunks of ``width`` bits, serves to choose positions,
    of which ``tries`` per sample are expected.
    """

    depth: int
    numerator: int
    tries: float
    need: int
    words: int
    kind: type[np.unsignedinteger[Any]]
    width: int


@lru_cache(maxsize=1024)
def _plan(samples: int, patches: int, masked: int) -> _Plan:
    depth, numerator, tries = _start(patches, masked)
    width = 16 if patches <= _SMALL else 32
    need = -(-samples * patches // 64) * depth
    kind = np.uint16 if width == 16 else np.uint32
    words = need + _budget(samples, tries, width)
    return _Plan(depth, numerator, tries, need, words, kind, width)


def _start(patches: int, masked: int) -> tuple[int, int, float]:
    """Return depth, numerator and tries of least expected cost: a matter of time alone and not of the distribution."""
    visible = patches - masked
    # without random bits all start masked, or all visible; d bits cost d words for 64 patches, and save tries
    found = [(0, 0, patches * log(patches / masked)), (0, 1, patches * log(patches / visible))]
    for depth in range(1, _MOST_DEPTH + 1):
        aim = visible / patches * 2**depth
        for numerator in {floor(aim), ceil(aim)}:
            if numerator % 2:  # an even one is the same probability at a lesser depth
                found.append((depth, numerator, _tries(patches, visible, numerator / 2**depth)))
    return min(found, key=lambda one: one[0] * patches / 64 + _WORDS_FOR_A_TRY * one[2])


def _tries(patches: int, visible: int, share: float) -> float:
    """Return about how many positions are tried: E[D₊] P/(P − m) + E[D₋] P/m, D the excess, taken as normal."""
    mean, deviation = patches * share - visible, sqrt(patches * share * (1 - share))
    at = mean / deviation
    above = mean * (1 + erf(at / sqrt(2))) / 2 + deviation * exp(-at * at / 2) / sqrt(2 * pi)
    return patches * (above / visible + (above - mean) / (patches - visible))


def _budget(samples: int, tries: float, width: int) -> int:
    """Return a number of words that nearly always suffices for the positions that are tried."""
    expected = samples * tries
    # 7 % for rejected chunks, and six standard deviations of a sum of waiting times
    chunks = 1.07 * expected + 6 * sqrt(expected * (tries + 1)) + 16
    return ceil(chunks * width / 64)


def _words(generator: np.random.Generator, count: int) -> UInt64[np.ndarray, " word"]:
    """Return uniform 64-bit words, in one call."""
    bits = generator.bit_generator
    if isinstance(bits, _WORDS_OF_64_BITS):
        words = bits.random_raw(count)
    else:
        words = generator.integers(0, 2**64 - 1, count, dtype=np.uint64, endpoint=True)
    # little-endian, since chunks of 16 or 32 bits are read off the words as they lie in memory
    return words.astype("<u8", copy=False)
