"""The gradient of masked reconstruction in one kernel: forward, ∂L/∂A, backward and, if asked, the step of descent.

A program holds a block of BQ queries of one seed. For each tile of BB samples it sums E over the keys that
each sample shows, area by area, in registers (W_j); forms A_j; forms ∂L/∂A_j = scale z_j² (A_j − 1{j = a(p)}) at
the masked queries; and multiplies the gradient that the keys of each area receive with the masks again.
Nothing of size (sample, area, query) leaves the registers. A seed's bits depend on its own problem alone.

What one step takes, for S seeds, B samples, P patches, N areas; T = Σ_j ⌈n_j/32⌉ key tiles (P/32 where sizes are
whole tiles, at most N more); and at S = 1024, P = B = 256, N = 4, T = 8 (BQ = BB = 64):

    products       2 · 2 P² B S = 6.9e10 operations; as three bfloat16 products 2.1e11: 0.23 ms at 900 TFLOP/s,
                   0.38 ms at 550, what products of 64 rows reach; plain float32: 1.15 ms at 60 TFLOP/s
    exponentials   (P² (B/BB + 2) + (3 N + 2) P B) S = 1.3e9: 0.36 ms at 16 a cycle of an SM and 1.75 GHz,
                   on other units than the products
    masks          2 · 32 T B (P/BQ) S = 5.4e8 bits spread to bfloat16 numbers, 3 integer operations each: 0.1 ms,
                   likewise beside the products
    device memory  Υ once, ∂L/∂Υ or its partial sums once, the new Υ once: 12 P² S = 0.81 GB; masks 4 T B S
                   = 8 MB; latents 4 N B S = 4 MB; Φ and its gradient 8 N P S = 8 MB: 0.83 GB,
                   0.17 ms at 4.8 TB/s
    L2             where B > BB, ∂L/∂Υ is summed over B/BB tiles in place: 8 P² S (B/BB − 1) = 1.6 GB; Υ again for
                   each tile and three times more, 4 P² S (B/BB + 3) = 1.9 GB; masks twice for every block of
                   queries, 8 T B S P/BQ = 67 MB

A projection of 0.4 (all overlaps) to 1.0 ms (nothing does), and not a measurement: compiled for sm_90 the kernel
uses the warp-group matrix instructions and all 255 registers, so one program of 8 warps fits an SM.
Equations: ``kernels/README.md``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vitdyn.kernels.cuda.common import accumulate_gradient, exponent, normaliser, row_statistics, sum_areas


@triton.jit
def residual_step(
    phi, upsilon, latents, words, order, table, count, position, edges, slot_of, area_of,
    phi_gradient, gradient, rates, first_bad, step_pointer,
    scale, samples, patches, clusters, sample_tiles, key_tiles,
    N: tl.constexpr, UPDATE: tl.constexpr, NATIVE: tl.constexpr, SPLIT: tl.constexpr,
    BQ: tl.constexpr, BB: tl.constexpr,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write ∂L/∂Φ and ∂L/∂Υ, or with UPDATE step down along them and note the first step that is not finite."""
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
    order += seed * samples
    table += seed * sample_tiles * 3
    rates += seed
    highest, total = row_statistics(upsilon, rows, valid, patches, BQ)
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
        sample = tl.load(order + member, mask=shown, other=0)
        keys = position + cluster * key_tiles * 32
        cuts = edges + cluster * (N + 1)
        area_sums, masked_sums = sum_areas(
            upsilon, rows, valid, highest, total, words, keys, cuts, sample, shown, samples,
            N, NATIVE, SPLIT, BQ, BB
        )  # fmt: skip
        own_slot = tl.load(slot_of + cluster * patches + query, mask=valid, other=0)
        own_area = tl.load(area_of + cluster * patches + query, mask=valid, other=-1)
        here = valid[:, None] & shown[None, :]
        word = tl.load(words + (own_slot // 32)[:, None] * samples + sample[None, :], mask=here, other=-1)
        is_masked = here & (((word >> (own_slot % 32)[:, None]) & 1) == 0)
        weights = features + cluster * N
        shift, inverse = normaliser(area_sums, masked_sums, phi, weights, valid, latents, sample, shown, N)
        inverse = tl.where(is_masked, inverse, 0.0)  # a query that is not masked has no part in the loss
        masked_ratio = tl.where(masked_sums > 0, tl.exp(-shift), 0.0) * inverse
        # A is formed again below rather than kept: registers hold the area sums and little else
        mean = tl.zeros((BQ, BB), tl.float32)
        for area in tl.static_range(N):
            power, latent = exponent(phi, weights, valid, latents, sample, shown, area, N)
            weight = tl.exp(tl.minimum(power - shift, 0.0)) * inverse * area_sums[area]
            mean += weight * residual_cotangent(weight, scale * latent * latent, own_area == area)
        masked_gradient = masked_ratio * mean
        masked += tl.sum(masked_gradient, 1)
        for area in tl.static_range(N):
            power, latent = exponent(phi, weights, valid, latents, sample, shown, area, N)
            ratio = tl.exp(tl.minimum(power - shift, 0.0)) * inverse
            weight = ratio * area_sums[area]
            centred = residual_cotangent(weight, scale * latent * latent, own_area == area) - mean
            slope = tl.sum(weight * centred * latent[None, :], 1)
            before = tl.load(phi_gradient + weights + area, mask=valid, other=0.0)
            tl.store(phi_gradient + weights + area, before + slope, mask=valid)
            not_finite = accumulate_gradient(
                ratio * centred + masked_gradient, area, tile == 0, tile == tiles - 1, upsilon, gradient, rows, valid,
                highest, masked, words, keys, cuts, sample, shown, samples, rates, not_finite,
                UPDATE, NATIVE, SPLIT, BQ, BB
            )  # fmt: skip
        tl.debug_barrier()  # the next tile reads what other threads of this program wrote
    if UPDATE:
        # Φ moves at the end, since every tile of samples reads the old one
        for feature in range(0, clusters * N):
            found = tl.load(phi + features + feature, mask=valid, other=0.0)
            slope = tl.load(phi_gradient + features + feature, mask=valid, other=0.0)
            moved = found - tl.load(rates) * slope
            not_finite += moved - moved
            tl.store(phi + features + feature, moved, mask=valid)
        bad = tl.sum((not_finite != 0).to(tl.int32), 0) > 0  # x − x is 0, or NaN where x is not finite
        # any program of the seed may write, and all write the same number: no order is needed between them
        tl.store(first_bad + seed, tl.load(step_pointer) + 1, mask=bad & (tl.load(first_bad + seed) < 0))


@triton.jit
def residual_cotangent(weight, residual_weight, own):  # pragma: no cover  (compiled)
    """Return ∂L/∂A_j = residual_weight (A_j − 1{j = a(p)}), its value at masked queries."""
    return residual_weight[None, :] * (weight - tl.where(own, 1.0, 0.0)[:, None])
