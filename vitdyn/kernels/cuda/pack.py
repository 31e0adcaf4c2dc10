"""Which keys a sample shows, as words of 32 bits in the order of the slots: 1/32 of the bytes of masks in float32.

A program packs BR samples of one seed. It reads B P S bytes and writes 4 T B S; at 1024 seeds, P = B = 256, T = 8:
67 MB and 8 MB, 0.016 ms at 4.8 TB/s. Masks drawn by the counter stream come packed already.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pack_words(
    visible, cluster, position, words, samples, patches, key_tiles, BR: tl.constexpr
):  # pragma: no cover  (compiled)
    """Write words (seed, tile, sample) from ``visible`` (seed, sample, patch) of bytes."""
    seed = tl.program_id(1).to(tl.int64)
    sample = tl.program_id(0) * BR + tl.arange(0, BR)
    shown = sample < samples
    own = tl.load(cluster + seed * samples + sample, mask=shown, other=0).to(tl.int32)
    bit = tl.arange(0, 32)
    for tile in range(0, key_tiles):
        slot = (own * key_tiles + tile)[:, None] * 32 + bit[None, :]
        key = tl.load(position + slot)
        inside = shown[:, None] & (key >= 0)
        byte = tl.load(visible + (seed * samples + sample)[:, None] * patches + key, mask=inside, other=0)
        word = tl.sum((byte != 0).to(tl.int32) << bit[None, :], 1)
        tl.store(words + (seed * key_tiles + tile) * samples + sample, word, mask=shown)
