"""The door of every metric: what is taken for an array of numbers, and what is refused, in one line.

A metric takes torch tensors, numpy arrays and nested lists of numbers, and computes on the device of its first
argument (on the CPU for what is no tensor). A value that is not finite is refused by name, for it would come out of
a sum, a rank or a vote as a number that looks like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.masked import is_masked_tensor

from vitdyn._errors import as_array, invalid_value

Array: TypeAlias = Tensor | np.ndarray
"""What stands for numbers; lists of them are read too."""

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # of which torch has little more than the conversion
_KINDS = "must be a real array: a dense torch tensor, a numpy array or nested lists of numbers"
_LARGEST = 1e140  # sums of squares of more, or of less than its inverse, leave the range of float64


def real(
    field: str,
    array: Any,
    names: str,
    least: tuple[int, ...],
    *,
    finite: bool = True,
    negative: bool = True,
    ranged: bool = True,
    beside: Tensor | None = None,
) -> Tensor:
    """Return ``array`` as a tensor whose last axes, ``names``, have at least ``least`` entries, all of them finite.

    Where not ``finite``, the metric itself gives NaN for what is not; where not ``negative``, no entry may be; where
    ``ranged``, sums of squares must neither overflow nor vanish in float64. The tensor is on the device of ``beside``.
    Raises ``ValueError`` that names the field, and the place of what is wrong in it.
    """
    tensor = tensor_of(field, array)
    _require_axes(field, tensor, names, least)
    # Checks read values; they are no part of a gradient.
    if finite:
        _require_numbers(field, tensor.detach(), negative, ranged)
    return tensor if beside is None else tensor.to(beside.device)


def as_float64(
    field: str,
    array: Any,
    names: str,
    least: tuple[int, ...],
    *,
    finite: bool = True,
    beside: Tensor | None = None,
) -> Tensor:
    """Return ``array`` in float64, as :func:`real` takes it."""
    return real(field, array, names, least, finite=finite, beside=beside).to(torch.float64)


def several(field: str, arrays: Sequence[Array], names: str, least: tuple[int, ...]) -> list[Tensor]:
    """Return each of a sequence of arrays, one at least, as :func:`real` takes it."""
    try:
        parts = list(tensor_of(field, arrays) if isinstance(arrays, Array) else arrays)
    except (TypeError, LookupError):  # what cannot be gone through
        parts = []
    if not parts:
        raise invalid_value(field, arrays, "must be a sequence of arrays, one at least")
    tensors = [tensor_of(f"{field}[{index}]", each) for index, each in enumerate(parts)]
    for index, tensor in enumerate(tensors):
        _require_axes(field, tensor, names, least)
        _require_numbers(f"{field}[{index}]", tensor.detach())
    return tensors


def tensor_of(field: str, array: Any) -> Tensor:
    """Return a tensor of real numbers, of whatever shape and values; a masked entry is NaN."""
    if not isinstance(array, Tensor):
        return torch.from_numpy(_numpy_of(field, array)) if not _of_tensors(array) else _stacked(field, array)
    unreadable = (
        array.layout is not torch.strided or array.is_meta or array.is_nested or is_masked_tensor(array)
    )
    if unreadable or array.dtype not in (*_FLOATING, *_INTEGERS, *_UNSIGNED):
        raise invalid_value(field, f"{array.dtype}, {array.layout}, {array.device}", _KINDS)
    return array


def require_alike(field: str, shape: Sequence[int], wanted: Sequence[int]) -> None:
    """Raise unless the two shapes broadcast."""
    try:
        torch.broadcast_shapes(tuple(shape), tuple(wanted))
    except RuntimeError:
        raise invalid_value(
            f"shape of {field}", tuple(shape), f"the leading axes must broadcast with {tuple(wanted)}"
        ) from None


def _of_tensors(array: Any) -> bool:
    return isinstance(array, list | tuple) and any(isinstance(each, Tensor) for each in array)


def _stacked(field: str, tensors: Any) -> Tensor:
    parts = [tensor_of(f"{field}[{index}]", each) for index, each in enumerate(tensors)]
    if any(part.shape != parts[0].shape for part in parts):
        raise invalid_value(field, [tuple(part.shape) for part in parts], "must hold arrays of one shape")
    return torch.stack([part.to(parts[0].device) for part in parts])


def _numpy_of(field: str, array: Any) -> np.ndarray:
    """Return a numpy array that torch takes: of native kind, writeable, without negative steps."""
    found = as_array(
        field, np.ma.filled(array.astype(float), np.nan) if np.ma.isMaskedArray(array) else array
    )
    if found.dtype.kind not in "biuf":
        raise invalid_value(field, array, _KINDS)
    kind, size = found.dtype.kind, min(found.dtype.itemsize, 8)
    usual = np.dtype(f"{kind}{size}")  # of native byte order; C's long long is another int64 to torch
    return np.require(found, usual, ("C", "W")).view(usual)


def _require_axes(field: str, tensor: Tensor, names: str, least: tuple[int, ...]) -> None:
    shape = tuple(tensor.shape[max(0, tensor.ndim - len(least)) :])
    if len(shape) < len(least) or any(size < low for size, low in zip(shape, least, strict=True)):
        wanted = ", ".join(f"{name} ≥ {low}" for name, low in zip(names.split(), least, strict=True))
        raise invalid_value(f"shape of {field}", tuple(tensor.shape), f"the last axes must be ({wanted})")


def _require_numbers(field: str, array: Tensor, negative: bool = True, ranged: bool = True) -> None:
    """Raise unless all entries are finite; and, where asked, in the range of float64's squares and not negative."""
    # torch has no minimum of unsigned numbers, which are finite and not negative anyway.
    if not array.numel() or array.dtype in _UNSIGNED:
        return
    least, largest = (float(end) for end in array.aminmax())
    if not (isfinite(least) and isfinite(largest)):
        bad = ~array.isfinite()
        place = np.unravel_index(int(bad.flatten().to(torch.uint8).argmax()), tuple(array.shape))
        name = f"{field}[{', '.join(str(index) for index in place)}]"
        number = f"{int(bad.sum())} of {array.numel()} values are not"
        raise invalid_value(
            name, float(array[tuple(int(index) for index in place)]), f"must be finite; {number}"
        )
    if not negative and least < 0:
        raise invalid_value(field, least, "must be 0 or more everywhere")
    size = max(-least, largest)
    if ranged and (size > _LARGEST or 0 < size < 1 / _LARGEST):
        raise invalid_value(
            f"largest entry of {field}", size, f"must be between {1 / _LARGEST:g} and {_LARGEST:g}; scale it"
        )
