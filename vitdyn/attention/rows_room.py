"""Room for the compiled kernels, made once for a layout and a number of samples: how many rows, and who has which."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vitdyn.attention.rows_masks import key_plan, padded
from vitdyn.attention.rows_pool import FOLDED
from vitdyn.attention.rows_shares import AHEAD
from vitdyn.attention.rows_tables import GROUPS, TABLE_ROWS
from vitdyn.attention.rows_vector import CHUNK, compiled, lanes, take_rows
from vitdyn.attention.workspace import Workspace
from vitdyn.data import PatchLayout


def make_room(like: Tensor, samples: int, layout: PatchLayout) -> tuple[np.ndarray | int, ...]:
    """Return the layout's plan, and room for rows, for bytes of masks and for both orders of codes."""
    patches, areas, clusters = layout.patches, layout.areas, layout.clusters
    dtype = like.numpy().dtype
    plan, chunks = key_plan(layout, dtype, samples), samples // CHUNK + 1 + clusters
    # an odd number of rows to a slot: those of an area should not lie a multiple of 4096 bytes apart
    slots = -(-samples // CHUNK) * CHUNK
    of_areas = areas * (2 * clusters + 2 * AHEAD + 1) + (areas | 1) * slots
    count = TABLE_ROWS + 2 * patches + slots + of_areas + 2 * AHEAD + 3
    # torch puts arrays on the lines of the cache, numpy need not: blocks that straddle two lines cost a third more
    rows = torch.empty(count, lanes(dtype), dtype=like.dtype)
    marks = torch.empty(samples, padded(patches, dtype), dtype=torch.uint8)
    by_key = torch.zeros(chunks, patches, GROUPS, dtype=torch.uint8)
    by_sample = torch.zeros(2, plan.most_chunks, slots, GROUPS, dtype=torch.uint8)
    return *plan, *(part.numpy() for part in (rows, marks, by_key, by_sample))


@compiled
def cut_room(rows, patches, slots, clusters, areas):  # pragma: no cover  (compiled)
    """Cut the scratch into a table, E, what keys gather, W, W_0, Φ, ∂Φ, and what a few samples need."""
    table, used = take_rows(rows, 0, TABLE_ROWS)
    kernel, used = take_rows(rows, used, patches)
    gathered, used = take_rows(rows, used, patches)
    masses, used = take_rows(rows, used, slots * (areas | 1))
    masked, used = take_rows(rows, used, slots)
    phi, used = take_rows(rows, used, clusters * areas)
    d_phi, used = take_rows(rows, used, clusters * areas)
    ratios, used = take_rows(rows, used, AHEAD * areas)
    weighted, used = take_rows(rows, used, AHEAD * areas)
    scales, used = take_rows(rows, used, AHEAD * 2)
    pulls, used = take_rows(rows, used, areas)
    total, used = take_rows(rows, used, 2)
    spare, used = take_rows(rows, used, 1)
    table[:], total[1] = 0, 0
    return table, kernel, gathered, masses, masked, phi, d_phi, ratios, weighted, scales, pulls, total, spare


def room_to_pool(work: Workspace, like: Tensor, latents: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return room for folded sums over queries, of all blocks and of one."""
    _, samples, areas = latents.shape
    sums, block_sums = work.take(
        "sums", like, 2, samples * areas, lanes(like.numpy().dtype) // FOLDED
    ).numpy()
    return sums, block_sums
