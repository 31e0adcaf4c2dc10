"""Optimizers: plain gradient descent, momentum, Adam. One step maps (Q, ∂L/∂Q) to the next Q, in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from vitdyn._errors import invalid_value, require_real
from vitdyn._registry import Registry, class_with
from vitdyn.models import Parameters
from vitdyn.objectives import hyperparameter
from vitdyn.objectives.stacked import add_scaled

State = dict[str, Parameters]
"""What an optimizer carries from step to step, by name; every tensor has a leading seed axis."""


@runtime_checkable
class Optimizer(Protocol):
    """An optimizer. Time is ``learning_rate`` times the step."""

    @property
    def learning_rate(self) -> float:
        """η."""
        ...

    def init(self, correlations: Parameters) -> State:
        """Return the optimizer's state before the first step."""
        ...

    def step(self, correlations: Parameters, gradient: Parameters, state: State, count: int) -> None:
        """Change ``correlations`` and ``state`` in place; ``count`` is the number of steps done before."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Optimizer:
    """What the three have in common: a learning rate, and a state that is 0 before the first step."""

    carried: ClassVar[tuple[str, ...]] = ()

    learning_rate: float

    def __post_init__(self) -> None:
        self._require("learning_rate", high=1e12)

    def _require(self, name: str, high: float = 1.0, **ends: bool) -> None:
        require_real(f"{type(self).__name__}.{name}", getattr(self, name), low=0.0, high=high, **ends)

    def init(self, correlations: Parameters) -> State:
        """Return the state before the first step: zeros."""
        return {name: correlations.map(torch.zeros_like) for name in self.carried}


@dataclass(frozen=True, kw_only=True)
class GradientDescent(_Optimizer):
    """Plain gradient descent: Q ← Q − η ∂L/∂Q.

    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> fast = vd.GradientDescent(learning_rate=2.0)
    >>> training = vd.Training(generator=generator, objective=vd.MaskedReconstruction(), optimizer=fast, steps=5)
    >>> float(vd.simulate(training).final["time"])
    10.0
    """

    batchable_fields: ClassVar[tuple[str, ...]] = ("learning_rate",)

    def step(self, correlations: Parameters, gradient: Parameters, state: State, count: int) -> None:
        """Take one step in place."""
        _move_along(correlations, gradient, self)


@dataclass(frozen=True, kw_only=True)
class Momentum(_Optimizer):
    """Heavy-ball momentum: V ← μV + ∂L/∂Q, Q ← Q − ηV, with V = 0 at the start and no dampening.

    >>> vd.Momentum(learning_rate=0.5, momentum=0.95).learning_rate
    0.5
    """

    batchable_fields: ClassVar[tuple[str, ...]] = ("learning_rate", "momentum")
    carried: ClassVar[tuple[str, ...]] = ("velocity",)

    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("momentum", open_high=True)

    def step(self, correlations: Parameters, gradient: Parameters, state: State, count: int) -> None:
        """Take one step in place."""
        velocity = state["velocity"]
        velocity.map(
            lambda speed, slope: speed.mul_(hyperparameter(self, lambda one: one.momentum, speed)).add_(
                slope
            ),
            gradient,
        )
        _move_along(correlations, velocity, self)


@dataclass(frozen=True, kw_only=True)
class Adam(_Optimizer):
    """Adam (Kingma & Ba 2015), a step of its own size for every correlation.

    With g = ∂L/∂Q and t = 1, 2, ...: m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g²,
    Q ← Q − η (m / (1 − β₁^t)) / (√(v / (1 − β₂^t)) + ε).

    >>> vd.Adam(learning_rate=0.05).beta2
    0.999
    """

    batchable_fields: ClassVar[tuple[str, ...]] = ("learning_rate", "beta1", "beta2", "epsilon")
    carried: ClassVar[tuple[str, ...]] = ("first", "second")

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("beta1", open_high=True)
        self._require("beta2", open_high=True)
        self._require("epsilon", open_low=True)

    def step(self, correlations: Parameters, gradient: Parameters, state: State, count: int) -> None:
        """Take one step in place."""
        time = count + 1

        def move(block: Tensor, slope: Tensor, first: Tensor, second: Tensor) -> Tensor:
            def number(read: Callable[[Adam], float]) -> Any:
                return hyperparameter(self, read, block)

            first.lerp_(slope, number(lambda one: 1 - one.beta1))
            second.mul_(number(lambda one: one.beta2))
            # a product first: ``value=`` of addcmul takes no column, and a stack must give the bits of a number
            second.addcmul_(slope * number(lambda one: 1 - one.beta2), slope)
            spread = (second / number(lambda one: 1 - one.beta2**time)).sqrt_()
            spread.add_(number(lambda one: one.epsilon))
            rate = number(lambda one: -one.learning_rate / (1 - one.beta1**time))
            return block.addcdiv_(first * rate, spread)

        correlations.map(move, gradient, state["first"], state["second"])


def _move_along(
    correlations: Parameters, direction: Parameters, optimizer: GradientDescent | Momentum
) -> None:
    """Take the step Q ← Q − η · ``direction`` in place."""
    correlations.map(
        lambda block, part: add_scaled(
            block, part, hyperparameter(optimizer, lambda one: -one.learning_rate, block)
        ),
        direction,
    )


def first_state(optimizer: Optimizer, correlations: Parameters) -> State:
    """Return an optimizer's state before the first step, in arrays of its own: the model moves in place."""
    state = optimizer.init(correlations)
    if not isinstance(state, dict) or not all(isinstance(part, Parameters) for part in state.values()):
        raise invalid_value(
            f"{type(optimizer).__name__}.init", state, "must return a dict of Parameters, {} for none"
        )
    return {name: part.map(Tensor.clone) for name, part in state.items()}


def step_in_place(
    optimizer: Optimizer, correlations: Parameters, gradient: Parameters, state: State, count: int
) -> None:
    """Take one step. Raises ``ValueError`` for an optimizer that returns what it should have changed in place."""
    returned: Any = optimizer.step(correlations, gradient, state, count)  # type: ignore[func-returns-value]
    if returned is not None:
        kind = type(returned).__name__
        raise invalid_value(
            f"{type(optimizer).__name__}.step", kind, "must change the correlations in place and return None"
        )


OPTIMIZERS = Registry(
    "optimizer",
    class_with("learning_rate", "init", "step"),
    {"gradient": GradientDescent, "momentum": Momentum, "adam": Adam},
)
