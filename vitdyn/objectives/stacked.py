"""Stacked specifications: one stands for several of its kind, each for a seed of its own.

A grid over a temperature or a learning rate trains as one batch: its formulas read a number by ``hyperparameter``,
which is a plain number for one specification and a column of them, in the type of the arrays, for stacked ones.
Arithmetic with a column gives each seed what the plain number gives it, whatever the neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from vitdyn._specs import has_only_fields

Spec = TypeVar("Spec")

_STACK = "_stack"


@dataclass
class _Stack:
    """The different specifications of a stack, which of them each seed has, and the columns that were read off them."""

    different: tuple[Any, ...]
    places: Int[Tensor, " seed"]
    columns: dict[Any, tuple[list[float], Tensor]] = field(default_factory=dict)

    def column(self, read: Callable[[Any], float], like: Tensor) -> Shaped[Tensor, " seed"]:
        """Return a number of each seed on the device of ``like``: the array of last time unless the numbers changed.

        So what is constant lies on the device once, where a CUDA graph finds it again, and the host never waits.
        """
        # by its code, since a lambda is a new object at every call; values are compared, in case it closes over others
        key = getattr(read, "__code__", read), like.dtype, like.device
        values = [read(one) for one in self.different]
        if key not in self.columns or self.columns[key][0] != values:
            column = torch.tensor(values, dtype=like.dtype)[self.places]
            if like.is_cuda:
                column = column.pin_memory()
            self.columns[key] = values, column.to(like.device, non_blocking=True)
        return self.columns[key][1]


def stack_specs(specs: Sequence[Spec]) -> Spec:
    """Return a specification that stands for ``specs``, dataclasses of one kind, the s-th for seed s.

    Its fields are those of the first; only ``hyperparameter``, ``map_spec`` and ``unstack`` know the others. It lives
    as long as a run and is never stored.
    """
    first: Any = specs[0]
    # past __init__: properties that it caches would be those of the first specification alone
    one = object.__new__(type(first))
    vars(one).update({each.name: getattr(first, each.name) for each in fields(first)})
    # by identity: == may leave out what a user's class computes with
    different = {id(spec): spec for spec in specs}
    places = {name: place for place, name in enumerate(different)}
    order = torch.tensor([places[id(spec)] for spec in specs])
    vars(one)[_STACK] = _Stack(tuple(different.values()), order)
    return one


def unstack(spec: Spec) -> tuple[Spec, ...]:
    """Return the different specifications that ``spec`` stands for; of a plain one, itself alone."""
    stack = vars(spec).get(_STACK)
    return (spec,) if stack is None else stack.different


def map_spec(spec: Spec, make: Callable[[Spec], Any]) -> Any:
    """Return what ``make`` makes of a specification; of a stack, the stack of what it makes of each."""
    stack = vars(spec).get(_STACK)
    if stack is None:
        return make(spec)
    made = [make(one) for one in stack.different]
    return stack_specs([made[place] for place in stack.places])


def hyperparameter(spec: Spec, read: Callable[[Spec], float], like: Tensor) -> Any:
    """Return the number that ``read`` reads of a specification; of a stack a column that broadcasts along ``like``."""
    stack = vars(spec).get(_STACK)
    if stack is None:
        return read(spec)
    return stack.column(read, like).view(-1, *[1] * (like.ndim - 1))


def stack_key(spec: Any) -> Hashable | None:
    """Return what specifications must share to be stacked; None for one that cannot be.

    Its own class, not one above, must name in ``batchable_fields`` the fields that its formulas read by
    ``hyperparameter`` alone, and the object must hold nothing but its fields.
    """
    kind = type(spec)
    if "batchable_fields" not in vars(kind) or not has_only_fields(spec):
        return None
    shared = [each.name for each in fields(spec) if each.name not in kind.batchable_fields]
    return kind, tuple((name, getattr(spec, name)) for name in shared)


def add_scaled(target: Tensor, values: Tensor, factor: float | Tensor) -> Tensor:
    """Add ``factor`` · ``values`` to ``target`` in place, for a number or a column, in one pass with one rounding."""
    if isinstance(factor, Tensor):
        return target.addcmul_(values, factor)
    return target.add_(values, alpha=factor)
