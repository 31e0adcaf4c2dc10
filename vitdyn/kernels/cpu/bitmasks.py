"""Masks as words of 32 bits in compiled code: read from bytes, transposed bit by bit, stored as index bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from vitdyn.kernels.cpu.simd import CHUNK, address_of, repeated, row_address

EVERY_HIGH = np.uint32(0xF0F0F0F0)
"""The bits of the upper halves of four bytes."""
_BYTES = ir.VectorType(ir.IntType(8), CHUNK)


def _word(builder: Any, found: Any) -> Any:
    """Return the word of the bytes that are not zero."""
    # to LLVM 32 truth values are one number of 32 bits: no loop gathers them
    return builder.bitcast(
        builder.icmp_unsigned("!=", found, ir.Constant(_BYTES, [0] * CHUNK)), ir.IntType(32)
    )


@intrinsic
def set_bits(context, words, offset, mask, value):
    """Set the bits of ``value`` in each of 32 words, from ``offset`` on, for which ``mask`` has its bit set."""

    def emit(context, builder, sig, args):
        vector = ir.VectorType(ir.IntType(32), CHUNK)
        pointer = address_of(context, builder, sig.args[0], *args[:2], vector)
        where = builder.bitcast(args[2], ir.VectorType(ir.IntType(1), CHUNK))
        chosen = builder.select(where, repeated(builder, args[3], CHUNK), ir.Constant(vector, [0] * CHUNK))
        builder.store(builder.or_(builder.load(pointer, align=4), chosen), pointer, align=4)
        return context.get_dummy_value()

    return types.void(words, types.uint64, types.uint32, types.uint32), emit


@intrinsic
def copy_to_word(context, source, source_offset, target, target_offset):
    """Copy 32 bytes; return them as a word, of which a bit is set where a byte is not zero."""

    def emit(context, builder, sig, args):
        pointers = [
            address_of(context, builder, kind, array, offset, _BYTES)
            for kind, array, offset in ((source, *args[:2]), (target, *args[2:]))
        ]
        found = builder.load(pointers[0], align=1)
        builder.store(found, pointers[1], align=1)
        return _word(builder, found)

    return types.uint32(source, types.uint64, target, types.uint64), emit


@intrinsic
def store_index_bytes(context, index_bytes, index, word):
    """Write a word of a mask as row ``index`` of index bytes.

    These are eight bytes, the nibbles 0, 2, 4, 6, then 1, 3, 5, 7, each in a byte's upper half.
    """
    # two masks and a shift give all eight; in the order of the word the two halves would have to be interleaved

    def emit(context, builder, sig, args):
        halves = ir.Constant(ir.VectorType(ir.IntType(32), 2), ir.Undefined)
        even = builder.shl(args[2], ir.Constant(ir.IntType(32), 4))
        for place, nibbles in enumerate((even, args[2])):
            high = builder.and_(nibbles, ir.Constant(ir.IntType(32), int(EVERY_HIGH)))
            halves = builder.insert_element(halves, high, ir.Constant(ir.IntType(32), place))
        pointer = row_address(context, builder, index_bytes, *args[:2], halves.type)
        builder.store(halves, pointer, align=1)
        return context.get_dummy_value()

    return types.void(index_bytes, types.int64, types.uint32), emit
