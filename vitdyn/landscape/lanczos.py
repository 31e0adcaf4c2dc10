"""The Lanczos recursion with full reorthogonalisation, which stops where it breaks down."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitdyn.landscape.products import Products


class Quadrature(NamedTuple):
    """Nodes θ and weights w > 0, Σ w = 1, with Σ w f(θ) = vᵀ f(H) v for polynomials f up to degree 2 · nodes − 1."""

    nodes: Float[np.ndarray, " node"]
    weights: Float[np.ndarray, " node"]


def lanczos(products: Products, start: Float[np.ndarray, " parameter"], steps: int) -> Quadrature:
    """Return the Gauss quadrature of a symmetric H by the unit vector v along ``start`` (Golub & Welsch 1969).

    H is reduced to a tridiagonal matrix over v, H v, H² v, ...: its eigenvalues are the nodes, the squares of the first
    components of its eigenvectors the weights. Each new vector is made orthogonal to all before it, twice: without
    that copies of converged nodes come up. Where the new vector is round-off the space is invariant, and nodes beyond
    would be noise: the recursion ends. Memory: steps · dimension numbers.
    """
    from scipy.linalg import eigh_tridiagonal

    steps = min(steps, products.dimension)
    basis = np.empty((steps, products.dimension))
    diagonal, beside = np.empty(steps), np.empty(steps)
    basis[0] = start / np.linalg.norm(start)
    round_off = 100 * np.sqrt(products.dimension) * products.round_off
    for step in range(steps):
        image = products.of(basis[step])
        diagonal[step] = basis[step] @ image
        before = basis[: step + 1]
        for _ in range(2):
            image = image - before.T @ (before @ image)
        beside[step] = np.linalg.norm(image)
        largest = max(np.abs(diagonal[: step + 1]).max(), beside[: step + 1].max())
        if step + 1 == steps or beside[step] <= round_off * largest:
            break
        basis[step + 1] = image / beside[step]
    nodes, vectors = eigh_tridiagonal(diagonal[: step + 1], beside[:step])
    return Quadrature(nodes, vectors[0] ** 2)
