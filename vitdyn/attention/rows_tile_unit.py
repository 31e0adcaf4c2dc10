"""The matrix unit of a core (AMX) in compiled code: eight tiles of 16 rows of 64 bytes, by their numbers.

A tile of bfloat16 marks holds 16 rows of 32 numbers; one of pieces 16 pairs of rows, 16 numbers of either in turns;
one of sums 16 rows of 16 float32 numbers. The tiles belong to the thread, from ``configure`` to ``release``.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from vitdyn.attention.rows_vector import address_of

SIDE, PIECES = 16, 3
"""Rows of a tile, which are pairs of rows in one of pieces; pieces of a number."""

_BYTE, _WHOLE = ir.IntType(8), ir.IntType(64)


def _call(builder: Any, name: str, *args: Any) -> None:
    """Call LLVM's own function of this name, which returns nothing."""
    kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), args)


def _tile(literal: types.IntegerLiteral) -> ir.Constant:
    return ir.Constant(_BYTE, literal.literal_value)


@intrinsic
def configure(context, settings):
    """Set the shapes of the tiles, and put zeros in them."""

    def emit(context, builder, sig, args):
        where = address_of(context, builder, settings, args[0], ir.Constant(_WHOLE, 0), _BYTE)
        _call(builder, "ldtilecfg", where)
        return context.get_dummy_value()

    return types.void(settings), emit


@intrinsic
def release(context):
    """Give the tiles up: a thread without tiles is cheaper to switch."""

    def emit(context, builder, sig, args):
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic(prefer_literal=True)
def clear(context, tile):
    """Put zeros in a tile."""

    def emit(context, builder, sig, args):
        _call(builder, "tilezero", _tile(tile))
        return context.get_dummy_value()

    return types.void(tile), emit


def _move(name: str) -> Any:
    """Return what moves a tile, of which row after row lies ``step`` numbers further in memory."""

    def typed(context, tile, array, offset, step):
        def emit(context, builder, sig, args):
            number = ir.Constant(_WHOLE, array.dtype.bitwidth // 8)
            address = address_of(context, builder, array, args[1], args[2], _BYTE)
            _call(builder, name, _tile(tile), address, builder.mul(args[3], number))
            return context.get_dummy_value()

        return types.void(tile, array, types.int64, types.int64), emit

    return intrinsic(prefer_literal=True)(typed)


fetch = _move("tileloadd64")
keep = _move("tilestored64")


@intrinsic(prefer_literal=True)
def multiply(context, sums, marks, pieces):
    """Add the product of a tile of marks and a tile of pieces to a tile of sums."""

    def emit(context, builder, sig, args):
        _call(builder, "tdpbf16ps", _tile(sums), _tile(marks), _tile(pieces))
        return context.get_dummy_value()

    return types.void(sums, marks, pieces), emit


@intrinsic
def cut(context, first, second, pieces, offset):
    """Write the three bfloat16 pieces of a pair of rows, number by number in turns; a piece follows 16 pairs on.

    A piece is the upper half of what the pieces before leave of a number: 8 bits of it, so that three are all.
    """
    lanes = first.count

    def emit(context, builder, sig, args):
        numbers = ir.VectorType(ir.IntType(32), lanes)
        halves = ir.VectorType(ir.IntType(16), 2 * lanes)
        upper = ir.Constant(numbers, [0xFFFF0000] * lanes)
        rest = list(args[:2])
        pick = [half for lane in range(lanes) for half in (2 * lane + 1, 2 * lanes + 2 * lane + 1)]
        picks = ir.Constant(ir.VectorType(ir.IntType(32), 2 * lanes), pick)
        for piece in range(PIECES):
            taken = builder.shuffle_vector(*(builder.bitcast(one, halves) for one in rest), picks)
            place = builder.add(args[3], ir.Constant(_WHOLE, piece * SIDE * 2 * lanes))
            builder.store(taken, address_of(context, builder, pieces, args[2], place, halves), align=2)
            cuts = [builder.and_(builder.bitcast(one, numbers), upper) for one in rest]
            rest = [
                builder.fsub(one, builder.bitcast(own, one.type)) for one, own in zip(rest, cuts, strict=True)
            ]
        return context.get_dummy_value()

    return types.void(first, second, pieces, types.int64), emit
