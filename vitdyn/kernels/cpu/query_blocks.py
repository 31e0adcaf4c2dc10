"""Blocks of queries to and from memory: what lies (query, key) there is rows (key, query) in L1.

A row then holds all queries of a block for one key, so that a sum over keys is a sum of rows, one instruction for 8 or
16 queries. The transposition happens in registers (``transpose``).
"""

from __future__ import annotations

import numpy as np

from vitdyn.kernels.cpu.powers import LOG2_E
from vitdyn.kernels.cpu.simd import absolute, inner, load_row, maximum, splat, store_row
from vitdyn.kernels.cpu.transpose import TILES, transpose_gradient, transpose_tile


@inner
def read_block(matrix, first, rows):  # pragma: no cover  (compiled)
    """Copy the queries ``first`` and on of a (query, key) matrix to ``rows`` (key, query); 0 beyond the last."""
    queries, keys = matrix.shape
    width = rows.shape[1]
    side = width // TILES
    inside = min(width, queries - first)
    # queries beyond the last are computed like any other: 0 keeps them finite, and nobody reads what they give
    if inside < width:
        rows[:] = 0
    for v in range(0, width, side):
        in_tiles = keys - keys % side if v + side <= inside else 0
        for q in range(0, in_tiles, side):
            transpose_tile(
                matrix, np.uint64((first + v) * keys + q), np.uint64(keys),
                rows, np.uint64(q * width + v), np.uint64(width),
            )  # fmt: skip
        for u in range(v, min(v + side, inside)):
            for q in range(in_tiles, keys):
                rows[q, u] = matrix[first + u, q]


@inner
def write_gradient(gradient, masked_gradient_sum, exp_logits, first, matrix):  # pragma: no cover  (compiled)
    """Write E (gradient − Σ_b R_0 Ḡ), of rows (key, query), to the queries from ``first`` on of ∂L/∂Υ (query, key)."""
    queries, keys = matrix.shape
    width = gradient.shape[1]
    side = width // TILES
    inside = min(width, queries - first)
    for v in range(0, width, side):
        in_tiles = keys - keys % side if v + side <= inside else 0
        for q in range(0, in_tiles, side):
            transpose_gradient(
                gradient, np.uint64(q * width + v), np.uint64(width),
                matrix, np.uint64((first + v) * keys + q), np.uint64(keys),
                masked_gradient_sum, np.uint64(v), exp_logits,
            )  # fmt: skip
        for u in range(v, min(v + side, inside)):
            for q in range(in_tiles, keys):
                matrix[first + u, q] = (gradient[q, u] - masked_gradient_sum[0, u]) * exp_logits[q, u]


@inner
def read_phi(phi, first, block_phi, spare):  # pragma: no cover  (compiled)
    """Copy a block of Φ / log 2 (query, cluster, area) to rows (cluster · area); return its largest magnitude."""
    queries, clusters, areas = phi.shape
    # Φ read as a matrix (query, cluster · area) is transposed by the code that Υ has
    read_block(phi.reshape(queries, clusters * areas), first, block_phi)
    scale, zero = splat(phi.dtype.type(LOG2_E)), splat(phi.dtype.type(0))
    most = zero
    for at in range(block_phi.shape[0]):
        value = load_row(block_phi, at) * scale
        store_row(block_phi, at, value)
        most = maximum(most, absolute(value))
    store_row(spare, 0, most)
    largest = phi.dtype.type(0)
    for v in range(spare.shape[1]):
        largest = max(largest, spare[0, v])
    return largest


@inner
def write_phi(block, first, phi_gradient):  # pragma: no cover  (compiled)
    """Write a block of rows (cluster · area) to ∂L/∂Φ (query, cluster, area)."""
    queries, clusters, areas = phi_gradient.shape
    for u in range(min(block.shape[1], queries - first)):
        for k in range(clusters):
            for j in range(areas):
                phi_gradient[first + u, k, j] = block[k * areas + j, u]
