"""What a symmetric state means in the words of a trajectory: means and extremes over the blocks of each area."""

from __future__ import annotations

from math import inf, nan

import numpy as np
from jaxtyping import Float, Int

from vitdyn.reduced.symmetry import BlockTables, Symmetry

Frame = dict[str, Float[np.ndarray, "..."]]


def observe_blocks(
    symmetry: Symmetry,
    state: BlockTables,
    attention: Float[np.ndarray, "cluster block area"],
    own_attention: Float[np.ndarray, "cluster block"],
) -> Frame:
    """Return the observables of one seed, by name, with the axes of the standard record after the seed.

    Means are over positions (each block by its size), the extremes over blocks. Values that do not exist are NaN.
    """
    layout, sizes = symmetry.layout, symmetry.block_sizes
    # A block of n positions has n(n − 1) ordered pairs of distinct ones within itself.
    pairs = sizes[:, None] * (sizes - np.eye(len(sizes), dtype=np.int64))
    found: dict[str, list[np.ndarray]] = {}
    for cluster in range(layout.clusters):
        area, lacking = symmetry.block_areas[:, cluster], layout.sizes[cluster] == 0
        rows = {
            "feature_position": np.where(lacking, nan, state.feature[:, cluster]),
            "position_position_self": state.self,
            "area_attention": np.where(lacking, nan, attention[cluster]),
            "own_area_attention": own_attention[cluster],
        }
        for name, values in rows.items():
            weights = np.broadcast_to(sizes.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
            parts = _by_area(_parts(values, weights), area, layout.areas)
            found.setdefault(name, []).append(_statistics(parts))
        # First over the blocks of the query's area, then, transposed, over those of the key's.
        by_query = _by_area(_parts(state.pair, pairs), area, layout.areas)
        by_pair = _by_area([part.T for part in by_query], area, layout.areas)
        found.setdefault("position_position", []).append(_statistics([part.T for part in by_pair]))
    return {name: np.stack(values) for name, values in found.items()}


def _parts(values: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Return sum, number, minimum and maximum of each entry by itself, what does not count left out."""
    counts = (weights > 0) & ~np.isnan(values)
    return [
        np.where(counts, values * weights, 0.0),
        np.where(counts, weights, 0.0),
        np.where(counts, values, inf),
        np.where(counts, values, -inf),
    ]


def _by_area(parts: list[np.ndarray], area: Int[np.ndarray, " block"], count: int) -> list[np.ndarray]:
    """Join the blocks of each area."""
    # Sums and counts add up, extremes combine by themselves: each part has its own way.
    ways = ((np.add, 0.0), (np.add, 0.0), (np.minimum, inf), (np.maximum, -inf))
    joined = []
    for part, (way, start) in zip(parts, ways, strict=True):
        total = np.full((count, *part.shape[1:]), start)
        way.at(total, area, part)
        joined.append(total)
    return joined


def _statistics(parts: list[np.ndarray]) -> Float[np.ndarray, "... statistic"]:
    total, number, low, high = parts
    with np.errstate(invalid="ignore"):
        stacked = np.stack([total / number, low, high], -1)
    return np.where(number[..., None] > 0, stacked, nan)
