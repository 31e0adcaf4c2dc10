"""Values of a whole block of queries in compiled code: 128 bytes, 32 float32 or 16 float64, as one number.

A ``SimdVector`` value is one LLVM vector. LLVM cuts it into the registers that the machine has (two of AVX-512,
four of AVX2, eight of NEON), so that a sum over many rows stays in registers whatever the loop around it.
Plain loops over arrays reach half of that: there the compiler prefers narrow vectors, and has to store sums
because arrays might overlap. Arrays of rows are C-contiguous with a last axis of one block.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from vitdyn import _compiler

BLOCK_BYTES = 128
CHUNK = 32
"""Samples, or keys, whose masks are one word of 32 bits."""

# numpy's error model: a division by zero gives infinity, where Python's would put a branch around every division
compiled = _compiler.compiled(error_model="numpy")
"""Decorator of kernels that Python calls: their code is kept on disk."""
_NO_WRAPPERS: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner = numba.njit(nogil=True, error_model="numpy", **_NO_WRAPPERS)
"""Decorator of what only compiled code calls: wrappers for Python and a cache of its own would double the first use."""
inlined = numba.njit(inline="always", error_model="numpy")
"""Decorator of pieces of innermost loops: a call would count the references of every array it is given."""


def lanes(dtype: Any) -> int:
    """Return how many numbers of a type make a block."""
    return BLOCK_BYTES // np.dtype(dtype).itemsize


class SimdVector(types.Type):
    """The type of a block of numbers of type ``element``."""

    def __init__(self, element: types.Type) -> None:
        self.element, self.count = element, BLOCK_BYTES * 8 // element.bitwidth
        super().__init__(f"SimdVector({element})")


class Mask(types.Type):
    """The type of a block of truth values."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"Mask({count})")


@register_model(SimdVector)
class _SimdVectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, of: SimdVector) -> None:
        super().__init__(manager, of, ir.VectorType(number_type(of.element), of.count))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, of: Mask) -> None:
        super().__init__(manager, of, ir.VectorType(ir.IntType(1), of.count))


def number_type(element: types.Type) -> ir.Type:
    """Return LLVM's type of a number."""
    return ir.FloatType() if element == types.float32 else ir.DoubleType()


def _define_operator(symbol: Callable, emit: str, *first: str) -> None:
    """Give a Python operator its meaning on two blocks: LLVM's instruction ``emit``, after arguments ``first``."""

    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, keywords: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], SimdVector) and args[0] == args[1]:
                return signature(Mask(args[0].count) if symbol is operator.gt else args[0], *args)
            return None

    @lower_builtin(symbol, SimdVector, SimdVector)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, emit)(*first, *args)


_define_operator(operator.add, "fadd")
_define_operator(operator.sub, "fsub")
_define_operator(operator.mul, "fmul")
_define_operator(operator.truediv, "fdiv")
_define_operator(operator.gt, "fcmp_ordered", ">")


