"""The engine of the CPU: compiled kernels that add visible rows only, one block of queries of one seed at a time.

All of attention and its gradient is separable over queries. For each block of queries the kernels bring E to the
first cache (``rows_blocks``), sum its rows by visible key (``rows_tables``), go from masses to shares and back
(``rows_shares``), and sum by sample; the fused gradient of masked reconstruction thus stores nothing of size (sample,
area, query). A result depends on its own seed only, to the bit. Each kernel releases the interpreter's lock, so that
groups of seeds run side by side on threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.attention.correlations import Correlations
from vitdyn.attention.rows_blocks import read_block, read_phi, write_block, write_phi
from vitdyn.attention.rows_masks import fill_codes, fill_slots
from vitdyn.attention.rows_pool import add_sums, mark_inside, pool, write_means
from vitdyn.attention.rows_room import cut_room, make_room, room_to_pool
from vitdyn.attention.rows_shares import (
    MODERATE_EXPONENT,
    attend,
    loses_digits,
    pull,
    reconstruct,
    slot_step,
    to_kernel,
)
from vitdyn.attention.rows_tables import add_masses, add_pulled, flip_codes
from vitdyn.attention.rows_vector import compiled, set_row, splat
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
    upsilon = correlations.position_position
    attention = workspace.take("attention", upsilon, *latents.shape, layout.patches)
    batch = latents, cluster, visible, layout
    return attention, _attend(correlations, *batch, workspace, _array(attention), None, None, None)


def pooled(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
    workspace: Workspace,
) -> tuple[Float[Tensor, "seed sample area"], Saved]:
    """Return the mean of area attention over queries, never stored, and what ``pullback`` needs."""
    upsilon = correlations.position_position
    means = workspace.take("means", upsilon, *latents.shape)
    batch, sums = (latents, cluster, visible, layout), room_to_pool(workspace, upsilon, latents)
    return means, _attend(correlations, *batch, workspace, None, _array(means), *sums)


def _attend(
    correlations: Correlations,
    latents: Tensor,
    cluster: Tensor,
    visible: Tensor,
    layout: PatchLayout,
    workspace: Workspace,
    *targets: np.ndarray | None,
) -> Saved:
    """Let ``_forward`` write to its ``targets``, the last of what it takes; return what ``pullback`` needs."""
    phi, upsilon = correlations.feature_position, correlations.position_position
    _forward(
        *_given(phi, upsilon, latents, cluster, visible),
        *_plan_and_scratch(workspace, upsilon, latents, layout),
        *targets,
    )
    return Saved(workspace, layout, phi, upsilon, latents, cluster, visible)


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
    _gradient(
        *_given(saved.phi, upsilon, saved.latents, saved.cluster, saved.visible),
        *(_array(part) for part in (adjoint, weights)),
        None,
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
    scale: float | Float[Tensor, " seed"],
    workspace: Workspace,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A_{p→j} = scale z_j² (A_{p→j} − 1{j = a(p)}) at masked queries p, else 0."""
    phi, upsilon = correlations.feature_position, correlations.position_position
    # names of their own: a mixture adds the pull-back of the same view to this gradient
    d_phi = workspace.take("phi gradient of a residual", phi, *phi.shape)
    d_upsilon = workspace.take("upsilon gradient of a residual", upsilon, *upsilon.shape)
    _gradient(
        *_given(phi, upsilon, latents, cluster, visible),
        None,
        None,
        np.full(len(upsilon), scale, upsilon.numpy().dtype),
        *_plan_and_scratch(workspace, upsilon, latents, layout),
        d_phi.numpy(),
        d_upsilon.numpy(),
    )
    return Correlations(d_phi, d_upsilon)


def _given(
    phi: Tensor, upsilon: Tensor, latents: Tensor, cluster: Tensor, visible: Tensor
) -> tuple[np.ndarray, ...]:
    """Return what a kernel is given, in its types: of each patch of each sample a byte, 0 where it is masked."""
    if latents.dtype != upsilon.dtype:
        latents = latents.to(upsilon.dtype)
    if visible.dtype != torch.bool and visible.dtype != torch.uint8:
        visible = visible != 0
    return _array(phi), _array(upsilon), _array(latents), _array(cluster), _array(visible).view(np.uint8)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.numpy() if tensor.is_contiguous() else tensor.contiguous().numpy()


