"""The words of many seeds' streams in one compiled call: Philox4x64-10, counted as numpy counts.

Block i of four words (i from 0) of the stream of a key (k_0, k_1) at step t comes from the counter (i + 1, 0, 0, t) by
ten rounds of

    (c_0, c_1, c_2, c_3) ← (high(M_1 c_2) ⊕ c_1 ⊕ k_0,  low(M_1 c_2),  high(M_0 c_0) ⊕ c_3 ⊕ k_1,  low(M_0 c_0)),

the key growing by two constants between rounds. A generator for each seed costs some seven microseconds before it draws
anything; a word costs two to four nanoseconds here.

Source: Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3 (2011).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from vitdyn._compiler import compiled

_compiled = compiled(needs_folder=False)

BLOCK = 4
"""Words that come from one counter."""
_FACTORS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_INCREMENTS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_ROUNDS = 10


@intrinsic
def _block(context: Any, counter: Any, step: Any, first: Any, second: Any) -> Any:
    """Return the four words of a counter, for a key of two: ten rounds without a loop, so that blocks overlap."""
    word, wide = ir.IntType(64), ir.IntType(128)

    def constant(value: int, kind: ir.IntType = word) -> ir.Constant:
        return ir.Constant(kind, value)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def multiply(factor: int, value: Any) -> tuple[Any, Any]:
            """Return the upper and the lower half of a product."""
            product = builder.mul(builder.zext(value, wide), constant(factor, wide))
            high = builder.lshr(product, constant(64, wide))
            return builder.trunc(high, word), builder.trunc(product, word)

        # LLVM has products of 128 bits, numba's types have none
        c0, c1, c2, c3 = args[0], constant(0), constant(0), args[1]
        # written out in the code that is made, where the key of a round is one sum and no chain
        for round_ in range(_ROUNDS):
            k0, k1 = (
                builder.add(key, constant(round_ * increment % 2**64))
                for key, increment in zip(args[2:], _INCREMENTS, strict=True)
            )
            (high0, low0), (high1, low1) = multiply(_FACTORS[0], c0), multiply(_FACTORS[1], c2)
            c0 = builder.xor(builder.xor(high1, c1), k0)
            c2 = builder.xor(builder.xor(high0, c3), k1)
            c1, c3 = low1, low0
        return context.make_tuple(builder, sig.return_type, (c0, c1, c2, c3))

    return types.UniTuple(types.uint64, BLOCK)(*[types.uint64] * 4), emit


@_compiled
def fill_words(key, step, block, words):  # type: ignore[no-untyped-def]  # pragma: no cover  (compiled)
    """Write the words of whole blocks, from the ``block``-th on, of a stream."""
    for at in range(words.size // BLOCK):
        own = words[at * BLOCK : (at + 1) * BLOCK]
        own[0], own[1], own[2], own[3] = _block(np.uint64(block + at + 1), np.uint64(step), key[0], key[1])


@_compiled
def fill_uniforms(keys, step, numbers):  # type: ignore[no-untyped-def]  # pragma: no cover  (compiled)
    """Write to each seed's row numbers in [0, 1), multiples of 2^-53: the upper 53 bits of a word each."""
    words = np.empty(-(-numbers.shape[1] // BLOCK) * BLOCK, np.uint64)
    for seed in range(numbers.shape[0]):
        fill_words(keys[seed], step, 0, words)
        for at in range(numbers.shape[1]):
            # as numpy's ``random`` makes doubles, to the bit
            numbers[seed, at] = (words[at] >> np.uint64(11)) * (1.0 / 2**53)


@_compiled
def fill_whole_numbers(keys, step, bound, numbers):  # type: ignore[no-untyped-def]  # pragma: no cover  (compiled)
    """Write to each seed's row whole numbers below ``bound`` < 2^32, as numpy's ``integers`` draws them.

    One takes half a word, the lower half first: the upper half of its product with the bound, unless the lower half
    lies below 2^32 mod bound, which has no bias (Lemire, 2019, doi:10.1145/3230636).
    """
    half, bound = np.uint64(0xFFFFFFFF), np.uint64(bound)
    least = (half + np.uint64(1)) % bound
    words = np.empty(BLOCK, np.uint64)
    for seed in range(numbers.shape[0]):
        block, used = 0, 2 * BLOCK
        for at in range(numbers.shape[1]):
            product = np.uint64(0)
            while True:
                if used == 2 * BLOCK:
                    fill_words(keys[seed], step, block, words)
                    block, used = block + 1, 0
                product = ((words[used >> 1] >> np.uint64(32 * (used & 1))) & half) * bound
                used += 1
                if product & half >= least:
                    break
            numbers[seed, at] = product >> np.uint64(32)
