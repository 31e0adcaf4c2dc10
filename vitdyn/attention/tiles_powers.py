"""Powers of two for the matrix unit's kernels, in nine instructions: to a unit of the last digit of float32.

x y = n + f with n a multiple of 1/16 and |f| ≤ 1/32. A table in a register has 2^n but for whole powers of two, which
come in at the end, and 2^f − 1 is f times a polynomial of three terms, to 2e-9.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from vitdyn.attention.rows_vector import call, half
from vitdyn.attention.tiles_lanes import joined

_SIDE = 16
_NUMBERS, _WORDS = ir.VectorType(ir.FloatType(), _SIDE), ir.VectorType(ir.IntType(32), _SIDE)
_TABLE = np.exp2(np.arange(_SIDE) / _SIDE)
_POLYNOMIAL = (5.550594957e-2, 2.402342860e-1, 6.931471808e-1)
"""(2^f − 1) / f for |f| ≤ 1/32, highest power first."""
_ROUND = 1.5 * 2.0**19
"""Added to a number below 2^18 it leaves the nearest sixteenth in the lowest bits."""


def _constant(*values: float) -> ir.Constant:
    return ir.Constant(_NUMBERS, [float(np.float32(value)) for value in values] * (_SIDE // len(values)))


def _own(builder: Any, name: str, *args: Any) -> Any:
    kind = ir.FunctionType(_NUMBERS, [arg.type for arg in args])
    return builder.call(
        cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.{name}.512"), args
    )


def _power(builder: Any, first: Any, second: Any) -> Any:
    """Return 2^(x y) of half a block."""
    shifted = call(builder, "fma", first, second, _constant(_ROUND))
    near = builder.fsub(shifted, _constant(_ROUND))
    rest = call(builder, "fma", first, second, builder.fneg(near))
    high, middle, low = (_constant(value) for value in _POLYNOMIAL)
    slope = call(builder, "fma", call(builder, "fma", high, rest, middle), rest, low)
    power = _own(builder, "permvar.sf", _constant(*_TABLE), builder.bitcast(shifted, _WORDS))
    power = call(builder, "fma", builder.fmul(power, rest), slope, power)
    every, to_nearest = ir.Constant(ir.IntType(_SIDE), -1), ir.Constant(ir.IntType(32), 4)
    return _own(builder, "mask.scalef.ps", power, near, power, every, to_nearest)


@intrinsic
def power_of_two(context, first, second):
    """Return 2^(x y), rounded as a power and not as a product, for |x y| < 2^18; beyond, 0 or infinity."""

    def emit(context, builder, sig, args):
        halves = ([half(builder, block, start) for block in args] for start in (0, _SIDE))
        return joined(builder, *(_power(builder, *pair) for pair in halves))

    return first(first, second), emit
