"""The matrix unit of a core (AMX) in compiled code: eight tiles of 16 rows of 64 bytes, by their numbers.

A tile of pieces or of marks holds 16 rows of 32 bfloat16 numbers, one of sums 16 rows of 16 float32 numbers. A product
of pieces (row, 32) and marks (32, column) takes 16 cycles; the second factor lies as 16 pairs of rows, the numbers of
either in turns. The tiles belong to the thread, from ``configure`` to ``release``.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from vitdyn.attention.rows_vector import CHUNK, address_of, call_own, half, machine_has, part, row_address

SIDE, PIECES = 16, 3
"""Rows of a tile; pieces of a number."""
TILE = SIDE * CHUNK
"""Numbers of a tile of pieces."""

_REQUEST_PERMISSION, _TILE_DATA = 0x1023, 18
_BYTE, _WHOLE, _WORD = ir.IntType(8), ir.IntType(64), ir.IntType(32)
_WORDS = ir.VectorType(_WORD, SIDE)
_UPPER = ir.Constant(_WORDS, [0xFFFF0000] * SIDE)
_MARKS = 0x3F80, 0x3F800000
"""The bfloat16 number 1 in the lower and in the upper half of a word."""


@cache
def available() -> bool:
    """Say whether this machine has tiles of bfloat16, the compiler may use them, and the system lets this process."""
    if sys.platform != "linux" or not machine_has("amx-tile", "amx-bf16", "avx512bw"):
        return False
    call = ctypes.CDLL(None).syscall
    return call(158, _REQUEST_PERMISSION, _TILE_DATA) == 0  # arch_prctl


def settings() -> np.ndarray:
    """Return what ``configure`` reads: eight tiles of 16 rows of 64 bytes."""
    given = np.zeros(64, np.uint8)
    given[0] = 1
    given[16:32:2] = 64
    given[48:56] = SIDE
    return given


def _call(builder: Any, name: str, *args: Any) -> None:
    """Call LLVM's own function of this name, which returns nothing."""
    call_own(builder, f"x86.{name}", ir.VoidType(), *args)


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
fetch_once = _move("tileloaddt164")
"""Fetch what is not used again soon: it does not drive other things out of the first cache."""
keep = _move("tilestored64")


@intrinsic(prefer_literal=True)
def multiply(context, sums, pieces, marks):
    """Add the product of a tile of pieces and a tile of marks to a tile of sums."""

    def emit(context, builder, sig, args):
        _call(builder, "tdpbf16ps", _tile(sums), _tile(pieces), _tile(marks))
        return context.get_dummy_value()

    return types.void(sums, pieces, marks), emit


AWAKE = 4
"""Queries after which the unit needs a product, or it falls asleep and takes a thousand cycles to wake.

More often is no better: on the server measured, anything done with tiles takes one of the two ports of wide vectors
away for some 200 cycles, so that the unit and vectors hardly gain from working at the same time.
"""


@part
def stay_awake():  # pragma: no cover  (compiled)
    """Take a product that nobody reads."""
    multiply(7, 5, 6)


@intrinsic
def cut(context, block, pieces, offset):
    """Write the three bfloat16 pieces of 32 float32 numbers as a row of three tiles, one tile after the other.

    Of numbers i and 16 + i in turns. A piece is the upper half of what the pieces before leave of a number: 8 bits of
    it, so that three are all.
    """

    def emit(context, builder, sig, args):
        rest = [half(builder, args[0], start) for start in (0, SIDE)]
        for piece in range(PIECES):
            words = [builder.bitcast(one, _WORDS) for one in rest]
            low = builder.lshr(words[0], ir.Constant(_WORDS, [16] * SIDE))
            place = builder.add(args[2], ir.Constant(_WHOLE, piece * TILE))
            where = address_of(context, builder, pieces, args[1], place, _WORDS)
            builder.store(_with_upper(builder, low, words[1]), where, align=2)
            uppers = [builder.bitcast(builder.and_(word, _UPPER), rest[0].type) for word in words]
            rest = [builder.fsub(one, upper) for one, upper in zip(rest, uppers, strict=True)]
        return context.get_dummy_value()

    return types.void(block, pieces, types.int64), emit


def _with_upper(builder: Any, low: Any, word: Any) -> Any:
    """Return low | (word & 0xFFFF0000) as one instruction; the compiler's own choice takes twice as long."""
    code = ir.Constant(_WORD, 0xF8)
    return call_own(builder, "x86.avx512.pternlog.d.512", _WORDS, low, word, _UPPER, code)


@intrinsic
def put_marks(context, marks, index, first, second):
    """Write row ``index`` of two tiles of marks side by side: of 32 columns each the bits of two words in turns."""

    def emit(context, builder, sig, args):
        every = ir.VectorType(_WORD, CHUNK)
        chosen = []
        for word, mark in zip(args[2:], _MARKS, strict=True):
            where = builder.bitcast(word, ir.VectorType(ir.IntType(1), CHUNK))
            chosen.append(
                builder.select(where, ir.Constant(every, [mark] * CHUNK), ir.Constant(every, [0] * CHUNK))
            )
        pointer = row_address(context, builder, marks, *args[:2], every)
        builder.store(builder.or_(*chosen), pointer, align=2)
        return context.get_dummy_value()

    return types.void(marks, types.int64, types.uint32, types.uint32), emit
