"""Symmetric linear operators that curvature is read off: the Hessian of a loss, by products with vectors alone."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.landscape.surface import Surface, Vector


class Operator(Protocol):
    """A symmetric matrix by its products with vectors."""

    @property
    def dimension(self) -> int:
        """How many rows it has."""
        ...

    @property
    def like(self) -> Tensor:
        """A tensor of the precision and device that its vectors have."""
        ...

    def __matmul__(self, vector: Float[Tensor, " parameter"]) -> Float[Tensor, " parameter"]:
        """Return the product with a vector."""
        ...


class Hessian:
    """The Hessian H = ∂²L/∂θ² of a surface at its point, as the products H v.

    The graph of the gradient is made once and differentiated at each product: as many backward passes as products.

    >>> import torch
    >>> bowl = vd.landscape.Surface(lambda at: (at["w"] ** 4).sum(), {"w": torch.tensor([1.0, 2.0])})
    >>> vd.landscape.Hessian(bowl) @ torch.tensor([1.0, 1.0])
    tensor([12., 48.])
    """

    def __init__(self, surface: Surface) -> None:
        self.surface = surface

    @property
    def dimension(self) -> int:
        """How many parameters there are."""
        return self.surface.dimension

    @property
    def like(self) -> Tensor:
        """The point, whose precision and device the vectors have."""
        return self.surface.point

    @cached_property
    def _gradient(self) -> tuple[Vector, tuple[Tensor, ...]]:
        return self.surface.differentiable_gradient()

    def __matmul__(self, vector: Vector) -> Vector:
        """Return H v."""
        gradient, leaves = self._gradient
        if not gradient.requires_grad:  # a loss that is linear
            return torch.zeros_like(vector)
        found = torch.autograd.grad(gradient, leaves, vector, retain_graph=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in found])
