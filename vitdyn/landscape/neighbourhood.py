"""The numbers that say how convex and how sharp a loss is about a point, in units of the weights' own filters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf, nan

import numpy as np

from vitdyn._errors import require_choice, require_integer, require_kind, require_real
from vitdyn.landscape.convexity import EPSILON, Distance, convex_radius, convex_share, first_inflection
from vitdyn.landscape.directions import CONVENTIONS, filter_norms, gaussian_direction, normalised
from vitdyn.landscape.section import section
from vitdyn.landscape.sharpness import sharpness
from vitdyn.landscape.surface import Surface, Vector

NUMBERS = {
    "convex_share": ("share", "share of a random plane in which the loss is convex"),
    "convex_radius": ("r", "how far the loss is convex along a direction"),
    "first_inflection": ("r₀", "where its curvature along a direction first changes its sign"),
    "sharpness": ("max ΔL", "largest rise of the loss in a ball"),
}
"""Symbol and meaning of each."""
DISTANCES = ("convex_radius", "first_inflection")
DOWNHILL = "downhill"


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """How the neighbourhood of a surface's point is measured, along directions that are normalised by filter.

    A distance of 1 moves each filter by its own length, so that by "goldstein" no number changes where consecutive
    layers are rescaled. ``convex_share`` is that of the plane of two random directions from −``half_width`` to
    ``half_width``, by second differences of ``points`` values along each. ``convex_radius`` and ``first_inflection``
    are along ``directions`` random ones and along −∇L (``along`` names them), looked for at ``points`` places up to
    ``half_width``, which they are where there is nothing up to there. ``sharpness`` is of a ball of filters of the
    radius ``radius``. Of a seed's random directions ``first`` is the number of the first that is taken.

    Where a filter of the weights is 0, as in the theory's layer at its start, none of them exists: they are NaN.

    >>> import torch
    >>> bowl = vd.landscape.Surface(lambda at: at["w"].square().sum(), {"w": torch.ones(2, 3)})
    >>> near = vd.landscape.Neighbourhood()
    >>> near.along, near.measure("convex_radius", bowl, seed=0), near.measure("convex_share", bowl, seed=0)
    (('0', '1', 'downhill'), [1.0, 1.0, 1.0], 1.0)
    """

    normalisation: str = "goldstein"
    directions: int = 2
    half_width: float = 1.0
    points: int = 11
    epsilon: float = EPSILON
    radius: float = 0.05
    first: int = 0

    def __post_init__(self) -> None:
        require_choice("Neighbourhood.normalisation", self.normalisation, CONVENTIONS)
        require_integer("Neighbourhood.directions", self.directions, at_least=1)
        require_integer("Neighbourhood.points", self.points, at_least=3)
        require_integer("Neighbourhood.first", self.first, at_least=0)
        for name in ("half_width", "radius"):
            require_real(f"Neighbourhood.{name}", getattr(self, name), low=0, high=inf, open_low=True)
        require_real("Neighbourhood.epsilon", self.epsilon, low=0, high=1, open_high=True)

    @property
    def along(self) -> tuple[str, ...]:
        """The directions of distances by name: the random ones by their numbers, then "downhill"."""
        return (*map(str, range(self.directions)), DOWNHILL)

    def measure(self, name: str, surface: Surface, seed: int) -> float | list[float]:
        """Return one of ``NUMBERS``, for each of ``along`` where it is a distance; ``seed`` draws the directions."""
        require_choice("name", name, NUMBERS)
        require_kind("surface", surface, Surface)
        if self._lacks_length(surface):
            return [nan] * len(self.along) if name in DISTANCES else nan
        return getattr(self, f"_{name}")(surface, seed)

    def random(self, surface: Surface, seed: int, index: int) -> Vector:
        """Return the ``index``-th random direction of a seed."""
        drawn = gaussian_direction(surface, seed, self.first + index)
        return normalised(surface, drawn, self.normalisation)

    def downhill(self, surface: Surface) -> Vector:
        """Return the direction of steepest descent, each filter of it as long as that of the weights."""
        return normalised(surface, -surface.gradient(), self.normalisation)

    def _lacks_length(self, surface: Surface) -> bool:
        # tensors of one axis stay as they are in a normalised direction
        matrices = [each for each in surface.parameters.values() if each.ndim > 1]
        return any(bool((filter_norms(each, self.normalisation) == 0).any()) for each in matrices)

    def _convex_share(self, surface: Surface, seed: int) -> float:
        plane = [self.random(surface, seed, index) for index in range(2)]
        found = section(surface, plane, np.linspace(-self.half_width, self.half_width, self.points))
        return convex_share(found, epsilon=self.epsilon)

    def _convex_radius(self, surface: Surface, seed: int) -> list[float]:
        search = partial(convex_radius, epsilon=self.epsilon, limit=self.half_width, points=self.points)
        return self._distances(search, surface, seed)

    def _first_inflection(self, surface: Surface, seed: int) -> list[float]:
        search = partial(first_inflection, limit=self.half_width, points=self.points)
        return self._distances(search, surface, seed)

    def _distances(
        self, search: Callable[[Surface, Vector], Distance], surface: Surface, seed: int
    ) -> list[float]:
        ways = [self.random(surface, seed, index) for index in range(self.directions)]
        ways.append(self.downhill(surface))
        # where the gradient is 0 no way leads down
        return [search(surface, each).value if each.any() else nan for each in ways]

    def _sharpness(self, surface: Surface, seed: int) -> float:
        return sharpness(surface, self.radius, seed=seed).value
