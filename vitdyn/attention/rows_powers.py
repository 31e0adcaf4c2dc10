"""Powers of blocks of queries in compiled code: in float32 by a polynomial, to a unit or two of the last digit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from vitdyn.attention.rows_vector import call


@intrinsic
def exponential(context, exponent):
    """Return e^x for x up to 88: in float64 by the C library, in float32 to 2e-7; there below −87 the value at it.

    x log₂e = n + f with |f| ≤ ½: a polynomial in f, times 2^n put together from its bits.
    """

    def emit(context, builder, sig, args):
        if exponent.element == types.float64:
            return call(builder, "exp", args[0])
        constant = _constants(args[0].type)
        limited = _at_least(builder, args[0], constant(-87.0))
        shifted = call(builder, "fmuladd", limited, constant(_LOG2_E), constant(_ROUND))
        whole = builder.fsub(constant(_ROUND), shifted)
        fraction = call(builder, "fmuladd", limited, constant(_LOG2_E), whole)
        fraction = call(builder, "fmuladd", limited, constant(_LOG2_E_REST), fraction)
        return _power_of_two(builder, shifted, fraction)

    return exponent(exponent), emit


@intrinsic
def two_to(context, exponent):
    """Return 2^x for x up to 127: in float64 by the C library, in float32 to 2e-7; there below −126 the value at it."""

    def emit(context, builder, sig, args):
        if exponent.element == types.float64:
            return call(builder, "exp2", args[0])
        constant = _constants(args[0].type)
        limited = _at_least(builder, args[0], constant(-126.0))
        shifted = builder.fadd(limited, constant(_ROUND))
        fraction = builder.fadd(limited, builder.fsub(constant(_ROUND), shifted))
        return _power_of_two(builder, shifted, fraction)

    return exponent(exponent), emit


@intrinsic
def two_to_product(context, first, second):
    """Return 2^(x y) for |x y| up to 126, as ``two_to`` does."""

    def emit(context, builder, sig, args):
        if first.element == types.float64:
            return call(builder, "exp2", builder.fmul(*args))
        constant = _constants(args[0].type)
        shifted = call(builder, "fmuladd", *args, constant(_ROUND))
        fraction = call(builder, "fmuladd", *args, builder.fsub(constant(_ROUND), shifted))
        return _power_of_two(builder, shifted, fraction)

    return first(first, second), emit


_POLYNOMIAL = (
    1.5353362e-4,
    1.3398875e-3,
    9.6184374e-3,
    5.5503325e-2,
    2.4022648e-1,
    6.9314720e-1,
    1.0,
)
"""2^f for |f| ≤ ½, highest power first: the least largest relative error, 2e-9."""
_LOG2_E, _LOG2_E_REST = 1.4426950216293335, 1.92596298909109e-8
_ROUND = 1.5 * 2.0**23  # added to a number below 2^22 it leaves the nearest whole number in the lowest bits


def _constants(vector: Any) -> Callable[[float], ir.Constant]:
    return lambda value: ir.Constant(vector, [float(np.float32(value))] * vector.count)


def _at_least(builder: Any, value: Any, least: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", value, least), value, least)


def _power_of_two(builder: Any, shifted: Any, fraction: Any) -> Any:
    """Return 2^(n + f), n in the lowest bits of ``shifted``."""
    vector = fraction.type
    constant, integers = _constants(vector), ir.VectorType(ir.IntType(32), vector.count)
    value = constant(_POLYNOMIAL[0])
    for coefficient in _POLYNOMIAL[1:]:
        value = call(builder, "fmuladd", value, fraction, constant(coefficient))
    power = builder.shl(builder.bitcast(shifted, integers), ir.Constant(integers, [23] * vector.count))
    return builder.bitcast(builder.add(builder.bitcast(value, integers), power), vector)