def _plan_and_scratch(
    work: Workspace, like: Tensor, latents: Tensor, layout: PatchLayout
) -> tuple[np.ndarray | int, ...]:
    """Return the layout's plan, and room for rows, for bytes of masks and for both orders of codes."""
    samples = latents.shape[1]
    return work.recall(("room", samples, like.dtype), layout, lambda: make_room(like, samples, layout))


@compiled
def _prepare(
    cluster, visible, order, cut, key_chunks, chunk_ends, slots, ends, sample_chunks, shown, by_key, by_sample
):  # pragma: no cover  (compiled)
    """Bring a seed's samples into the order of their clusters, and their masks into both kinds of codes."""
    fill_slots(cluster, slots, ends, sample_chunks)
    chunks = sample_chunks[: ends[1, -1]]
    fill_codes(visible, slots, chunks, order, cut, key_chunks, chunk_ends, shown, by_key, by_sample[0])


@compiled
def _by_slot(latents, slots, own_latents):  # pragma: no cover  (compiled)
    """Write z_j of samples (sample, area) in the order of slots; return the largest |z_j|."""
    most = latents.dtype.type(0)
    for slot in range(slots.shape[0]):
        for j in range(latents.shape[1]):
            latent = latents[slots[slot], j]
            own_latents[slot, j] = latent
            most = max(most, abs(latent))
    return most


@compiled
def _sum_masses(
    kernel, spans, cut, key_chunks, chunk_ends, together, by_sample, k, ends, table, masses, masked, summed
):  # pragma: no cover  (compiled)
    """Write W of a cluster's slots, and W_0 where that is ``summed``, as a difference has lost its digits.

    Of clusters that are taken ``together`` the first has W of all written; a cluster that is summed, its own again.
    """
    if not summed and k % together > 0:
        return
    last, step = k + (1 if summed else together), slot_step(masses, masked)
    add_masses(by_sample[0], kernel, cut, key_chunks, chunk_ends, k, last, ends, False, table, masses, step)
    for own in range(k, last):
        for area in range(spans.shape[1]):
            if spans[own, area, 0] == spans[own, area, 1]:
                masses[ends[own] * step + area : ends[own + 1] * step : step] = 0
    if summed:
        low, high = chunk_ends[k], chunk_ends[k + 1]
        flip_codes(by_sample[0], key_chunks, low, high, ends[k], ends[k + 1], by_sample[1])
        add_masses(by_sample[1], kernel, cut, key_chunks, chunk_ends, k, last, ends, True, table, masked, 1)


