"""What every metric returns: a value and the convention it was measured in; and how both are made.

A *convention* is a frozen dataclass of the choices in which sources differ (what is centred, which small
number guards a logarithm, what happens to an empty row). Each metric has named presets, and takes a name or a
convention of the caller's own, for example ``replace(LIDAR["exact"], delta=1e-4, relative=True)``. The preset
``exact`` is the formula itself, without guards, continued to its edges (0 log 0 = 0); the others are named
after the source that they reproduce. What is measured (a grid, how many neighbours) is an argument instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import nan, prod
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from vitdyn._errors import invalid_value, require_boolean, require_choice, require_real

ROUND_OFF = torch.finfo(torch.float64).eps

_BLOCK = 2**18  # entries held at a time: 2 MiB in float64, what a core's cache holds
_Convention = TypeVar("_Convention")


def one_of(*choices: str) -> Any:
    """Declare a field of a convention: one of these names, the first by default."""
    return field(default=choices[0], metadata={"choices": choices})


def number(default: float | None, high: float, **open_ends: bool) -> Any:
    """Declare a field of a convention: a number from 0 to ``high``, or None where that is the default."""
    return field(default=default, metadata={"range": {"low": 0, "high": high, **open_ends}})


@dataclass(frozen=True, kw_only=True)
class Convention:
    """Choices in which sources differ; each is a boolean, or declared by ``one_of`` or ``number`` and checked here."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if "choices" in each.metadata:
                require_choice(each.name, value, each.metadata["choices"])
            elif "range" not in each.metadata:
                require_boolean(each.name, value)
            elif value is not None or each.default is not None:
                require_real(each.name, value, **each.metadata["range"])
                object.__setattr__(self, each.name, float(value))


class Measured(NamedTuple):
    """A measured quantity in float64, over the leading axes of what was measured, and how it was defined."""

    value: Tensor
    convention: Any


def resolve(convention: str | _Convention, presets: Mapping[str, _Convention]) -> _Convention:
    """Return the preset of that name, or the convention itself if it is one of the same kind."""
    if isinstance(convention, str):
        require_choice("convention", convention, presets)
        return presets[convention]
    # Every convention is a Convention: where a metric has no choices, one of another metric is none of its
    # own.
    kind = type(next(iter(presets.values())))
    if not isinstance(convention, kind) or (kind is Convention and type(convention) is not kind):
        raise invalid_value(
            "convention", convention, f"must be one of {', '.join(presets)}, or a {kind.__name__}"
        )
    return convention


def centred(values: Tensor) -> Tensor:
    """Return deviations from the mean over the axis before the last; exactly 0 where nothing varies.

    The first row is subtracted before the mean, so that equal rows leave no round-off behind.
    """
    shifted = values - values[..., :1, :]
    return shifted - shifted.mean(-2, keepdim=True)


def product_error(rows: Tensor, others: Tensor) -> Tensor:
    """Return what ‖x − y‖² may be off by, for each x of ``rows``, where it is made of products: ‖x‖² − 2 x·y + ‖y‖²."""
    lengths = torch.linalg.vector_norm(rows, dim=-1) + torch.linalg.vector_norm(others, dim=-1).max()
    return 2 * (others.shape[-1] + 4) * ROUND_OFF * lengths.square()


def over(total: Tensor, number: Tensor, empty: float = nan) -> Tensor:
    """Return total/number, and ``empty`` where the number is not positive: never 0/0."""
    return torch.where(number > 0, total / torch.where(number > 0, number, 1), empty)


def without_error(means: Tensor, largest: Tensor, count: int) -> Tensor:
    """Return means of ``count`` numbers up to ``largest``; 0 where rows of them differ by their round-off only."""
    spread = centred(means).abs().amax((-2, -1))
    return torch.where((spread <= count * ROUND_OFF * largest)[..., None, None], 0.0, means)


def one_by_one(
    measure: Callable[..., Tensor | float], arrays: Sequence[Tensor], axes: Sequence[int]
) -> Tensor:
    """Return what ``measure`` finds on each problem of the leading axes that the arrays share, over these axes.

    Of each array a problem has the last ``axes``; the values come in float64.
    """
    lead = arrays[0].shape[: arrays[0].ndim - axes[0]]
    flat = (
        array.reshape(prod(lead), *array.shape[array.ndim - last :])
        for array, last in zip(arrays, axes, strict=True)
    )
    kind: dict[str, Any] = {"dtype": torch.float64, "device": arrays[0].device}
    found = [torch.as_tensor(measure(*problem), **kind) for problem in zip(*flat, strict=True)]
    stacked = torch.stack(found) if found else torch.zeros(0, **kind)
    return stacked.reshape((*lead, *stacked.shape[1:]))


def blockwise(function: Callable[[Tensor], Tensor], array: Tensor, axes: int) -> Tensor:
    """Apply ``function`` to blocks of the leading axes, each in float64, so that copies stay small.

    ``function`` maps (batch, the last ``axes`` axes) to (batch, ...).
    """
    lead, last = array.shape[: array.ndim - axes], array.shape[array.ndim - axes :]
    flat = array.reshape(prod(lead), *last)
    size = max(1, _BLOCK // max(1, prod(last)))
    parts = [function(part.to(torch.float64)) for part in flat.split(size)]
    found = torch.cat(parts)
    return found.reshape((*lead, *found.shape[1:]))
