"""The engine of the CPU: compiled kernels that add visible rows only, one block of queries of one seed at a time.

All of attention and its gradient is separable over queries. For each block of queries the kernels bring E to
the first cache, sum its rows by visible key (``rows_sums``), go from masses to shares and back
(``rows_shares``), and sum by sample; the fused gradient of masked reconstruction thus stores nothing of
size (sample, area, query). A result depends on its own seed only, to the bit. Each kernel releases the
interpreter's lock, so that groups of seeds run side by side on threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.attention.correlations import Correlations
from vitdyn.attention.rows_masks import CHUNK, fill_codes, fill_slots, flip_codes, key_plan, padded
from vitdyn.attention.rows_shares import (
    MODERATE_EXPONENT,
    attend,
    pull,
    reconstruct,
    subtract_masses,
    to_kernel,
)
from vitdyn.attention.rows_sums import (
    GROUPS,
    TABLE_ROWS,
    add_masses,
    add_pulled,
    read_block,
    write_block,
)
from vitdyn.attention.rows_vector import compiled, lanes, set_row
from vitdyn.attention.workspace import Workspace
from vitdyn.data import PatchLayout


@dataclass(frozen=True)
class Saved:
    """What the forward leaves for pull-backs: its arguments. To make E, W and R again costs less than to store them."""

    workspace: Workspace
    layout: PatchLayout
    phi: Float[Tensor, "seed query cluster area"]
    upsilon: Float[Tensor, "seed query key"]
    latents: Float[Tensor, "seed sample area"]
    cluster: Int[Tensor, "seed sample"]
    visible: Tensor


def supports(layout: PatchLayout, dtype: torch.dtype) -> bool:
    """Say whether the kernels take this layout and type."""
    return dtype in (torch.float32, torch.float64)


def forward(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
    workspace: Workspace,
) -> tuple[Float[Tensor, "seed sample area query"], Saved]:
    """Return area attention and what ``pullback`` needs."""
    phi, upsilon = correlations.feature_position, correlations.position_position
    attention = workspace.take("attention", upsilon, *latents.shape, layout.patches)
    _forward(
        *(_array(part) for part in (phi, upsilon, latents, cluster, visible)),
        *_plan_and_scratch(workspace, upsilon, latents, layout),
        _array(attention),
    )
    return attention, Saved(workspace, layout, phi, upsilon, latents, cluster, visible)


def pullback(
    saved: Saved,
    adjoint: Float[Tensor, "seed sample area #query"],
    weight: Float[Tensor, "seed sample query"] | None = None,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``weight`` · ``adjoint``."""
    work, upsilon = saved.workspace, saved.upsilon
    d_phi = work.take("phi gradient", saved.phi, *saved.phi.shape)
    d_upsilon = work.take("upsilon gradient", upsilon, *upsilon.shape)
    patches = saved.layout.patches
    weights = upsilon.new_empty(len(upsilon), 0, patches) if weight is None else weight.to(upsilon)
    given = saved.phi, upsilon, saved.latents, saved.cluster, saved.visible, adjoint, weights
    _pullback(
        *(_array(part) for part in given),
        *_plan_and_scratch(work, upsilon, saved.latents, saved.layout),
        *(_array(part) for part in (d_phi, d_upsilon)),
    )
    return Correlations(d_phi, d_upsilon)


