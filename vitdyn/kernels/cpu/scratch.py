"""Scratch memory of the compiled kernels, allocated once for a layout and a number of samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitdyn.data import PatchLayout
from vitdyn.kernels.cpu.masks import key_plan, padded
from vitdyn.kernels.cpu.simd import CHUNK, inner, lanes
from vitdyn.kernels.cpu.subset_sums import GROUPS, TABLE_ROWS
from vitdyn.kernels.cpu.weights import BATCHED_DIVISIONS


class Scratch(NamedTuple):
    """Rows of one block of queries each: what the kernels keep in L1 and L2 (symbols: ``kernels/README.md``)."""

    table: np.ndarray
    exp_logits: np.ndarray
    key_gradient: np.ndarray
    area_sums: np.ndarray
    masked_sums: np.ndarray
    phi: np.ndarray
    phi_gradient: np.ndarray
    exp_shifted: np.ndarray
    unnormalised: np.ndarray
    scales: np.ndarray
    cotangent: np.ndarray
    total: np.ndarray
    spare: np.ndarray


def allocate(like: Tensor, samples: int, layout: PatchLayout) -> tuple[np.ndarray | int, ...]:
    """Return the layout's plan, and scratch for rows, for bytes of masks and for both orders of index bytes."""
    patches, areas, clusters = layout.patches, layout.areas, layout.clusters
    dtype = like.numpy().dtype
    plan, chunks = key_plan(layout, dtype, samples), samples // CHUNK + 1 + clusters
    # an odd number of rows to a slot: rows of one area must not lie a multiple of 4096 bytes apart, or they evict
    # each other from L1
    slots = -(-samples // CHUNK) * CHUNK
    of_areas = areas * (2 * clusters + 2 * BATCHED_DIVISIONS + 1) + (areas | 1) * slots
    count = TABLE_ROWS + 2 * patches + slots + of_areas + 2 * BATCHED_DIVISIONS + 3
    # torch aligns arrays with cache lines, numpy need not: blocks that straddle two lines cost a third more
    rows = torch.empty(count, lanes(dtype), dtype=like.dtype)
    # a block reads the bytes of its neighbouring queries at once; sums over keys and over samples read index bytes
    visible_bytes = torch.empty(samples, padded(patches, dtype), dtype=torch.uint8)
    by_key = torch.zeros(chunks, patches, GROUPS, dtype=torch.uint8)
    by_sample = torch.zeros(2, plan.most_chunks, slots, GROUPS, dtype=torch.uint8)
    return *plan, *(part.numpy() for part in (rows, visible_bytes, by_key, by_sample))


@inner
def partition(rows, patches, slots, clusters, areas):  # pragma: no cover  (compiled)
    """Cut the rows of the scratch into its parts, in the order of their names."""
    # where the parts end, in rows; ``allocate`` counts the same rows
    few, per_area = BATCHED_DIVISIONS, clusters * areas
    a = TABLE_ROWS + patches
    b = a + patches
    c = b + slots * (areas | 1)
    d = c + slots
    e = d + per_area
    f = e + per_area
    g = f + few * areas
    h = g + few * areas
    i = h + 2 * few
    j = i + areas
    scratch = Scratch(
        rows[:TABLE_ROWS], rows[TABLE_ROWS:a], rows[a:b], rows[b:c], rows[c:d], rows[d:e], rows[e:f],
        rows[f:g], rows[g:h], rows[h:i], rows[i:j], rows[j : j + 2], rows[j + 2 : j + 3],
    )  # fmt: skip
    # what no kernel writes before it reads: each group's sum over no row, and the margin that ``loses_digits`` reads
    for v in range(rows.shape[1]):
        scratch.total[1, v] = 0
        for group in range(0, TABLE_ROWS, TABLE_ROWS // GROUPS):
            scratch.table[group, v] = 0
    return scratch
