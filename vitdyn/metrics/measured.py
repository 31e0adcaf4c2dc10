"""What every metric returns: a value and the convention it was measured in; and how both are made.

A *convention* is a frozen dataclass of the choices in which sources differ (what is centred, which small
number guards a logarithm, what happens to an empty row). Each metric has named presets, and takes a name or a
convention of the caller's own, for example ``replace(LIDAR["exact"], delta=1e-4, relative=True)``. The preset
``exact`` is the formula itself, without guards, continued to its edges (0 log 0 = 0); the others are named
after the source that they reproduce. What is measured (a grid, how many neighbours) is an argument instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import prod
from numbers import Real
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from vitdyn._errors import require_boolean, require_choice, wrong

ROUND_OFF = torch.finfo(torch.float64).eps

_BLOCK = 2**18  # entries held at a time: 2 MiB in float64, what a core's cache holds
_Convention = TypeVar("_Convention")


@dataclass(frozen=True, kw_only=True)
class Convention:
    """What all conventions are: what they leave open to yes or no is True or False, and numbers are floats."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.type == "bool":
                require_boolean(each.name, value)
            elif isinstance(value, Real):
                object.__setattr__(self, each.name, value if isinstance(value, bool) else float(value))


class Measured(NamedTuple):
    """A measured quantity in float64, over the leading axes of what was measured, and how it was defined."""

    value: Tensor
    convention: Any


def chosen(convention: str | _Convention, presets: Mapping[str, _Convention]) -> _Convention:
    """Return the preset of that name, or the convention itself if it is one of the same kind."""
    if isinstance(convention, str):
        require_choice("convention", convention, presets)
        return presets[convention]
    kind = type(next(iter(presets.values())))
    if not isinstance(convention, kind):
        raise wrong("convention", convention, f"must be one of {', '.join(presets)}, or a {kind.__name__}")
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


def without_error(means: Tensor, largest: Tensor, count: int) -> Tensor:
    """Return means of ``count`` numbers up to ``largest``; 0 where rows of them differ by their round-off only."""
    spread = centred(means).abs().amax((-2, -1))
    return torch.where((spread <= count * ROUND_OFF * largest)[..., None, None], 0.0, means)


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
