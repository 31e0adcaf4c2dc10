"""What all measures of curvature share: products in float64, whatever the operator's precision, with checks."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer
from vitdyn._progress import Progress, progress
from vitdyn.landscape.operators import Matrix, Operator
from vitdyn.seeds import stream

DENSE = 512
"""Up to this dimension the whole matrix is made, one product for each row, and everything read off it is exact."""

Columns = Float[np.ndarray, "parameter column"]


class Products:
    """An operator as numpy in float64: ``products(columns)``; each one of them is told to a ``Progress``.

    Raises ``ValueError`` where a product is not finite.
    """

    def __init__(self, operator: Operator, bar: Progress | None = None) -> None:
        self.operator, self.dimension = operator, operator.dimension
        self.round_off = torch.finfo(operator.like.dtype).eps
        self.bar = bar or progress(False, 0, "product")

    def of(self, vector: Float[np.ndarray, " parameter"]) -> Float[np.ndarray, " parameter"]:
        """Return the product with one vector."""
        found = (self.operator @ as_vector(self.operator, vector)).double().cpu().numpy()
        if not np.isfinite(found).all():
            raise invalid_value(
                "operator", "not finite", "the product with a finite vector overflows or is NaN"
            )
        self.bar.update(1)
        return found

    def __call__(self, columns: Columns) -> Columns:
        """Return the products with columns."""
        return np.stack([self.of(column) for column in columns.T], 1)

    def require_symmetric(self, seed: int) -> None:
        """Raise unless uᵀH v = vᵀH u for two random vectors, to the root of the round-off."""
        first, second = signs(seed, 0, self.dimension), signs(seed, 1, self.dimension)
        one, other = self.of(first), self.of(second)
        # of a product that is off by a random part δ of its length, either side is off by δ |H u|
        allowed = np.sqrt(self.round_off) * (np.linalg.norm(one) + np.linalg.norm(other))
        if abs(second @ one - first @ other) > allowed:
            raise _asymmetric(second @ one, first @ other)

    def matrix(self) -> Float[np.ndarray, "parameter parameter"]:
        """Return the whole matrix, made of products with unit vectors. Raises unless it is symmetric."""
        found = self(np.eye(self.dimension))
        if np.abs(found - found.T).max() > np.sqrt(self.round_off) * np.abs(found).max():
            raise _asymmetric(
                *max(zip(found.flat, found.T.flat, strict=True), key=lambda two: abs(two[0] - two[1]))
            )
        return (found + found.T) / 2


def _asymmetric(one: float, other: float) -> ValueError:
    words = "must be symmetric: these two must be equal"
    return invalid_value("operator", f"uᵀHv = {one:.6g}, vᵀHu = {other:.6g}", words)


def dense(operator: Operator) -> Float[Tensor, "parameter parameter"]:
    """Return the whole matrix of an operator, made of products with unit vectors. Raises unless it is symmetric.

    >>> import torch
    >>> bowl = vd.landscape.Surface(lambda at: at["w"].prod(), {"w": torch.tensor([1.0, 2.0])})
    >>> vd.landscape.dense(vd.landscape.Hessian(bowl))
    tensor([[0., 1.],
            [1., 0.]])
    """
    return torch.from_numpy(Products(operator).matrix()).to(operator.like)


def as_operator(value: Operator | Tensor) -> Operator:
    """Return an operator; a square matrix becomes one. Raises ``ValueError`` for anything else."""
    if isinstance(value, Tensor):
        return Matrix(value)
    if not all(hasattr(value, name) for name in ("dimension", "like", "__matmul__")):
        words = "must be an Operator (a Hessian, say) or a square matrix"
        raise invalid_value("operator", type(value).__name__, words)
    return value


def as_vector(operator: Operator, vector: np.ndarray) -> Tensor:
    """Return a vector in the operator's precision and on its device."""
    return torch.from_numpy(np.ascontiguousarray(vector)).to(operator.like)


def signs(seed: int, draw: int, dimension: int) -> Float[np.ndarray, " parameter"]:
    """Return a random vector of ±1 (Rademacher), a function of the seed and the draw's number."""
    return 2.0 * stream(seed, "curvature", draw).integers(2, size=dimension) - 1.0


def seconds_of(operator: Operator | Tensor, products: int = 1) -> float:
    """Return how long so many products will take here, from one that is timed: what a measure of curvature costs.

    The operator's graph, which the first product makes, is not counted.

    >>> import torch
    >>> bowl = vd.landscape.Hessian(vd.landscape.Surface(lambda at: (at["w"] ** 2).sum(), {"w": torch.zeros(3)}))
    >>> 0 < vd.landscape.seconds_of(bowl, products=100) < 60
    True
    """
    operator = as_operator(operator)
    require_integer("products", products, at_least=1)
    vector = torch.zeros_like(operator.like.reshape(-1)[:1]).expand(operator.dimension).contiguous()
    operator @ vector
    began = perf_counter()
    operator @ vector
    return products * (perf_counter() - began)
