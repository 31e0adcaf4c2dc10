"""The features that areas show, as unit vectors of feature space: orthonormal ones, or such with a given coherence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from vitdyn._errors import as_array, invalid_value, require_real

Gram = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Features:
    """F features v_f with the Gram matrix G_fg = ⟨v_f, v_g⟩: the rows of its symmetric square root.

    ``coherence`` is a number c, for G = (1 − c) I + c 11ᵀ, or the rows of G itself, positive definite; its diagonal
    holds squared lengths. Of all vectors with this Gram matrix the rows of √G lie nearest to the F coordinate
    axes: at coherence 0 they are these. Raises ``ValueError`` where G is no Gram matrix of F independent vectors.
    """

    count: int
    coherence: float | Gram = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.coherence, tuple):
            least = -1.0 / max(1, self.count - 1)
            require_real(
                "coherence", self.coherence, low=least, high=1.0, open_low=True, open_high=True
            )  # beyond these two features or their sum vanish, and G has no inverse
            return
        gram = self.gram
        shape = (self.count, self.count)
        if gram.shape != shape or not np.isfinite(gram).all() or not np.allclose(gram, gram.T, rtol=1e-12):
            remedy = (
                f"must be a number, or a symmetric matrix of shape {shape}: the Gram matrix of all features"
            )
            raise invalid_value("coherence", gram.shape, remedy)
        if (lowest := float(np.linalg.eigvalsh(gram)[0])) <= 1e-12 * np.trace(gram):
            words = f"must be positive definite; its least eigenvalue is {lowest:.3g}"
            raise invalid_value("coherence", "a matrix", words)

    @cached_property
    def gram(self) -> Float[np.ndarray, "feature feature"]:
        """G, the inner products of all pairs of features."""
        if isinstance(self.coherence, tuple):
            return as_array("coherence", self.coherence).astype(np.float64)
        return (1 - self.coherence) * np.eye(self.count) + self.coherence

    @cached_property
    def vectors(self) -> Float[np.ndarray, "feature coordinate"]:
        """√G, whose rows are the features in F orthonormal coordinates."""
        if self.coherence == 0:  # exactly the coordinate axes
            return np.eye(self.count)
        values, axes = np.linalg.eigh(self.gram)
        return (axes * np.sqrt(values)) @ axes.T


def as_coherence(value: Any) -> float | Gram:
    """Return a coherence as a specification holds it: a matrix of any kind as rows of numbers."""
    if np.ndim(value) == 0:
        return value
    rows = as_array("coherence", value)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise invalid_value("coherence", rows.shape, "must be a number, or a Gram matrix of numbers")
    return tuple(tuple(float(entry) for entry in row) for row in rows)
