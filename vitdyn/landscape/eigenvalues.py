"""The outermost eigenvalues of a symmetric operator, degenerate ones all of them, by block LOBPCG."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_boolean, require_choice, require_integer, require_real
from vitdyn._progress import Progress, progress
from vitdyn.landscape.lanczos import lanczos
from vitdyn.landscape.operators import Operator
from vitdyn.landscape.products import DENSE, Columns, Products, as_operator, as_vector
from vitdyn.seeds import stream

ENDS = ("value", "magnitude", "lowest")
_ROUND = 20
"""Iterations of LOBPCG from one look at convergence to the next: by itself it waits for the spare vectors too."""
_SCALE_STEPS = 12


class ConvergenceError(ValueError):
    """Eigenpairs were not found to the tolerance in the rounds that were given."""


class Eigenpairs(NamedTuple):
    """Eigenvalues λ, unit eigenvectors v and residuals |H v − λ v|: within its residual of each λ lies an eigenvalue.

    Values and residuals are float64; each row of ``vectors`` is a vector of the operator's precision.
    """

    values: Float[np.ndarray, " pair"]
    vectors: Float[Tensor, "pair parameter"]
    residuals: Float[np.ndarray, " pair"]


def top_eigenvalues(
    operator: Operator | Tensor,
    count: int,
    *,
    by: str = "value",
    tolerance: float = 1e-4,
    rounds: int = 20,
    seed: int = 0,
    show_progress: bool = False,
) -> Eigenpairs:
    """Return the ``count`` largest eigenvalues with their vectors, largest first; repeated ones as often as they are.

    ``by`` "value": from the largest down. "lowest": from the lowest up. "magnitude": the largest |λ|, of either sign.

    Up to dimension 512 the whole matrix is made and decomposed. Above, block LOBPCG (Knyazev 2001; scipy's) from a
    random block of half as many vectors again as ``count``, its algebra in float64: from one vector alone, as by
    Lanczos, a repeated eigenvalue is found once. An eigenpair is accepted when its residual is at most ``tolerance``
    times the largest |λ|, and the first is as far out as a short Lanczos run comes. The error of its value is about the
    residual's square over the distance to the next. Raises ``ConvergenceError``, a ``ValueError``, where ``rounds``
    of 20 iterations do not suffice; ``ValueError`` for an operator that is not symmetric and for a product that is not
    finite.

    >>> import torch
    >>> saddle = torch.diag(torch.tensor([2.0, -5.0, 2.0, 1.0]))
    >>> vd.landscape.top_eigenvalues(saddle, 2).values, vd.landscape.top_eigenvalues(saddle, 1, by="magnitude").values
    (array([2., 2.]), array([-5.]))
    """
    operator = as_operator(operator)
    require_integer("count", count, at_least=1, at_most=operator.dimension)
    require_choice("by", by, ENDS)
    require_real("tolerance", tolerance, low=0.0, high=1.0, open_low=True)
    require_integer("rounds", rounds, at_least=1)
    require_boolean("show_progress", show_progress)
    block = count + max(4, count // 2)
    products = Products(operator)
    if operator.dimension <= max(DENSE, 5 * block):
        return _dense(products, count, by)
    products.require_symmetric(seed)
    # ends from within: the largest |λ|, which residuals are measured by, is 0 for H = 0 only
    start = stream(seed, "curvature").standard_normal(products.dimension)
    nodes = lanczos(products, start, _SCALE_STEPS).nodes
    ends = sorted(("value", "lowest"), key=lambda end: -abs(nodes[-1 if end == "value" else 0]))
    with progress(show_progress, count, "eigenvalue") as bar:
        search = _Search(products, count, block, tolerance, rounds, (nodes[0], nodes[-1]), bar)
        found = search.of_both(ends, seed) if by == "magnitude" else [search.find(by, seed)]
    return _joined(operator, found, count, by)


class _Block(NamedTuple):
    """Orthonormal Ritz vectors X in columns, their values θ, and H X."""

    vectors: Columns
    values: np.ndarray
    images: Columns

    @property
    def residuals(self) -> np.ndarray:
        """|H x − θ x| of each."""
        return np.linalg.norm(self.images - self.vectors * self.values, axis=0)


def _dense(products: Products, count: int, by: str) -> Eigenpairs:
    matrix = products.matrix()
    values, vectors = np.linalg.eigh(matrix)
    return _joined(products.operator, [_Block(vectors, values, matrix @ vectors)], count, by)


def _joined(operator: Operator, blocks: list[_Block], count: int, by: str) -> Eigenpairs:
    """Return the pairs of blocks that come first in the order that is asked for."""
    values = np.concatenate([each.values for each in blocks])
    keys = {"value": -values, "lowest": values, "magnitude": -np.abs(values)}
    first = np.argsort(keys[by], kind="stable")[:count]
    vectors = np.concatenate([each.vectors for each in blocks], 1)[:, first]
    residuals = np.concatenate([each.residuals for each in blocks])[first]
    rows = torch.stack([as_vector(operator, vector) for vector in vectors.T])
    return Eigenpairs(values[first], rows, residuals)


@dataclass(frozen=True)
class _Search:
    """How eigenpairs are looked for: how many, in a block of which size, and when a residual is small."""

    products: Products
    count: int
    block: int
    tolerance: float
    rounds: int
    reach: tuple[float, float]
    bar: Progress

    @property
    def scale(self) -> float:
        """The largest |λ| of either sign, from below."""
        return max(map(abs, self.reach))

    @property
    def round_off(self) -> float:
        """What is no length of a product."""
        return self.products.round_off * 100 * self.scale

    def of_both(self, ends: Sequence[str], seed: int) -> list[_Block]:
        """Return ``count`` pairs of one end, and those of the other that are larger in |λ| than the least of them."""
        first = self.find(ends[0], seed)
        least = float(np.abs(first.values).min())
        other = self.find(ends[1], seed, least)
        # what is in the middle is found from both ends, with other vectors: it counts once
        beyond = np.abs(other.values) > least + 1e-10 * self.scale
        return [first, _Block(*(part[..., beyond] for part in other))]

    def find(self, end: str, seed: int, least: float = 0.0) -> _Block:
        """Return the ``count`` outermost pairs at one end, or those up to the first with |λ| < ``least``."""
        from scipy.linalg import LinAlgWarning
        from scipy.sparse.linalg import lobpcg

        largest = end == "value"
        draws = stream(seed, "curvature", 1 + largest)
        found = self._ritz(draws.standard_normal((self.products.dimension, self.block)), largest)
        converged, tolerance = 0, self.tolerance
        for _ in range(self.rounds):
            found = self._expanded(found, largest)
            with warnings.catch_warnings():
                # it warns where it stops short, and of a block that breaks down: residuals are looked at below
                warnings.simplefilter("ignore", UserWarning)
                warnings.simplefilter("ignore", LinAlgWarning)
                _, vectors = lobpcg(
                    lambda columns: self.products(columns) / (self.scale or 1.0),
                    found.vectors,
                    tol=tolerance / 2,
                    maxiter=_ROUND,
                    largest=largest,
                )
            found = self._ritz(vectors, largest)
            # at an end that lies within, by its residual and by Lanczos, nothing is asked for
            if max(abs(self.reach[largest]), abs(found.values[0]) + found.residuals[0]) < least:
                return _Block(*(part[..., :0] for part in found))
            # behind the first that is too small all are smaller still
            count = min(self.count, 1 + int((np.abs(found.values) >= least).sum()))
            # where the largest |λ| is of the other end, vectors of the middle have small residuals too
            missing = self.reach[1] - found.values[0] if largest else found.values[0] - self.reach[0]
            is_short = missing > found.residuals[0] + self.round_off
            if is_short:
                tolerance /= 10
            is_converged = found.residuals[:count] <= tolerance * self.scale
            self.bar.update(max(0, int(is_converged.sum()) - converged))
            converged = max(converged, int(is_converged.sum()))
            if is_converged.all() and not is_short:
                return _Block(*(part[..., :count] for part in found))
        worst = found.residuals[:count].max() / self.scale
        reached = f"{converged} of {count} eigenvalues converged, residual {worst:.1g} of the largest"
        remedy = f"{reached}: take more, or a larger tolerance"
        raise ConvergenceError(*invalid_value("rounds", self.rounds, remedy).args)

    def _ritz(self, columns: Columns, largest: bool, images: Columns | None = None) -> _Block:
        """Return the Ritz pairs of a span: of orthonormal columns with ``images`` their products, or of any."""
        if images is None:
            columns, _ = np.linalg.qr(columns)
            images = self.products(columns)
        inner = columns.T @ images
        values, turn = np.linalg.eigh((inner + inner.T) / 2)
        chosen = np.argsort(-values if largest else values)[: self.block]
        return _Block(columns @ turn[:, chosen], values[chosen], images @ turn[:, chosen])

    def _expanded(self, found: _Block, largest: bool) -> _Block:
        """Return Ritz pairs over the block and its products with H.

        LOBPCG gives up where residuals are linearly dependent, as they are for a Hessian of small rank. Here they are
        made orthonormal by singular values, and what is dependent is left out.
        """
        residuals = found.images - found.vectors * found.values
        for _ in range(2):  # twice: once leaves round-off of the longest
            residuals = residuals - found.vectors @ (found.vectors.T @ residuals)
        directions, lengths, _ = np.linalg.svd(residuals, full_matrices=False)
        new = directions[:, lengths > self.round_off]
        if not new.shape[1]:
            return found
        columns = np.concatenate([found.vectors, new], 1)
        return self._ritz(columns, largest, np.concatenate([found.images, self.products(new)], 1))
