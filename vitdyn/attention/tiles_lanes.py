"""What only the matrix unit's kernels need of blocks of 32 numbers: words as masks, tables, gathering."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from vitdyn.attention.rows_vector import Lanes, Mask, address_of, call_own, half, joined, row_address

EVERY_LANE = np.uint32(0xFFFFFFFF)
"""The word of a block's lanes."""

_WORD = ir.IntType(32)


@intrinsic
def pick(context, table, index, places, place):
    """Return for each lane the number of row ``index`` of ``table`` (16 numbers a row) that ``places`` names.

    Of ``places`` (32 int32 a row) row ``place`` counts.
    """
    kind = Lanes(table.dtype)

    def emit(context, builder, sig, args):
        side = kind.count // 2
        numbers = ir.VectorType(ir.FloatType(), side)
        given = builder.load(row_address(context, builder, table, args[0], args[1], numbers), align=4)
        every = ir.VectorType(_WORD, kind.count)
        chosen = builder.load(row_address(context, builder, places, args[2], args[3], every), align=4)
        name = "x86.avx512.permvar.sf.512"
        halves = (half(builder, chosen, at) for at in (0, side))
        return joined(builder, *(call_own(builder, name, numbers, given, lanes) for lanes in halves))

    return kind(table, types.int64, places, types.int64), emit


@intrinsic
def bits_of(context, word, like):
    """Return where the bits of a word are set."""

    def emit(context, builder, sig, args):
        return builder.bitcast(args[0], ir.VectorType(ir.IntType(1), like.count))

    return Mask(like.count)(types.uint32, like), emit


@intrinsic
def total_of(context, block):
    """Return the sum of a block's numbers."""

    def emit(context, builder, sig, args):
        found = args[0]
        while found.type.count > 1:
            found = builder.fadd(half(builder, found, 0), half(builder, found, found.type.count // 2))
        return builder.extract_element(found, ir.Constant(_WORD, 0))

    return block.element(block), emit


@intrinsic
def totals_of(context, rows, first, word):
    """Return for each of 32 rows from ``first`` on the sum over the lanes whose bit is set in a word."""
    kind = Lanes(rows.dtype)

    def emit(context, builder, sig, args):
        vector = context.get_value_type(kind)
        chosen = builder.bitcast(args[2], ir.VectorType(ir.IntType(1), kind.count))

        def total(start: int, count: int) -> Any:
            """Return half a block: of each of 1, 2, ... 16 rows 16, 8, ... 1 numbers, what is left to add."""
            if count > 1:
                return _in_pairs(builder, total(start, count // 2), total(start + count // 2, count // 2))
            index = builder.add(args[1], ir.Constant(args[1].type, start))
            numbers = builder.load(
                row_address(context, builder, sig.args[0], args[0], index, vector), align=4
            )
            kept = builder.select(chosen, numbers, ir.Constant(vector, None))
            return builder.fadd(*(half(builder, kept, at) for at in (0, kind.count // 2)))

        return joined(builder, *(total(start, kind.count // 2) for start in (0, kind.count // 2)))

    return kind(rows, types.int64, types.uint32), emit


def _in_pairs(builder: Any, low: Any, high: Any) -> Any:
    """Return the sums of neighbours in two vectors, one after the other, as one."""
    picked = (
        ir.Constant(ir.VectorType(_WORD, low.type.count), list(range(start, 2 * low.type.count, 2)))
        for start in (0, 1)
    )
    return builder.fadd(*(builder.shuffle_vector(low, high, lanes) for lanes in picked))


@intrinsic
def gather(context, array, offset, places, index):
    """Return the 32 float32 numbers of ``array``, counted from ``offset``, at row ``index`` of ``places`` (int32)."""
    kind = Lanes(array.dtype)

    def emit(context, builder, sig, args):
        side = kind.count // 2
        numbers, every = ir.VectorType(ir.FloatType(), side), ir.VectorType(ir.IntType(1), side)
        source = address_of(context, builder, array, *args[:2], ir.IntType(8))
        row = row_address(context, builder, places, *args[2:], ir.VectorType(_WORD, kind.count))
        found = builder.load(row, align=4)
        name = "x86.avx512.mask.gather.dps.512"
        rest = ir.Constant(every, [1] * side), ir.Constant(_WORD, 4)
        nothing = ir.Constant(numbers, [0.0] * side)
        halves = (half(builder, found, at) for at in (0, side))
        return joined(
            builder, *(call_own(builder, name, numbers, nothing, source, lanes, *rest) for lanes in halves)
        )

    return kind(array, types.int64, places, types.int64), emit