def residual_gradient(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
    strength: Float[Tensor, "seed sample area"],
    workspace: Workspace,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A_{p→j} = strength_j (A_{p→j} − 1{j = a(p)}) at masked queries p, else 0."""
    phi, upsilon = correlations.feature_position, correlations.position_position
    d_phi = workspace.take("phi gradient", phi, *phi.shape)
    d_upsilon = workspace.take("upsilon gradient", upsilon, *upsilon.shape)
    _residual_gradient(
        *(_array(part) for part in (phi, upsilon, latents, cluster, visible, strength)),
        *_plan_and_scratch(workspace, upsilon, latents, layout),
        *(_array(part) for part in (d_phi, d_upsilon)),
    )
    return Correlations(d_phi, d_upsilon)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.numpy() if tensor.is_contiguous() else tensor.contiguous().numpy()


def _plan_and_scratch(
    work: Workspace, like: Tensor, latents: Tensor, layout: PatchLayout
) -> tuple[np.ndarray, ...]:
    """Return the layout's plan, and room for rows, for bytes of masks and for both kinds of codes."""
    samples = latents.shape[1]
    return work.recall(
        f"{samples} samples in {like.dtype}", layout, lambda: _make_room(like, samples, layout)
    )


def _make_room(like: Tensor, samples: int, layout: PatchLayout) -> tuple[np.ndarray, ...]:
    patches, areas, clusters = layout.patches, layout.areas, layout.clusters
    dtype = like.numpy().dtype
    plan = key_plan(layout, dtype)
    count = TABLE_ROWS + 2 * patches + samples * (areas + 1) + 2 * clusters * areas + 3 * areas + 2
    # torch puts arrays on the lines of the cache, numpy need not: blocks that straddle two lines cost a third more
    rows = torch.empty(count, lanes(dtype), dtype=like.dtype)
    marks = torch.empty(samples, padded(patches, dtype), dtype=torch.uint8)
    by_key = torch.empty(samples // CHUNK + 1 + clusters, patches, GROUPS, dtype=torch.uint8)
    by_sample = torch.empty(2, plan.most_chunks, samples, GROUPS, dtype=torch.uint8)
    return *plan, *(part.numpy() for part in (rows, marks, by_key, by_sample))


@compiled
def _take(rows, used, count):  # pragma: no cover  (compiled)
    """Cut the next ``count`` rows off the scratch."""
    return rows[used : used + count], used + count


@compiled
def _read_phi(phi, first, block_phi):  # pragma: no cover  (compiled)
    """Copy a block of Φ (query, cluster, area) to rows (cluster · area); return its largest magnitude."""
    queries, clusters, areas = phi.shape
    most = phi.dtype.type(0)
    for v in range(block_phi.shape[1]):
        for k in range(clusters):
            for j in range(areas):
                value = phi[first + v, k, j] if first + v < queries else phi.dtype.type(0)
                block_phi[k * areas + j, v] = value
                most = max(most, abs(value))
    return most


@compiled
def _write_phi(block, first, d_phi):  # pragma: no cover  (compiled)
    queries, clusters, areas = d_phi.shape
    for v in range(min(block.shape[1], queries - first)):
        for k in range(clusters):
            for j in range(areas):
                d_phi[first + v, k, j] = block[k * areas + j, v]


@compiled
def _sum_masses(
    kernel, total, order, key_chunks, chunk_ends, by_sample, slots, cluster, spans, table, masses, masked
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write W and W_0 of all samples; where the difference T − Σ_j W_j would lose digits, W_0 is a sum of its own."""
    clusters, areas = spans.shape[:2]
    shown, hidden = by_sample[0], by_sample[1]
    begin = 0
    for k in range(clusters):
        end = _end_of(k, begin, slots, cluster)
        for area in range(areas):
            if spans[k, area, 0] == spans[k, area, 1]:
                masses[area * slots.shape[0] + begin : area * slots.shape[0] + end] = 0
        add_masses(
            kernel, order[k], key_chunks[chunk_ends[k] : chunk_ends[k + 1]], shown, begin, end, table, masses
        )
        begin = end
    if not subtract_masses(total, masses, areas, masked):
        return
    begin = 0
    for k in range(clusters):
        end = _end_of(k, begin, slots, cluster)
        chunks = key_chunks[chunk_ends[k] : chunk_ends[k + 1]].copy()
        flip_codes(shown, chunks, begin, end, hidden)
        chunks[:, 0] = 0
        add_masses(kernel, order[k], chunks, hidden, begin, end, table, masked)
        begin = end


@compiled
def _end_of(k, begin, slots, cluster):  # pragma: no cover  (compiled)
    """Return the end of the slots of cluster k, which start at ``begin``."""
    end = begin
    while end < slots.shape[0] and cluster[slots[end]] == k:
        end += 1
    return end


@compiled
def _room(rows, patches, samples, clusters, areas):  # pragma: no cover  (compiled)
    """Cut the scratch into a table, E, what keys gather, W, W_0, Φ, ∂Φ, three rows for each area and two more."""
    table, used = _take(rows, 0, TABLE_ROWS)
    kernel, used = _take(rows, used, patches)
    gathered, used = _take(rows, used, patches)
    masses, used = _take(rows, used, samples * areas)
    masked, used = _take(rows, used, samples)
    phi, used = _take(rows, used, clusters * areas)
    d_phi, used = _take(rows, used, clusters * areas)
    ratios, used = _take(rows, used, areas)
    weighted, used = _take(rows, used, areas)
    pulls, used = _take(rows, used, areas)
    table[:] = 0
    return table, kernel, gathered, masses, masked, phi, d_phi, ratios, weighted, pulls, rows[used : used + 2]


@compiled
def _write_upsilon(
    pulled,
    samples,
    everywhere,
    kernel,
    order,
    spans,
    sample_chunks,
    chunks,
    by_key,
    table,
    gathered,
    first,
    d_upsilon,
):  # pragma: no cover  (compiled)
    """Write ∂L/∂Υ of a block of queries: E times the pulls that each key gathers."""
    for chunk in range(chunks):
        k, begin, count = sample_chunks[chunk, 0], sample_chunks[chunk, 1], sample_chunks[chunk, 2]
        add_pulled(
            pulled, samples, order[k], spans[k], by_key[chunk], begin, count, chunk == 0, table, gathered
        )
    write_block(gathered, everywhere, kernel, first, d_upsilon)


@compiled
def _forward(
    phi, upsilon, latents, cluster, visible,
    order, spans, key_chunks, chunk_ends, member, rows, shown, by_key, by_sample,
    attention,
):  # pragma: no cover  (compiled)  # fmt: skip
    seeds, samples, areas = latents.shape
    patches, clusters, width = upsilon.shape[1], phi.shape[2], rows.shape[1]
    table, kernel, _, masses, masked, block_phi, _, ratios, weighted, _, total = _room(
        rows, patches, samples, clusters, areas
    )
    slots, sample_chunks = np.empty(samples, np.int64), np.empty((by_key.shape[0], 3), np.int64)
    for s in range(seeds):
        chunks = fill_slots(cluster[s], clusters, slots, sample_chunks)
        fill_codes(
            visible[s],
            slots,
            sample_chunks,
            chunks,
            order,
            key_chunks,
            chunk_ends,
            shown,
            by_key,
            by_sample[0],
        )
        strongest = np.abs(latents[s]).max()
        for first in range(0, patches, width):
            read_block(upsilon[s], first, kernel)
            to_kernel(kernel, total)
            shifted = _read_phi(phi[s], first, block_phi) * strongest > MODERATE_EXPONENT
            _sum_masses(
                kernel, total, order, key_chunks, chunk_ends, by_sample,
                slots, cluster[s], spans, table, masses, masked,
            )  # fmt: skip
            attend(
                slots, cluster[s], latents[s], block_phi, first, masses, masked, shifted, total,
                ratios, weighted, attention[s],
            )  # fmt: skip


@compiled
def _pullback(
    phi, upsilon, latents, cluster, visible, adjoint, weight,
    order, spans, key_chunks, chunk_ends, member, rows, shown, by_key, by_sample, d_phi, d_upsilon,
):  # pragma: no cover  (compiled)  # fmt: skip
    seeds, samples, areas = latents.shape
    patches, clusters, width = upsilon.shape[1], phi.shape[2], rows.shape[1]
    table, kernel, gathered, masses, masked, block_phi, block_d_phi, ratios, weighted, pulls, total = _room(
        rows, patches, samples, clusters, areas
    )
    slots, sample_chunks = np.empty(samples, np.int64), np.empty((by_key.shape[0], 3), np.int64)
    for s in range(seeds):
        chunks = fill_slots(cluster[s], clusters, slots, sample_chunks)
        fill_codes(
            visible[s],
            slots,
            sample_chunks,
            chunks,
            order,
            key_chunks,
            chunk_ends,
            shown,
            by_key,
            by_sample[0],
        )
        strongest = np.abs(latents[s]).max()
        for first in range(0, patches, width):
            read_block(upsilon[s], first, kernel)
            to_kernel(kernel, total)
            shifted = _read_phi(phi[s], first, block_phi) * strongest > MODERATE_EXPONENT
            _sum_masses(
                kernel, total, order, key_chunks, chunk_ends, by_sample,
                slots, cluster[s], spans, table, masses, masked,
            )  # fmt: skip
            block_d_phi[:] = 0
            everywhere = pull(
                slots, cluster[s], latents[s], adjoint[s], weight[s], block_phi, first,
                masses, masked, shifted, total, ratios, weighted, pulls, block_d_phi,
            )  # fmt: skip
            _write_phi(block_d_phi, first, d_phi[s])
            set_row(total, 0, everywhere)
            _write_upsilon(
                masses, samples, total, kernel, order, spans, sample_chunks, chunks, by_key, table, gathered,
                first, d_upsilon[s],
            )  # fmt: skip


@compiled
def _residual_gradient(
    phi, upsilon, latents, cluster, visible, strength,
    order, spans, key_chunks, chunk_ends, member, rows, shown, by_key, by_sample, d_phi, d_upsilon,
):  # pragma: no cover  (compiled)  # fmt: skip
    seeds, samples, areas = latents.shape
    patches, clusters, width = upsilon.shape[1], phi.shape[2], rows.shape[1]
    table, kernel, gathered, masses, masked, block_phi, block_d_phi, ratios, weighted, pulls, total = _room(
        rows, patches, samples, clusters, areas
    )
    slots, sample_chunks = np.empty(samples, np.int64), np.empty((by_key.shape[0], 3), np.int64)
    for s in range(seeds):
        chunks = fill_slots(cluster[s], clusters, slots, sample_chunks)
        fill_codes(
            visible[s],
            slots,
            sample_chunks,
            chunks,
            order,
            key_chunks,
            chunk_ends,
            shown,
            by_key,
            by_sample[0],
        )
        strongest = np.abs(latents[s]).max()
        for first in range(0, patches, width):
            read_block(upsilon[s], first, kernel)
            to_kernel(kernel, total)
            shifted = _read_phi(phi[s], first, block_phi) * strongest > MODERATE_EXPONENT
            _sum_masses(
                kernel, total, order, key_chunks, chunk_ends, by_sample,
                slots, cluster[s], spans, table, masses, masked,
            )  # fmt: skip
            block_d_phi[:] = 0
            everywhere = reconstruct(
                slots, cluster[s], latents[s], strength[s], block_phi, member, shown, first,
                masses, masked, shifted, ratios, weighted, pulls, block_d_phi,
            )  # fmt: skip
            _write_phi(block_d_phi, first, d_phi[s])
            set_row(total, 0, everywhere)
            _write_upsilon(
                masses, samples, total, kernel, order, spans, sample_chunks, chunks, by_key, table, gathered,
                first, d_upsilon[s],
            )  # fmt: skip
