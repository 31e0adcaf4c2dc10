"""A surface on a line or a plane through its point: values, slopes and curvature in coordinates along directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.landscape.directions import checked_direction
from vitdyn.landscape.operators import pulled_back, twice_differentiable
from vitdyn.landscape.surface import Surface


class Derivatives(NamedTuple):
    """The slopes ⟨∇L, d_i⟩ and the curvature d_iᵀ H d_j at one place, in float64."""

    slopes: Float[Tensor, " direction"]
    curvature: Float[Tensor, "direction direction"]


@dataclass(frozen=True)
class Plane:
    """The points θ + Σ c_i d_i of a surface. Derivatives are exact, one backward pass for each direction.

    A stopped value keeps what it is at θ all over the plane, where the surface says so.
    """

    surface: Surface
    directions: Float[Tensor, "direction parameter"]

    @classmethod
    def of(cls, surface: Surface, directions: Sequence[Tensor]) -> Plane:
        """Return the plane of one direction or more. Raises ``ValueError`` for one that is zero or not finite."""
        rows = []
        for index, each in enumerate(directions):
            rows.append(checked_direction(surface, each, f"directions[{index}]"))
            if not rows[-1].any():
                raise invalid_value(f"directions[{index}]", "0", "must not be zero")
        return cls(surface, torch.stack(rows))

    def displacement(self, coordinates: Sequence[float]) -> Tensor:
        """Return Σ c_i d_i."""
        parts = [float(each) * row for each, row in zip(coordinates, self.directions, strict=True)]
        return torch.stack(parts).sum(0)

    def value(self, coordinates: Sequence[float]) -> float:
        """Return the loss at a point."""
        return self.surface.value(self.displacement(coordinates))

    def derivatives(self, coordinates: Sequence[float]) -> Derivatives:
        """Return slopes and curvature at a point."""
        # recorded also for who looks at a run, where nothing else is
        with torch.enable_grad(), twice_differentiable():
            gradient, leaves = self.surface.differentiable_gradient(self.displacement(coordinates))
            curvature = torch.zeros(2 * (len(self.directions),), dtype=torch.float64)
            if gradient.requires_grad:  # else the loss is linear
                rows = [self.directions @ pulled_back(gradient, leaves, each) for each in self.directions]
                curvature = torch.stack(rows).double()
        return Derivatives((self.directions @ gradient.detach()).double(), curvature)

    def curvature(self, coordinates: Sequence[float]) -> float:
        """Return the second derivative along the first direction at a point, NaN where it or the loss is not finite."""
        # log has one at −1 all the same
        found = (
            self.derivatives(coordinates).curvature[0, 0].item() if isfinite(self.value(coordinates)) else nan
        )
        return found if isfinite(found) else nan
