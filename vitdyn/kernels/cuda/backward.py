"""From ∂L/∂A to ∂L/∂(Φ, Υ) in one kernel, for objectives that take the attention itself.

A program holds BQ queries of one seed and goes through all samples. What one view takes, for S seeds, B samples,
P patches, N areas and T key tiles; and at S = 1024, P = B = 256, N = 4, T = 8 (BQ = BB = 64):

    products       2 P² B S = 3.4e10 operations; as three bfloat16 products 1.0e11: 0.11 ms at 900 TFLOP/s
    device memory  A twice (the second time from a cache), ∂L/∂A where it differs between queries, c and 1/Z:
                   4 (2 N + 2) P B S = 2.7 GB at most; Υ and ∂L/∂Υ 12 P² S = 0.81 GB: 3.5 GB, 0.73 ms at 4.8 TB/s
    L2             where B > BB, ∂L/∂Υ is summed over B/BB tiles in place: 8 P² S (B/BB − 1) = 1.6 GB

It is bound by reading A and its cotangent. Equations: ``kernels/README.md``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vitdyn.kernels.cuda.common import accumulate_gradient, exponent, row_statistics


@triton.jit
def attention_backward(
    phi, upsilon, latents, words, order, table, count, position, edges, attention, shifts, inverses,
    cotangent, phi_gradient, gradient, samples, patches, clusters, sample_tiles, key_tiles,
    N: tl.constexpr, ONE: tl.constexpr,
    NATIVE: tl.constexpr, SPLIT: tl.constexpr, BQ: tl.constexpr, BB: tl.constexpr,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write ∂L/∂Φ and ∂L/∂Υ for ∂L/∂A = ``cotangent``; with ONE the cotangent is the same for all queries."""
    seed = tl.program_id(1).to(tl.int64)
    query = tl.program_id(0) * BQ + tl.arange(0, BQ)
    valid = query < patches
    rows = query * patches
    features = query * (clusters * N)
    upsilon += seed * patches * patches
    gradient += seed * patches * patches
    phi += seed * patches * (clusters * N)
    phi_gradient += seed * patches * (clusters * N)
    latents += seed * samples * N
    words += seed * key_tiles * samples
    table += seed * sample_tiles * 3
    highest, _ = row_statistics(upsilon, rows, valid, patches, BQ)
    for feature in range(0, clusters * N):
        tl.store(phi_gradient + features + feature, tl.zeros((BQ,), tl.float32), mask=valid)
    tl.debug_barrier()
    masked = tl.zeros((BQ,), tl.float32)
    not_finite = tl.zeros((BQ,), tl.float32)
    tiles = tl.load(count + seed)
    for tile in range(0, tiles):
        cluster = tl.load(table + tile * 3)
        member = tl.load(table + tile * 3 + 1) + tl.arange(0, BB)
        shown = member < tl.load(table + tile * 3 + 2)
        sample = tl.load(order + seed * samples + member, mask=shown, other=0)
        here = valid[:, None] & shown[None, :]
        row = seed * samples + sample
        weights = features + cluster * N
        where = row[None, :] * patches + query[:, None]
        shift = tl.load(shifts + where, mask=here, other=0.0)
        scale = tl.load(inverses + where, mask=here, other=0.0)
        # A is read again below, from a cache: kept, its areas would fill the registers
        mean = tl.zeros((BQ, BB), tl.float32)
        for area in tl.static_range(N):
            entry = (row * N + area)[None, :] * patches + query[:, None]
            weight = tl.load(attention + entry, mask=here, other=0.0)
            mean += weight * cotangent_tile(cotangent, entry, row * N + area, here, ONE)
        masked_gradient = tl.exp(tl.minimum(-shift, 0.0)) * scale * mean
        masked += tl.sum(masked_gradient, 1)
        for area in tl.static_range(N):
            power, latent = exponent(phi, weights, valid, latents, sample, shown, area, N)
            entry = (row * N + area)[None, :] * patches + query[:, None]
            centred = cotangent_tile(cotangent, entry, row * N + area, here, ONE) - mean
            weight = tl.load(attention + entry, mask=here, other=0.0)
            slope = tl.sum(weight * centred * latent[None, :], 1)
            before = tl.load(phi_gradient + weights + area, mask=valid, other=0.0)
            tl.store(phi_gradient + weights + area, before + slope, mask=valid)
            not_finite = accumulate_gradient(
                tl.exp(tl.minimum(power - shift, 0.0)) * scale * centred + masked_gradient, area, tile == 0,
                tile == tiles - 1, upsilon, gradient, rows, valid, highest, masked, words,
                position + cluster * key_tiles * 32, edges + cluster * (N + 1), sample, shown, samples,
                0.0, not_finite, False, NATIVE, SPLIT, BQ, BB
            )  # fmt: skip
        tl.debug_barrier()  # the next tile reads what other threads of this program wrote


@triton.jit
def cotangent_tile(cotangent, entry, one, here, ONE: tl.constexpr):  # pragma: no cover  (compiled)
    """Return ∂L/∂A_j of a tile, from an array with all queries or with one that stands for all."""
    if ONE:
        value = tl.where(here, tl.load(cotangent + one)[None, :], 0.0)
    else:
        value = tl.load(cotangent + entry, mask=here, other=0.0)
    return value