def address_of(context: Any, builder: Any, array: types.Array, value: Any, offset: Any, to: ir.Type) -> Any:
    """Return the address of an array's element, counted from its first, as one of vectors."""
    # computed here, not by numba's indexing, which would test for negative indices and load strides in inner loops
    data = context.make_array(array)(context, builder, value).data
    offset = builder.zext(offset, ir.IntType(64)) if offset.type.width < 64 else offset
    step = ir.Constant(ir.IntType(64), array.dtype.bitwidth // 8)
    address = builder.add(builder.ptrtoint(data, ir.IntType(64)), builder.mul(offset, step))
    return builder.inttoptr(address, ir.PointerType(to))


@intrinsic
def load_row(context, rows, index):
    """Return row ``index`` of a matrix of rows."""
    kind = SimdVector(rows.dtype)

    def emit(context, builder, sig, args):
        pointer = row_address(context, builder, sig.args[0], *args, context.get_value_type(kind))
        return builder.load(pointer, align=rows.dtype.bitwidth // 8)

    return kind(rows, types.int64), emit


@intrinsic
def store_row(context, rows, index, value):
    """Write row ``index`` of a matrix of rows."""

    def emit(context, builder, sig, args):
        pointer = row_address(context, builder, sig.args[0], *args[:2], args[2].type)
        builder.store(args[2], pointer, align=rows.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(rows, types.int64, value), emit


@intrinsic
def load_subset_sum(context, table, group, index_bytes, offset):
    """Return the row of a table that an index byte selects in one of eight groups of 16 rows.

    An index byte is 16 times the subset's number; the eight of a chunk lie at ``offset``, even groups before odd ones.
    """
    kind = SimdVector(table.dtype)

    def emit(context, builder, sig, args):
        integer = ir.IntType(64)
        # even groups lie in bytes 0 to 3, odd ones in bytes 4 to 7: byte group/2 + 4 (group mod 2)
        place = builder.add(
            builder.lshr(args[1], ir.Constant(integer, 1)),
            builder.shl(builder.and_(args[1], ir.Constant(integer, 1)), ir.Constant(integer, 2)),
        )
        index_bytes = context.make_array(sig.args[2])(context, builder, args[2]).data
        index = builder.load(builder.gep(index_bytes, [builder.add(args[3], place)]))
        # in bytes, as 8 times an index byte: x86 scales an index by 8 within the load itself
        step = builder.mul(builder.zext(index, integer), ir.Constant(integer, BLOCK_BYTES // 16))
        start = builder.mul(args[1], ir.Constant(integer, 16 * BLOCK_BYTES))
        first = context.make_array(sig.args[0])(context, builder, args[0]).data
        first = builder.bitcast(first, ir.PointerType(ir.IntType(8)))
        vector = context.get_value_type(kind)
        pointer = builder.bitcast(builder.gep(builder.gep(first, [step]), [start]), ir.PointerType(vector))
        return builder.load(pointer, align=table.dtype.bitwidth // 8)

    return kind(table, types.int64, index_bytes, types.int64), emit


def row_address(context: Any, builder: Any, rows: types.Array, value: Any, index: Any, to: ir.Type) -> Any:
    """Return a row's address: rows are taken as 128 bytes, which the compiler can use as it could not use a shape."""
    data = context.make_array(rows)(context, builder, value).data
    return builder.gep(builder.bitcast(data, ir.PointerType(to)), [index])


@intrinsic
def load_partial(context, array, offset, count):
    """Return ``count`` numbers of ``array`` from ``offset`` on as a block, the rest 0."""
    kind = SimdVector(array.dtype)

    def emit(context, builder, sig, args):
        vector = context.get_value_type(kind)
        pointer = address_of(context, builder, sig.args[0], *args[:2], vector)
        found = cgutils.alloca_once(builder, vector)
        # only a last block is partial: LLVM's masked load is many instructions where the machine has none of its own
        with builder.if_else(_is_whole(builder, args[2], kind)) as (wholly, partly):
            with wholly:
                builder.store(builder.load(pointer, align=array.dtype.bitwidth // 8), found)
            with partly:
                given = pointer, _align(array), _first(builder, args[2], kind), ir.Constant(vector, None)
                builder.store(_masked(builder, "load", vector, vector, *given), found)
        return builder.load(found)

    return kind(array, types.uint64, types.int64), emit


@intrinsic
def store_partial(context, array, offset, count, value):
    """Write the first ``count`` numbers of a block to ``array`` from ``offset`` on."""

    def emit(context, builder, sig, args):
        vector = args[3].type
        pointer = address_of(context, builder, sig.args[0], *args[:2], vector)
        with builder.if_else(_is_whole(builder, args[2], value)) as (wholly, partly):
            with wholly:
                builder.store(args[3], pointer, align=array.dtype.bitwidth // 8)
            with partly:
                given = args[3], pointer, _align(array), _first(builder, args[2], value)
                _masked(builder, "store", ir.VoidType(), vector, *given)
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.int64, value), emit


def _align(array: types.Array) -> ir.Constant:
    return ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8)


def _is_whole(builder: Any, count: Any, kind: SimdVector) -> Any:
    return builder.icmp_signed("==", count, ir.Constant(count.type, kind.count))


def _first(builder: Any, count: Any, kind: SimdVector) -> Any:
    """Return which lanes are among the first ``count``."""
    each = ir.Constant(ir.VectorType(count.type, kind.count), list(range(kind.count)))
    return builder.icmp_signed("<", each, repeated(builder, count, kind.count))


def _masked(builder: Any, name: str, result: ir.Type, vector: ir.Type, *args: Any) -> Any:
    """Call LLVM's own load or store of some lanes of a vector."""
    return call_own(builder, f"masked.{name}.{_suffix(vector)}.p0", result, *args)


@intrinsic
def splat(context, number):
    """Return a block that repeats one number."""
    kind = SimdVector(number)

    return kind(number), lambda context, builder, sig, args: repeated(builder, args[0], kind.count)


def repeated(builder: Any, number: Any, count: int) -> Any:
    """Return a vector that repeats one number."""
    vector, index = ir.VectorType(number.type, count), ir.IntType(32)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(index, 0))
    same = ir.Constant(ir.VectorType(index, count), [0] * count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), same)


@intrinsic
def broadcast_load(context, array, offset):
    """Return a block that repeats the number which lies ``offset`` numbers after the first of ``array``."""
    kind = SimdVector(array.dtype)

    def emit(context, builder, sig, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return repeated(builder, builder.load(builder.gep(data, [args[1]])), kind.count)

    return kind(array, types.int64), emit


@intrinsic
def where(context, mask, first, second):
    """Return ``first`` where the mask holds, else ``second``."""
    return first(mask, first, second), lambda context, builder, sig, args: builder.select(*args)


@intrinsic
def eq_zero(context, array, offset, like):
    """Return the mask of the bytes that are zero, of as many from ``offset`` on as the block ``like`` has numbers."""
    kind = Mask(like.count)

    def emit(context, builder, sig, args):
        vector = ir.VectorType(ir.IntType(8), like.count)
        pointer = address_of(context, builder, sig.args[0], *args[:2], vector)
        found = builder.load(pointer, align=1)
        return builder.icmp_unsigned("==", found, ir.Constant(vector, [0] * like.count))

    return kind(array, types.uint64, like), emit


@intrinsic
def maximum(context, first, second):
    """Return the larger of two blocks, number by number."""

    def emit(context, builder, sig, args):
        # a comparison and a choice, which is x86's own maximum; IEEE's, which keeps NaN, is several instructions
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return first(first, second), emit


@intrinsic
def absolute(context, block):
    """Return the absolute values of a block."""
    return block(block), lambda context, builder, sig, args: call(builder, "fabs", *args)


@intrinsic
def minimum(context, first, second):
    """Return the smaller of two blocks, number by number."""

    def emit(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return first(first, second), emit


@intrinsic
def fma(context, first, second, third):
    """Return first · second + third, rounded once where the machine can."""

    def emit(context, builder, sig, args):
        # "fmuladd" and not "fma": without the instruction the latter calls the C library, number by number
        return call(builder, "fmuladd", *args)

    return first(first, second, third), emit


def call(builder: Any, name: str, *args: Any) -> Any:
    """Call LLVM's own function of this name on vectors."""
    vector = args[0].type
    return call_own(builder, f"{name}.{_suffix(vector)}", vector, *args)


def call_own(builder: Any, name: str, result: ir.Type, *args: Any) -> Any:
    """Call LLVM's own function of this full name."""
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}"), args)


def _suffix(vector: ir.VectorType) -> str:
    return f"v{vector.count}f{32 if isinstance(vector.element, ir.FloatType) else 64}"


def machine_has(*features: str) -> bool:
    """Return whether code is compiled for a machine with all of these, by LLVM's names."""
    given = numba.config.CPU_FEATURES
    if given is None and numba.config.CPU_NAME == "generic":
        return False
    found = llvmlite.binding.get_host_cpu_features().flatten() if given is None else given
    return {f"+{feature}" for feature in features} <= set(found.split(","))


def joined(builder: Any, low: Any, high: Any) -> Any:
    """Return one vector of two halves."""
    every = ir.Constant(ir.VectorType(ir.IntType(32), 2 * low.type.count), list(range(2 * low.type.count)))
    return builder.shuffle_vector(low, high, every)


def half(builder: Any, block: Any, start: int) -> Any:
    """Return half of a vector, from lane ``start`` on."""
    lanes = ir.Constant(
        ir.VectorType(ir.IntType(32), block.type.count // 2),
        list(range(start, start + block.type.count // 2)),
    )
    return builder.shuffle_vector(block, ir.Constant(block.type, ir.Undefined), lanes)
