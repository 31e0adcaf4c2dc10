"""Tiles of a matrix to columns and back in compiled code, in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from vitdyn.kernels.cpu.simd import BLOCK_BYTES, address_of, machine_has, number_type

# wider tiles than a register would be spilled to memory between the rounds of exchanges
_TILE_BYTES = 64 if machine_has("avx512f") else 32
TILES = BLOCK_BYTES // _TILE_BYTES
"""How many tiles are as wide as a block. A row of a tile is one register of AVX-512 or AVX2."""


def _side(array: types.Array) -> int:
    """Return how many numbers make a side of a tile."""
    return 8 * _TILE_BYTES // array.dtype.bitwidth


@intrinsic
def transpose_tile(context, source, source_offset, source_step, target, target_offset, target_step):
    """Copy a square tile from ``source`` to ``target``, rows to columns.

    Offsets are those of the first number, steps from row to row, in numbers.
    """
    side = _side(source)

    def emit(context, builder, sig, args):
        rows = [_tile_row(context, builder, sig, args, 0, index) for index in range(side)]
        _store_transposed(context, builder, sig, args, 3, rows)
        return context.get_dummy_value()

    place = (types.uint64, types.uint64)
    return types.void(source, *place, target, *place), emit


@intrinsic
def transpose_gradient(
    context, cotangents, offset, step, target, target_offset, target_step, less, lane, factor
):
    """Do as ``transpose_tile`` with (cotangents − less) · factor.

    ``less`` is one row, of which the tile's part starts at ``lane``; ``factor`` is laid out as ``cotangents`` are.
    """
    side = _side(cotangents)

    def emit(context, builder, sig, args):
        vector, number = ir.VectorType(number_type(cotangents.dtype), side), cotangents.dtype.bitwidth // 8
        same = builder.load(address_of(context, builder, less, *args[6:8], vector), align=number)
        rows = []
        for index in range(side):
            own = _tile_row(context, builder, sig, args, 0, index)
            scale = _tile_row(context, builder, [factor], [args[8], *args[1:3]], 0, index)
            rows.append(builder.fmul(builder.fsub(own, same), scale))
        _store_transposed(context, builder, sig, args, 3, rows)
        return context.get_dummy_value()

    place = (types.uint64, types.uint64)
    return types.void(cotangents, *place, target, *place, less, types.uint64, factor), emit


def _tile_address(context: Any, builder: Any, kinds: Any, args: Any, at: int, index: int) -> Any:
    """Return the address of a tile's row; array, offset and step are the arguments from ``at`` on."""
    array, (value, offset, step) = getattr(kinds, "args", kinds)[at], args[at : at + 3]
    where = builder.add(offset, builder.mul(step, ir.Constant(ir.IntType(64), index)))
    vector = ir.VectorType(number_type(array.dtype), _side(array))
    return address_of(context, builder, array, value, where, vector)


def _tile_row(context: Any, builder: Any, kinds: Any, args: Any, at: int, index: int) -> Any:
    array = getattr(kinds, "args", kinds)[at]
    vector = ir.VectorType(number_type(array.dtype), _side(array))
    pointer = _tile_address(context, builder, kinds, args, at, index)
    return builder.load(pointer, align=array.dtype.bitwidth // 8, typ=vector)


def _store_transposed(context: Any, builder: Any, sig: Any, args: Any, at: int, rows: list[Any]) -> None:
    """Store columns as rows, after log₂ n rounds of exchanges between n/2 pairs of registers."""
    distance = 1
    while distance < len(rows):
        rows = _exchange(builder, rows, distance)
        distance *= 2
    for index, value in enumerate(rows):
        pointer = _tile_address(context, builder, sig, args, at, index)
        builder.store(value, pointer, align=sig.args[at].dtype.bitwidth // 8)


def _exchange(builder: Any, rows: list[Any], distance: int) -> list[Any]:
    """Exchange the off-diagonal squares of side ``distance`` between rows that far apart."""
    side, fresh = len(rows), list(rows)
    upper = [lane if not lane & distance else side + lane - distance for lane in range(side)]
    lower = [lane + distance if not lane & distance else side + lane for lane in range(side)]
    for index in range(side):
        if not index & distance:
            pair = rows[index], rows[index + distance]
            for row, picks in ((index, upper), (index + distance, lower)):
                mask = ir.Constant(ir.VectorType(ir.IntType(32), side), picks)
                fresh[row] = builder.shuffle_vector(*pair, mask)
    return fresh
