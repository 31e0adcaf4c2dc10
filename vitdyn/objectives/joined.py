"""One specification in the place of several of a kind, each for a seed of its own.

A grid over a temperature or a learning rate trains as one batch: its formulas read a number by ``per_seed``, which
is a plain number for one specification and a column of them, in the type of the arrays, for joined ones. Arithmetic
with a column gives each seed what the plain number gives it, whatever the neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

Spec = TypeVar("Spec")

_OWN = "_one_for_each_seed"


@dataclass
class _Own:
    """The different specifications that one stands for, which of them each seed has, and what was read off them."""

    different: tuple[Any, ...]
    places: Int[Tensor, " seed"]
    made: dict[Any, tuple[list[float], Tensor]] = field(default_factory=dict)

    def column(self, number: Callable[[Any], float], like: Tensor) -> Shaped[Tensor, " seed"]:
        """Return a number of each seed on the device of ``like``: the array of last time unless the numbers changed.

        So what is constant lies on the device once, where a CUDA graph finds it again, and the host never waits.
        """
        key = getattr(number, "__code__", number), like.dtype, like.device
        values = [number(one) for one in self.different]
        if key not in self.made or self.made[key][0] != values:
            column = torch.tensor(values, dtype=like.dtype)[self.places]
            if like.is_cuda:
                column = column.pin_memory()
            self.made[key] = values, column.to(like.device, non_blocking=True)
        return self.made[key][1]


def joined(specs: Sequence[Spec]) -> Spec:
    """Return a specification that stands for ``specs``, dataclasses of one kind, the s-th for seed s.

    Its fields are those of the first; only ``per_seed`` knows the others. For the length of a run: it is never stored.
    """
    first: Any = specs[0]
    one = object.__new__(type(first))  # not by __init__: what that prepares would be of the first alone
    vars(one).update({each.name: getattr(first, each.name) for each in fields(first)})
    different = {id(spec): spec for spec in specs}
    places = {name: place for place, name in enumerate(different)}
    order = torch.tensor([places[id(spec)] for spec in specs])
    vars(one)[_OWN] = _Own(tuple(different.values()), order)
    return one


def members(spec: Spec) -> tuple[Spec, ...]:
    """Return the different specifications that ``spec`` stands for; of a plain one, itself alone."""
    own = vars(spec).get(_OWN)
    return (spec,) if own is None else own.different


def derived(spec: Spec, make: Callable[[Spec], Any]) -> Any:
    """Return what ``make`` makes of a specification; of a joined one, that of its members, joined."""
    own = vars(spec).get(_OWN)
    if own is None:
        return make(spec)
    made = [make(one) for one in own.different]
    return joined([made[place] for place in own.places])


def per_seed(spec: Spec, number: Callable[[Spec], float], like: Tensor) -> Any:
    """Return ``number`` of a specification, or of each member as a column that broadcasts along ``like``'s seeds."""
    own = vars(spec).get(_OWN)
    if own is None:
        return number(spec)
    return own.column(number, like).view(-1, *[1] * (like.ndim - 1))


def add_scaled(target: Tensor, values: Tensor, factor: float | Tensor) -> Tensor:
    """Add ``factor`` · ``values`` to ``target`` in place, for a number or a column, in one pass with one rounding."""
    if isinstance(factor, Tensor):
        return target.addcmul_(values, factor)
    return target.add_(values, alpha=factor)
