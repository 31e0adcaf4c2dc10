"""One specification in the place of several of a kind, each for a seed of its own.

A grid over a temperature or a learning rate trains as one batch: its formulas read a number by ``per_seed``, which
is a plain number for one specification and a column of them, in the type of the arrays, for joined ones. Arithmetic
with a column gives each seed what the plain number gives it, whatever the neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import torch
from torch import Tensor

Spec = TypeVar("Spec")

_OWN = "_one_for_each_seed"


def joined(specs: Sequence[Spec]) -> Spec:
    """Return a specification that stands for ``specs``, dataclasses of one kind, the s-th for seed s.

    Its fields are those of the first; only ``per_seed`` knows the others. For the length of a run: it is never stored.
    """
    first: Any = specs[0]
    one = object.__new__(type(first))  # not by __init__: what that prepares would be of the first alone
    vars(one).update({field.name: getattr(first, field.name) for field in fields(first)})
    vars(one)[_OWN] = tuple(specs)
    return one


def members(spec: Spec) -> tuple[Spec, ...]:
    """Return the specifications that ``spec`` stands for, one for each seed; of a plain one, itself alone."""
    return vars(spec).get(_OWN, (spec,))


def derived(spec: Spec, make: Callable[[Spec], Any]) -> Any:
    """Return what ``make`` makes of a specification; of a joined one, that of its members, joined."""
    own = vars(spec).get(_OWN)
    return make(spec) if own is None else joined([make(one) for one in own])


def per_seed(spec: Spec, number: Callable[[Spec], float], like: Tensor) -> Any:
    """Return ``number`` of a specification, or of each member as a column that broadcasts along ``like``'s seeds."""
    own = vars(spec).get(_OWN)
    if own is None:
        return number(spec)
    values = [number(one) for one in own]
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, *[1] * (like.ndim - 1))


def add_scaled(target: Tensor, values: Tensor, factor: float | Tensor) -> Tensor:
    """Add ``factor`` · ``values`` to ``target`` in place, for a number or a column, in one pass with one rounding."""
    if isinstance(factor, Tensor):
        return target.addcmul_(values, factor)
    return target.add_(values, alpha=factor)
