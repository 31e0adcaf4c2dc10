"""The two compiled kernels of the CPU: forward (attention, or its means) and gradient (of a residual, or of any loss).

All of attention and its gradient is separable over queries. For each block of queries of one seed the kernels bring E
to L1 (``query_blocks``), sum its rows by visible key (``subset_sums``), go from area sums to weights and back
(``weights``), and sum by sample; the fused gradient of masked reconstruction thus stores nothing of size (sample,
area, query). A result depends on its own seed only, to the bit.

Arguments are flat, since Python takes longer to hand over a tuple than to compute a small gradient. The compiler drops
the branch of an argument that is None, but only where the condition asks nothing else.
"""

from __future__ import annotations

import numpy as np

from vitdyn.kernels.cpu.masks import fill_index_bytes, fill_slots
from vitdyn.kernels.cpu.pooling import add_sums, mark_patches, sum_attention, write_means
from vitdyn.kernels.cpu.query_blocks import read_block, read_phi, write_gradient, write_phi
from vitdyn.kernels.cpu.scratch import partition
from vitdyn.kernels.cpu.simd import compiled, inner, splat, store_row
from vitdyn.kernels.cpu.subset_sums import sum_keys, sum_samples_by_key
from vitdyn.kernels.cpu.weights import (
    MODERATE_EXPONENT,
    attention_backward,
    exponentiate_logits,
    loses_digits,
    residual_backward,
    write_attention,
)


@inner
def sort_latents(latents, slots, own_latents):  # pragma: no cover  (compiled)
    """Write z_j of samples (sample, area) in the order of slots; return the largest |z_j|."""
    most = latents.dtype.type(0)
    for slot in range(slots.shape[0]):
        for j in range(latents.shape[1]):
            latent = latents[slots[slot], j]
            own_latents[slot, j] = latent
            most = max(most, abs(latent))
    return most


@inner
def start_block(scratch, phi, upsilon, first, strongest):  # pragma: no cover  (compiled)
    """Bring a block's E and Φ to the scratch; return whether its exponents must be shifted."""
    read_block(upsilon, first, scratch.exp_logits)
    exponentiate_logits(scratch.exp_logits, scratch.total)
    return read_phi(phi, first, scratch.phi, scratch.spare) * strongest > MODERATE_EXPONENT


