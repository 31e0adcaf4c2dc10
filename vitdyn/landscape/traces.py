"""The trace and the squared Frobenius norm of a symmetric operator, by random vectors of ±1, with their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vitdyn._errors import require_boolean, require_integer, require_real
from vitdyn._progress import progress
from vitdyn.landscape.operators import Operator
from vitdyn.landscape.products import DENSE, Products, as_operator, signs

_LEAST_DRAWS = 16
"""Fewer tell nothing of their own spread: two draws agree by luck, and the error would be 0."""


class Estimate(NamedTuple):
    """A mean over random draws and its standard error, which is 0 where the value is exact."""

    value: float
    error: float

    @classmethod
    def of(cls, draws: list[float] | np.ndarray) -> Estimate:
        """Return the mean of independent draws; the error of a single one is infinite."""
        count = len(draws)
        error = np.std(draws, ddof=1) / np.sqrt(count) if count > 1 else np.inf
        return cls(float(np.mean(draws)), float(error))


def trace(
    operator: Operator | Tensor,
    *,
    relative_error: float = 0.02,
    most_draws: int = 200,
    seed: int = 0,
    show_progress: bool = False,
) -> Estimate:
    """Return tr H and its standard error.

    Up to dimension 512 by unit vectors, exact. Above, the mean of vᵀ H v over vectors v of random signs (Hutchinson
    1990), whose variance is twice the sum of the squares of H off its diagonal. Draws go on until the standard error is
    ``relative_error`` of the mean, from 16 to ``most_draws``: a trace near 0, of a saddle, is what its error says.
    Errors are those of ``top_eigenvalues``.

    >>> import torch
    >>> vd.landscape.trace(torch.diag(torch.tensor([2.0, -5.0, 2.0, 1.5])))
    Estimate(value=0.5, error=0.0)
    """
    return _mean(operator, lambda v, image: float(v @ image), relative_error, most_draws, seed, show_progress)


def squared_norm(
    operator: Operator | Tensor,
    *,
    relative_error: float = 0.02,
    most_draws: int = 200,
    seed: int = 0,
    show_progress: bool = False,
) -> Estimate:
    """Return ‖H‖² = Σ λ² (Frobenius) and its standard error: the mean of |H v|², with the arguments of ``trace``.

    >>> import torch
    >>> vd.landscape.squared_norm(torch.diag(torch.tensor([2.0, -5.0, 2.0])))
    Estimate(value=33.0, error=0.0)
    """
    return _mean(
        operator, lambda v, image: float(image @ image), relative_error, most_draws, seed, show_progress
    )


def _mean(
    operator: Operator | Tensor,
    quantity: Callable[[np.ndarray, np.ndarray], float],
    relative_error: float,
    most_draws: int,
    seed: int,
    show_progress: bool,
) -> Estimate:
    """Return the mean of a quantity of v and H v over random signs v, which is its sum over unit vectors."""
    operator = as_operator(operator)
    require_real("relative_error", relative_error, low=0.0, high=1.0)
    require_integer("most_draws", most_draws, at_least=_LEAST_DRAWS)
    require_boolean("show_progress", show_progress)
    products = Products(operator)
    if operator.dimension <= DENSE:
        matrix = products.matrix()
        return Estimate(sum(map(quantity, np.eye(operator.dimension), matrix)), 0.0)
    products.require_symmetric(seed)
    draws: list[float] = []
    with progress(show_progress, most_draws, "draw") as bar:
        while len(draws) < most_draws:
            vector = signs(seed, len(draws), operator.dimension)
            draws.append(quantity(vector, products.of(vector)))
            bar.update(1)
            found = Estimate.of(draws)
            if len(draws) >= _LEAST_DRAWS and found.error <= relative_error * abs(found.value):
                break
    return found
