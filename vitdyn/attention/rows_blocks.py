"""Blocks of queries to and from memory: what lies (query, key) there is rows (key, query) in the first cache."""

from __future__ import annotations

import numpy as np

from vitdyn.attention.rows_powers import LOG2_E
from vitdyn.attention.rows_transpose import TILES, transpose_pulls, transpose_tile
from vitdyn.attention.rows_vector import compiled, larger, magnitude, row, set_row, splat


@compiled
def read_block(matrix, first, rows):  # pragma: no cover  (compiled)
    """Copy the queries ``first`` and on of a (query, key) matrix to ``rows`` (key, query); 0 beyond the last."""
    queries, keys = matrix.shape
    width = rows.shape[1]
    side = width // TILES
    inside = min(width, queries - first)
    if inside < width:
        rows[:] = 0
    for v in range(0, width, side):
        whole = keys - keys % side if v + side <= inside else 0
        for q in range(0, whole, side):
            transpose_tile(
                matrix, np.uint64((first + v) * keys + q), np.uint64(keys),
                rows, np.uint64(q * width + v), np.uint64(width),
            )  # fmt: skip
        for u in range(v, min(v + side, inside)):
            for q in range(whole, keys):
                rows[q, u] = matrix[first + u, q]


@compiled
def write_block(pulls, everywhere, kernel, first, matrix):  # pragma: no cover  (compiled)
    """Write (pulls − everywhere) · kernel (key, query) to the queries ``first`` and on of a (query, key) matrix.

    Without a ``kernel`` (None, and ``everywhere`` None) the pulls as they are.
    """
    queries, keys = matrix.shape
    width = pulls.shape[1]
    side = width // TILES
    inside = min(width, queries - first)
    for v in range(0, width, side):
        whole = keys - keys % side if v + side <= inside else 0
        for q in range(0, whole, side):
            source, target = np.uint64(q * width + v), np.uint64((first + v) * keys + q)
            if kernel is None:
                transpose_tile(pulls, source, np.uint64(width), matrix, target, np.uint64(keys))
            else:
                transpose_pulls(
                    pulls,
                    source,
                    np.uint64(width),
                    matrix,
                    target,
                    np.uint64(keys),
                    everywhere,
                    np.uint64(v),
                    kernel,
                )
        for u in range(v, min(v + side, inside)):
            for q in range(whole, keys):
                if kernel is None:
                    matrix[first + u, q] = pulls[q, u]
                else:
                    matrix[first + u, q] = (pulls[q, u] - everywhere[0, u]) * kernel[q, u]


@compiled
def read_phi(phi, first, block_phi, spare):  # pragma: no cover  (compiled)
    """Copy a block of Φ / log 2 (query, cluster, area) to rows (cluster · area); return its largest magnitude."""
    queries, clusters, areas = phi.shape
    read_block(phi.reshape(queries, clusters * areas), first, block_phi)
    scale, zero = splat(phi.dtype.type(LOG2_E)), splat(phi.dtype.type(0))
    most = zero
    for at in range(block_phi.shape[0]):
        value = row(block_phi, at) * scale
        set_row(block_phi, at, value)
        most = larger(most, magnitude(value))
    set_row(spare, 0, most)
    return spare.max()


@compiled
def write_phi(block, first, d_phi):  # pragma: no cover  (compiled)
    """Write a block of rows (cluster · area) to ∂Φ (query, cluster, area)."""
    queries, clusters, areas = d_phi.shape
    write_block(block, None, None, first, d_phi.reshape(queries, clusters * areas))
