"""What is measured of a loss about a point of a training: numbers by name, each by one call of ``vitdyn.landscape``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from vitdyn.landscape import Surface
from vitdyn.vits.landscape import Landscape


class Variable(NamedTuple):
    """What a survey records at each frame: its symbol, its meaning, and its axes behind frame and seed."""

    symbol: str
    meaning: str
    axes: tuple[str, ...] = ()


VARIABLES = {
    "loss": Variable("L", "loss on the images that stay"),
    "gradient_norm": Variable("‖∇L‖", "norm of the gradient"),
    "parameter_norm": Variable("‖θ‖", "norm of all weights that are trained"),
}


def slope(spec: Landscape, surface: Surface) -> dict[str, Tensor | float]:
    """Return the loss, the norm of its gradient and that of the weights."""
    return {
        "loss": surface.value(),
        "gradient_norm": surface.gradient().norm(),
        "parameter_norm": surface.point.norm(),
    }


MEASURES: tuple[Callable[[Landscape, Surface], dict[str, Tensor | float]], ...] = (slope,)
"""What is done at a frame, in this order; progress is told after each."""


def sizes_of(spec: Landscape) -> dict[str, int]:
    """Return how long the axes are that variables have behind frame and seed."""
    return {}


def shape_of(variable: Variable, spec: Landscape) -> tuple[int, ...]:
    """Return the shape of a variable at one frame."""
    return tuple(sizes_of(spec)[axis] for axis in variable.axes)
