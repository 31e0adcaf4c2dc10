"""Powers of blocks of queries in compiled code, by a polynomial: to a unit or two of the last digit."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from vitdyn.attention.rows_vector import call

_POLYNOMIAL = {
    32: (1.5353362e-4, 1.3398875e-3, 9.6184374e-3, 5.5503325e-2, 2.4022648e-1, 6.9314720e-1, 1.0),
    64: (
        4.4549605981865186e-10,
        7.072585949269223e-09,
        1.0178062445845774e-07,
        1.321544258792169e-06,
        1.525273382983612e-05,
        1.540353044173605e-04,
        1.3333558146416936e-03,
        9.618129107606888e-03,
        5.55041086648216e-02,
        2.4022650695910097e-01,
        6.931471805599453e-01,
        1.0,
    ),
}
"""2^f for |f| ≤ ½, highest power first, to 2e-9 and 9e-18."""
LOG2_E = 1.4426950408889634
"""log₂e."""
_LOG2_E_REST = {32: 1.92596298909109e-8, 64: 2.0355273740931033e-17}
"""What rounding takes from it."""
_LEAST = {32: (-87.0, -126.0), 64: (-708.0, -1022.0)}
"""The least exponents of e and of 2."""


class _Numbers:
    """Constants of a type of vectors of float32 or float64, and what its bits are good for."""

    def __init__(self, vector: Any) -> None:
        self.bits, self.digits = (32, 23) if isinstance(vector.element, ir.FloatType) else (64, 52)
        self._vector, self._kind = vector, np.float32 if self.bits == 32 else np.float64
        # added to a number below 2^(digits − 1) it leaves the nearest whole number in the lowest bits
        self.round = self.constant(1.5 * 2.0**self.digits)
        self.log2_e, self.log2_e_rest = self.constant(LOG2_E), self.constant(_LOG2_E_REST[self.bits])
        self.least_of_e, self.least_of_two = (self.constant(value) for value in _LEAST[self.bits])

    def constant(self, value: float) -> ir.Constant:
        """Return a vector of one number."""
        return ir.Constant(self._vector, [float(self._kind(value))] * self._vector.count)

    def power_of_two(self, builder: Any, shifted: Any, fraction: Any) -> Any:
        """Return 2^(n + f), n in the lowest bits of ``shifted``."""
        value, *rest = (self.constant(one) for one in _POLYNOMIAL[self.bits])
        for coefficient in rest:
            value = call(builder, "fma", value, fraction, coefficient)
        integers = ir.VectorType(ir.IntType(self.bits), self._vector.count)
        place = ir.Constant(integers, [self.digits] * self._vector.count)
        power = builder.shl(builder.bitcast(shifted, integers), place)
        return builder.bitcast(builder.add(builder.bitcast(value, integers), power), self._vector)


def _at_least(builder: Any, value: Any, least: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", value, least), value, least)


@intrinsic
def exponential(context, exponent):
    """Return e^x: in float32 to 1.5e-7 for −87 ≤ x ≤ 88, in float64 to 5e-16 for |x| ≤ 708; below, the value there.

    x log₂e = n + f with |f| ≤ ½: a polynomial in f, times 2^n put together from its bits.
    """

    def emit(context, builder, sig, args):
        numbers = _Numbers(args[0].type)
        limited = _at_least(builder, args[0], numbers.least_of_e)
        shifted = call(builder, "fma", limited, numbers.log2_e, numbers.round)
        whole = builder.fsub(numbers.round, shifted)
        fraction = call(builder, "fma", limited, numbers.log2_e, whole)
        fraction = call(builder, "fma", limited, numbers.log2_e_rest, fraction)
        return numbers.power_of_two(builder, shifted, fraction)

    return exponent(exponent), emit


@intrinsic
def two_to(context, exponent):
    """Return 2^x, as ``exponential`` does, for x from −126 to 127 in float32 and |x| ≤ 1022 in float64."""

    def emit(context, builder, sig, args):
        numbers = _Numbers(args[0].type)
        limited = _at_least(builder, args[0], numbers.least_of_two)
        shifted = builder.fadd(limited, numbers.round)
        fraction = builder.fadd(limited, builder.fsub(numbers.round, shifted))
        return numbers.power_of_two(builder, shifted, fraction)

    return exponent(exponent), emit


@intrinsic
def two_to_product(context, first, second):
    """Return 2^(x y), rounded as a power and not as a product, for |x y| up to 126."""

    def emit(context, builder, sig, args):
        numbers = _Numbers(args[0].type)
        shifted = call(builder, "fma", *args, numbers.round)
        fraction = call(builder, "fma", *args, builder.fsub(numbers.round, shifted))
        return numbers.power_of_two(builder, shifted, fraction)

    return first(first, second), emit
