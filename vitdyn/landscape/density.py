"""The density of all eigenvalues of a symmetric operator, by stochastic Lanczos quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_boolean, require_integer, require_real
from vitdyn._progress import progress
from vitdyn.landscape.lanczos import Quadrature, lanczos
from vitdyn.landscape.operators import Operator
from vitdyn.landscape.products import DENSE, Products, as_operator, signs
from vitdyn.landscape.traces import Estimate

_MARGIN = 6.0
"""Widths beyond the outermost nodes: all but 1e-9 of a Gaussian."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectralDensity:
    """The density of eigenvalues ρ(λ) = Σ w δ(λ − θ), Σ w = 1, of nodes θ in rising order; each from one ``draw``.

    ``is_exact`` where the nodes are the eigenvalues themselves.
    """

    nodes: Float[np.ndarray, " node"] = field(repr=False)
    weights: Float[np.ndarray, " node"] = field(repr=False)
    draw: Int[np.ndarray, " node"] = field(repr=False)
    is_exact: bool

    @property
    def bounds(self) -> tuple[float, float]:
        """The outermost nodes. They lie within the spectrum, and its ends a little beyond them unless exact."""
        return float(self.nodes[0]), float(self.nodes[-1])

    def mean(self, function: Callable[[np.ndarray], Any]) -> Estimate:
        """Return ∫ f(λ) ρ(λ) dλ = tr f(H) / dimension, and its standard error over draws.

        >>> import torch
        >>> density = vd.landscape.spectral_density(torch.diag(torch.tensor([2.0, -5.0, 2.0, 1.0])))
        >>> density.mean(lambda eigenvalue: eigenvalue < 0)
        Estimate(value=0.25, error=0.0)
        """
        values = self.weights * function(self.nodes)
        draws = np.bincount(self.draw, values) * (self.draw.max() + 1)
        return Estimate(float(draws[0]), 0.0) if self.is_exact else Estimate.of(draws)

    def smoothed(
        self, *, width: float | str = "range", points: int = 1000
    ) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
        """Return λ and ρ(λ) with each node a Gaussian; ρ integrates to 1 (its sum times the distance of points).

        ``width`` is the standard deviation: "range" 1 % of the distance of the outermost nodes, which a rescaling of
        the loss leaves alone; "pyhessian" that of PyHessian, σ² = 1e-5 max(1, range), with its 10,000 points and
        its margin of 0.01, whose curve depends on the units of the loss; or a number.
        """
        require_integer("points", points, at_least=2)
        low, high = self.bounds
        largest = max(abs(low), abs(high))
        # the range of copies of one eigenvalue is round-off: 1 % of the eigenvalue itself then
        distance = high - low if high - low > 1e-12 * largest else largest or 1.0
        if width == "pyhessian":
            sigma, margin, points = np.sqrt(1e-5 * max(1.0, high - low)), 0.01, 10_000
        else:
            require_real("width", 1.0 if width == "range" else width, low=0.0, high=np.inf, open_low=True)
            sigma = 0.01 * distance if width == "range" else float(width)
            margin = _MARGIN * sigma
        at = np.linspace(low - margin, high + margin, points)
        if width != "pyhessian" and at[1] - at[0] > sigma:
            raise invalid_value("points", points, f"are further apart than the width, {sigma:.3g}: take more")
        found = np.zeros(points)
        for node, weight in zip(self.nodes, self.weights, strict=True):
            found += weight * np.exp(-0.5 * ((at - node) / sigma) ** 2)
        return at, found / (found.sum() * (at[1] - at[0]))


def spectral_density(
    operator: Operator | Tensor,
    *,
    draws: int = 5,
    steps: int = 80,
    seed: int = 0,
    show_progress: bool = False,
) -> SpectralDensity:
    """Return the density of eigenvalues by stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017).

    Up to dimension 512 the eigenvalues themselves. Above, the Gauss quadratures of ``draws`` vectors of random signs,
    ``steps`` nodes each, with full reorthogonalisation; fewer where the recursion breaks down, as with few distinct
    eigenvalues, which are then exact. Moments up to 2 · steps − 1 are those of the draws. Takes draws · steps
    products, and steps · dimension numbers of memory. Errors are those of ``top_eigenvalues``.

    >>> import torch
    >>> density = vd.landscape.spectral_density(torch.diag(torch.tensor([2.0, -5.0, 2.0, 1.0])))
    >>> density.bounds, density.mean(lambda eigenvalue: eigenvalue**2).value
    ((-5.0, 2.0), 8.5)
    """
    operator = as_operator(operator)
    require_integer("draws", draws, at_least=1)
    require_integer("steps", steps, at_least=1)
    require_boolean("show_progress", show_progress)
    size = operator.dimension
    if size <= DENSE:
        values = np.linalg.eigvalsh(Products(operator).matrix())
        return _density([Quadrature(values, np.full(size, 1 / size))], is_exact=True)
    with progress(show_progress, draws * steps + 2, "product") as bar:
        products = Products(operator, bar)
        products.require_symmetric(seed)
        found = [lanczos(products, signs(seed, draw, size), steps) for draw in range(draws)]
    return _density(found, is_exact=False)


def _density(found: list[Quadrature], *, is_exact: bool) -> SpectralDensity:
    nodes = np.concatenate([each.nodes for each in found])
    weights = np.concatenate([each.weights for each in found]) / len(found)
    draw = np.repeat(np.arange(len(found)), [len(each.nodes) for each in found])
    order = np.argsort(nodes, kind="stable")
    return SpectralDensity(nodes=nodes[order], weights=weights[order], draw=draw[order], is_exact=is_exact)
