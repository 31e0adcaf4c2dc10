"""A surface on a line or a plane through its point: values, slopes and curvature in coordinates along directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.landscape.directions import checked_direction
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
        with torch.enable_grad():  # also for who looks at a run, where nothing is recorded
            gradient, leaves = self.surface.differentiable_gradient(self.displacement(coordinates))
            slopes = self.directions @ gradient
            rows = [self._along(slope, leaves) for slope in slopes]
        return Derivatives(slopes.detach().double(), torch.stack(rows).double())

    def curvature(self, coordinates: Sequence[float]) -> float:
        """Return the second derivative along the first direction at a point."""
        return self.derivatives(coordinates).curvature[0, 0].item()

    def _along(self, slope: Tensor, leaves: tuple[Tensor, ...]) -> Float[Tensor, " direction"]:
        if not slope.requires_grad:  # a loss that is linear
            return self.directions.new_zeros(len(self.directions))
        found = torch.autograd.grad(slope, leaves, retain_graph=True, materialize_grads=True)
        return self.directions @ torch.cat([part.reshape(-1) for part in found])
