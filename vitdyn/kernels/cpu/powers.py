"""Powers of blocks of numbers in compiled code, by a polynomial or a table: to a unit or two of the last digit.

The C library's exp takes one number at a time, and would take most of a gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from vitdyn.kernels.cpu.simd import call, call_own, half, joined, machine_has

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
"""What is lost where log₂e is rounded to the type."""
_LEAST = {32: (-87.0, -126.0), 64: (-708.0, -1022.0)}
"""The least exponents of e and of 2 whose powers are normal numbers."""


class _Numbers:
    """The constants of powers for one type of vectors, of float32 or float64, and 2^(n + f) by its bits."""

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
        # n, shifted to where an exponent has its bits, is added to that of 2^f: a product by 2^n without multiplying
        power = builder.shl(builder.bitcast(shifted, integers), place)
        return builder.bitcast(builder.add(builder.bitcast(value, integers), power), self._vector)


def _at_least(builder: Any, value: Any, least: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", value, least), value, least)


@intrinsic
def exp(context, exponent):
    """Return e^x: in float32 to 1.5e-7 for −87 ≤ x ≤ 88, in float64 to 5e-16 for |x| ≤ 708; below, the value there.

    x log₂e = n + f with |f| ≤ ½: a polynomial in f, times 2^n put together from its bits.
    """

    def emit(context, builder, sig, args):
        numbers = _Numbers(args[0].type)
        limited = _at_least(builder, args[0], numbers.least_of_e)
        shifted = call(builder, "fma", limited, numbers.log2_e, numbers.round)
        minus_n = builder.fsub(numbers.round, shifted)
        # x log₂e − n cancels: fused, and with what log₂e lost by rounding, or f would be off by |x| times that
        fraction = call(builder, "fma", limited, numbers.log2_e, minus_n)
        fraction = call(builder, "fma", limited, numbers.log2_e_rest, fraction)
        return numbers.power_of_two(builder, shifted, fraction)

    return exponent(exponent), emit


@intrinsic
def exp2(context, exponent):
    """Return 2^x, as ``exp`` does, for x from −126 to 127 in float32 and |x| ≤ 1022 in float64."""

    def emit(context, builder, sig, args):
        numbers = _Numbers(args[0].type)
        limited = _at_least(builder, args[0], numbers.least_of_two)
        shifted = builder.fadd(limited, numbers.round)
        fraction = builder.fadd(limited, builder.fsub(numbers.round, shifted))
        return numbers.power_of_two(builder, shifted, fraction)

    return exponent(exponent), emit


@intrinsic
def exp2_mul(context, first, second):
    """Return 2^(x y), rounded as a power and not as a product, for |x y| up to 126.

    Where the machine has a table in a register, float32 numbers take nine instructions in place of eleven, any x y
    below 2^18 will do, and beyond 126 comes 0, infinity or what is next to them.
    """

    def emit(context, builder, sig, args):
        if isinstance(args[0].type.element, ir.FloatType) and machine_has("avx512f"):
            halves = ([half(builder, block, start) for block in args] for start in (0, _SIDE))
            return joined(builder, *(_by_table(builder, *pair) for pair in halves))
        numbers = _Numbers(args[0].type)
        # the product x y is never rounded: both n and f come from fused operations on x and y
        shifted = call(builder, "fma", *args, numbers.round)
        fraction = call(builder, "fma", *args, builder.fsub(numbers.round, shifted))
        return numbers.power_of_two(builder, shifted, fraction)

    return first(first, second), emit


_SIDE = 16
_SIXTEENTHS = np.exp2(np.arange(_SIDE) / _SIDE)
_SLOPE = (5.550594957e-2, 2.402342860e-1, 6.931471808e-1)
"""(2^f − 1) / f for |f| ≤ 1/32, highest power first: to 2e-9 of 2^f."""
_ROUND_TO_SIXTEENTH = 1.5 * 2.0**19
"""Added to a number below 2^18 it leaves the nearest sixteenth in the lowest bits."""


def _by_table(builder: Any, first: Any, second: Any) -> Any:
    """Return 2^(x y) of 16 float32 numbers, x y = n + f with n a multiple of 1/16 and |f| ≤ 1/32.

    A table has 2^n but for whole powers of two, which come in at the end.
    """
    vector, words = first.type, ir.VectorType(ir.IntType(32), _SIDE)

    def constant(*values: float) -> ir.Constant:
        return ir.Constant(vector, [float(np.float32(one)) for one in values] * (_SIDE // len(values)))

    shifted = call(builder, "fma", first, second, constant(_ROUND_TO_SIXTEENTH))
    near = builder.fsub(shifted, constant(_ROUND_TO_SIXTEENTH))
    rest = call(builder, "fma", first, second, builder.fneg(near))
    high, middle, low = (constant(one) for one in _SLOPE)
    slope = call(builder, "fma", call(builder, "fma", high, rest, middle), rest, low)
    table, places = constant(*_SIXTEENTHS), builder.bitcast(shifted, words)
    power = call_own(builder, "x86.avx512.permvar.sf.512", vector, table, places)
    power = call(builder, "fma", builder.fmul(power, rest), slope, power)
    # scalef multiplies by 2^⌊x⌋ and saturates by itself, so that no exponent needs a limit
    every, to_nearest = ir.Constant(ir.IntType(_SIDE), -1), ir.Constant(ir.IntType(32), 4)
    given = power, near, power, every, to_nearest
    return call_own(builder, "x86.avx512.mask.scalef.ps.512", vector, *given)