@compiled
def forward(
    phi, upsilon, latents, cluster, visible,
    order, spans, cut, key_chunks, chunk_ends, together, member, owns, rows, visible_bytes, by_key, by_sample,
    attention, means, sums, block_sums,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write area ``attention``, or, where that is None, its ``means`` over queries by ``sums`` of blocks."""
    seeds, samples, areas = latents.shape
    patches, clusters, width = upsilon.shape[1], phi.shape[2], rows.shape[1]
    scratch = partition(rows, patches, by_sample.shape[2], clusters, areas)
    slots, ends = np.empty(samples, np.int64), np.empty((2, clusters + 1), np.int64)
    sample_chunks = np.empty((by_key.shape[0], 3), np.int64)
    own_latents = np.empty((samples, areas), latents.dtype)
    for s in range(seeds):
        fill_slots(cluster[s], slots, ends, sample_chunks)
        fill_index_bytes(
            visible[s], slots, sample_chunks, ends[1, -1], order, cut, key_chunks, chunk_ends,
            visible_bytes, by_key, by_sample[0],
        )  # fmt: skip
        strongest = sort_latents(latents[s], slots, own_latents)
        if means is not None:
            sums[:] = 0
        for first in range(0, patches, width):
            shifted = start_block(scratch, phi[s], upsilon[s], first, strongest)
            if means is not None:
                mark_patches(first, patches, scratch.spare)
            for k in range(clusters):
                low, high = ends[0, k], ends[0, k + 1]
                # first with W_0 as a difference; again with its exact sum where that lost digits, which is rare
                for exact in (False, True):
                    sum_keys(
                        scratch, spans, cut, key_chunks, chunk_ends, together, by_sample, k, ends[0], exact
                    )
                    if means is not None:
                        sum_attention(scratch, own_latents, k, exact, shifted, low, high, block_sums)
                    if attention is not None:
                        write_attention(
                            scratch, slots, own_latents, k, exact, shifted, low, high, first, attention[s]
                        )
                    if not loses_digits(scratch.total):
                        break
                if means is not None:
                    add_sums(block_sums, low * areas, high * areas, sums)
        if means is not None:
            write_means(sums, slots, patches, means[s])


@compiled
def gradient(
    phi, upsilon, latents, cluster, visible,
    order, spans, cut, key_chunks, chunk_ends, together, member, owns, rows, visible_bytes, by_key, by_sample,
    cotangent, scale, phi_gradient, upsilon_gradient,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write ∂L/∂Φ and ∂L/∂Υ of masked reconstruction with its ``scale``, or of ``cotangent`` where that is not None."""
    seeds, samples, areas = latents.shape
    patches, clusters, width = upsilon.shape[1], phi.shape[2], rows.shape[1]
    scratch = partition(rows, patches, by_sample.shape[2], clusters, areas)
    slots, ends = np.empty(samples, np.int64), np.empty((2, clusters + 1), np.int64)
    sample_chunks = np.empty((by_key.shape[0], 3), np.int64)
    own_latents = np.empty((samples, areas), latents.dtype)
    residual_weights = np.empty((samples, areas), latents.dtype)
    for s in range(seeds):
        fill_slots(cluster[s], slots, ends, sample_chunks)
        fill_index_bytes(
            visible[s], slots, sample_chunks, ends[1, -1], order, cut, key_chunks, chunk_ends,
            visible_bytes, by_key, by_sample[0],
        )  # fmt: skip
        strongest = sort_latents(latents[s], slots, own_latents)
        if scale is not None:
            # loops, as everywhere here: an expression of arrays takes the compiler four seconds
            for slot in range(samples):
                for j in range(areas):
                    residual_weights[slot, j] = scale[s] * own_latents[slot, j] * own_latents[slot, j]
        # queries outside, clusters inside: a block's E is made once, and its gradient stays in L2 until it is written
        for first in range(0, patches, width):
            shifted = start_block(scratch, phi[s], upsilon[s], first, strongest)
            masked_gradient_sum, begins = splat(upsilon.dtype.type(0)), first >= 0
            scratch.phi_gradient[:] = 0
            for k in range(clusters):
                low, high = ends[0, k], ends[0, k + 1]
                for exact in (False, True):
                    sum_keys(
                        scratch, spans, cut, key_chunks, chunk_ends, together, by_sample, k, ends[0], exact
                    )
                    if exact:  # the first attempt has added its part to the gradient of this cluster's Φ
                        scratch.phi_gradient[k * areas : (k + 1) * areas] = 0
                    if cotangent is None:
                        masked_gradient = residual_backward(
                            scratch, own_latents, residual_weights, k, exact, shifted, low, high, first,
                            member, owns, visible_bytes,
                        )  # fmt: skip
                    else:
                        masked_gradient = attention_backward(
                            scratch, slots, own_latents, k, exact, shifted, low, high, first, cotangent[s]
                        )
                    if not loses_digits(scratch.total):
                        break
                masked_gradient_sum = masked_gradient_sum + masked_gradient
                sum_samples_by_key(
                    scratch, by_key, order, k, spans, sample_chunks, ends[1, k], ends[1, k + 1], begins
                )
                begins = begins and low == high  # a cluster without samples has written nothing
            write_phi(scratch.phi_gradient, first, phi_gradient[s])
            store_row(scratch.spare, 0, masked_gradient_sum)
            write_gradient(
                scratch.key_gradient, scratch.spare, scratch.exp_logits, first, upsilon_gradient[s]
            )