@compiled
def _forward(
    phi, upsilon, latents, cluster, visible,
    order, spans, cut, key_chunks, chunk_ends, together, member, owns, rows, shown, by_key, by_sample,
    attention, means, sums, block_sums,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write area ``attention``, or, where that is None, its ``means`` over queries by ``sums`` of blocks.

    The compiler drops what is asked of an argument that is None, so each is asked of its own.
    """
    seeds, samples, areas = latents.shape
    patches, clusters, width = upsilon.shape[1], phi.shape[2], rows.shape[1]
    table, kernel, _, masses, masked, block_phi, _, ratios, weighted, scales, _, total, spare = cut_room(
        rows, patches, by_sample.shape[2], clusters, areas
    )
    slots, ends = np.empty(samples, np.int64), np.empty((2, clusters + 1), np.int64)
    sample_chunks = np.empty((by_key.shape[0], 3), np.int64)
    own_latents = np.empty((samples, areas), latents.dtype)
    for s in range(seeds):
        _prepare(
            cluster[s], visible[s], order, cut, key_chunks, chunk_ends, slots, ends, sample_chunks,
            shown, by_key, by_sample,
        )  # fmt: skip
        strongest = _by_slot(latents[s], slots, own_latents)
        if means is not None:
            sums[:] = 0
        for first in range(0, patches, width):
            read_block(upsilon[s], first, kernel)
            to_kernel(kernel, total)
            shifted = read_phi(phi[s], first, block_phi, spare) * strongest > MODERATE_EXPONENT
            if means is not None:
                mark_inside(first, patches, spare)
            for k in range(clusters):
                low, high = ends[0, k], ends[0, k + 1]
                for summed in (False, True):
                    _sum_masses(
                        kernel, spans, cut, key_chunks, chunk_ends, together, by_sample, k, ends[0],
                        table, masses, masked, summed,
                    )  # fmt: skip
                    if means is not None:
                        pool(
                            own_latents, block_phi, k, total, masses, masked,
                            summed, low, high, shifted, ratios, weighted, scales, spare, block_sums,
                        )  # fmt: skip
                    if attention is not None:
                        attend(
                            slots, own_latents, block_phi, k, first, total, masses, masked,
                            summed, low, high, shifted, ratios, weighted, scales, attention[s],
                        )  # fmt: skip
                    if not loses_digits(total):
                        break
                if means is not None:
                    add_sums(block_sums, low * areas, high * areas, sums)
        if means is not None:
            write_means(sums, slots, patches, means[s])


@compiled
def _gradient(
    phi, upsilon, latents, cluster, visible, adjoint, weight, scale,
    order, spans, cut, key_chunks, chunk_ends, together, member, owns, rows, shown, by_key, by_sample,
    d_phi, d_upsilon,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write ∂L/∂Φ and ∂L/∂Υ of masked reconstruction with its ``scale``, or of ``adjoint`` where there is one."""
    seeds, samples, areas = latents.shape
    patches, clusters, width = upsilon.shape[1], phi.shape[2], rows.shape[1]
    (
        table, kernel, gathered, masses, masked, block_phi, block_d_phi, ratios, weighted, scales, pulls, total, spare,
    ) = cut_room(rows, patches, by_sample.shape[2], clusters, areas)  # fmt: skip
    slots, ends = np.empty(samples, np.int64), np.empty((2, clusters + 1), np.int64)
    sample_chunks = np.empty((by_key.shape[0], 3), np.int64)
    own_latents, own_strength = np.empty((2, samples, areas), latents.dtype)
    for s in range(seeds):
        _prepare(
            cluster[s], visible[s], order, cut, key_chunks, chunk_ends, slots, ends, sample_chunks,
            shown, by_key, by_sample,
        )  # fmt: skip
        strongest = _by_slot(latents[s], slots, own_latents)
        if scale is not None:
            own_strength[:] = scale[s] * own_latents * own_latents
        for first in range(0, patches, width):
            read_block(upsilon[s], first, kernel)
            to_kernel(kernel, total)
            shifted = read_phi(phi[s], first, block_phi, spare) * strongest > MODERATE_EXPONENT
            everywhere, begins = splat(upsilon.dtype.type(0)), True
            block_d_phi[:] = 0
            for k in range(clusters):
                low, high = ends[0, k], ends[0, k + 1]
                for summed in (False, True):
                    _sum_masses(
                        kernel, spans, cut, key_chunks, chunk_ends, together, by_sample, k, ends[0],
                        table, masses, masked, summed,
                    )  # fmt: skip
                    if summed:  # what the first attempt left
                        block_d_phi[k * areas : (k + 1) * areas] = 0
                    if adjoint is None:
                        of_masked = reconstruct(
                            own_latents, own_strength, block_phi, k, member, owns, shown, first, total, masses, masked,
                            summed, low, high, shifted, ratios, weighted, scales, block_d_phi,
                        )  # fmt: skip
                    else:
                        of_masked = pull(
                            slots, own_latents, adjoint[s], weight[s], block_phi, k, first, total, masses, masked,
                            summed, low, high, shifted, ratios, weighted, scales, pulls, block_d_phi,
                        )  # fmt: skip
                    if not loses_digits(total):
                        break
                everywhere = everywhere + of_masked
                add_pulled(
                    by_key, masses, slot_step(masses, masked), order, k, spans, sample_chunks,
                    ends[1, k], ends[1, k + 1], begins, table, gathered,
                )  # fmt: skip
                begins = begins and low == high
            write_phi(block_d_phi, first, d_phi[s])
            set_row(spare, 0, everywhere)
            write_block(gathered, spare, kernel, first, d_upsilon[s])
