"""Area attention in one kernel, for objectives that take the attention itself.

A program holds BQ queries of one seed and BB samples of one cluster. What one view takes, for S seeds, B samples,
P patches, N areas and T key tiles; and at S = 1024, P = B = 256, N = 4, T = 8 (BQ = BB = 64):

    products       2 P² B S = 3.4e10 operations; as three bfloat16 products 1.0e11: 0.11 ms at 900 TFLOP/s
    device memory  A once, the shift and 1/Z once: 4 (N + 2) P B S = 1.6 GB; Υ 4 P² S = 0.27 GB, from the L2
                   3 B/BB times; masks 4 T B S = 8 MB: 1.9 GB, 0.40 ms at 4.8 TB/s

It is bound by writing A: masked reconstruction takes ``residual``, which does not. Equations: ``kernels/README.md``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vitdyn.kernels.cuda.common import exponent, normaliser, row_statistics, sum_areas


@triton.jit
def write_attention(
    phi, upsilon, latents, words, order, table, count, position, edges, attention, shifts, inverses,
    samples, patches, clusters, sample_tiles, key_tiles,
    N: tl.constexpr, NATIVE: tl.constexpr, SPLIT: tl.constexpr, BQ: tl.constexpr, BB: tl.constexpr,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write A (seed, sample, area, query), and the shift c and 1/Z (seed, sample, query)."""
    seed = tl.program_id(1).to(tl.int64)  # seed · P² passes 2^31 at 2^15 seeds of P = 256
    query = tl.program_id(0) * BQ + tl.arange(0, BQ)
    valid = query < patches
    tile = tl.program_id(2)  # as many as a seed can have; one that this seed has not does nothing
    if tile < tl.load(count + seed):
        rows = query * patches
        upsilon += seed * patches * patches
        phi += seed * patches * (clusters * N)
        table += (seed * sample_tiles + tile) * 3
        cluster = tl.load(table)
        member = tl.load(table + 1) + tl.arange(0, BB)
        shown = member < tl.load(table + 2)
        sample = tl.load(order + seed * samples + member, mask=shown, other=0)
        latents += seed * samples * N
        weights = (query * clusters + cluster) * N
        highest, total = row_statistics(upsilon, rows, valid, patches, BQ)
        area_sums, masked_sums = sum_areas(
            upsilon, rows, valid, highest, total, words + seed * key_tiles * samples,
            position + cluster * key_tiles * 32, edges + cluster * (N + 1), sample, shown, samples,
            N, NATIVE, SPLIT, BQ, BB
        )  # fmt: skip
        shift, inverse = normaliser(area_sums, masked_sums, phi, weights, valid, latents, sample, shown, N)
        here = valid[:, None] & shown[None, :]
        row = seed * samples + sample
        where = row[None, :] * patches + query[:, None]
        tl.store(shifts + where, shift, mask=here)
        tl.store(inverses + where, inverse, mask=here)
        # e^{zΦ − c} is formed again: the sums of all areas leave no registers to keep it in.
        for area in tl.static_range(N):
            power, _ = exponent(phi, weights, valid, latents, sample, shown, area, N)
            ratio = tl.exp(tl.minimum(power - shift, 0.0)) * inverse
            where = (row * N + area)[None, :] * patches + query[:, None]
            tl.store(attention + where, ratio * area_sums[area], mask=here)
