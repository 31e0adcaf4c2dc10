"""The features that areas show: which of them, and how they lie to each other in feature space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from vitdyn._errors import (
    as_array,
    as_numbers,
    invalid_value,
    require_integer,
    require_kind,
    require_real,
    require_sequence,
)
from vitdyn.data.layout import PatchLayout

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
    rows = as_array("coherence", value)
    if rows.ndim == 0:
        return value
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise invalid_value("coherence", rows.shape, "must be a number, or a Gram matrix of numbers")
    return tuple(tuple(float(entry) for entry in row) for row in rows)


def shared_features(layout: PatchLayout, areas: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return a table of features in which all clusters have the same feature in each of these areas.

    All other features are the cluster's own; numbers follow the order (k, j).

    >>> layout = vd.PatchLayout.from_sizes([4, 2, 2], clusters=2)
    >>> vd.data.shared_features(layout, areas=[0])
    ((0, 1, 2), (0, 3, 4))
    """
    require_kind("layout", layout, PatchLayout)
    require_sequence("areas", areas, "areas, by their index")
    for area in areas:
        require_integer("areas", area, at_least=0, at_most=layout.areas - 1)
    numbers: dict[tuple[int, int], int] = {}
    return tuple(
        tuple(
            numbers.setdefault((-1 if area in areas else cluster, area), len(numbers))
            for area in range(layout.areas)
        )
        for cluster in range(layout.clusters)
    )


def checked_table(table: Any, layout: PatchLayout) -> tuple[tuple[int, ...], ...] | None:
    """Return a table of features as whole numbers of Python."""
    if table is None:
        return None
    rows, shape = as_array("feature_table", table), layout.sizes.shape
    if rows.shape != shape or rows.dtype.kind not in "iu":
        words = f"must be whole numbers of shape {shape}: the feature of each area of each cluster"
        raise invalid_value("feature_table", table, words)
    if sorted(set(rows.ravel().tolist())) != list(range(int(rows.max()) + 1)):
        words = f"features must be numbered 0 to {rows.max()}, none left out"
        raise invalid_value("feature_table", table, words)
    return tuple(map(tuple, rows.tolist()))


def checked_probabilities(probabilities: Any, layout: PatchLayout) -> tuple[float, ...] | None:
    """Return the probabilities of clusters as numbers of Python."""
    if probabilities is None:
        return None
    found = as_numbers("cluster_probabilities", probabilities)
    if len(found) != layout.clusters or not (found > 0).all() or abs(found.sum() - 1) > 1e-9:
        words = f"must be {layout.clusters} positive numbers, one for each cluster, whose sum is 1"
        raise invalid_value("cluster_probabilities", probabilities, words)
    return tuple(found.tolist())
