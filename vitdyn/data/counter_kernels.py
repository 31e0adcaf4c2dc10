"""The counter stream as kernels: the same bits as ``counter`` and ``device_masks``, drawn where they are used.

uniforms       4 samples · count bytes a seed and step written, one Philox call (about 100 integer operations)
               for 4 numbers. At 1024 seeds, 256 samples, 4 areas: 4 MB and 2.6e7 operations, under 0.01 ms
masks          one Philox call for 4 positions, then about log₂ P + 3 counting passes of 4 operations a
               position; 4 T bytes a sample written, T words of 32 slots. At 1024 seeds, P = B = 256, T = 8:
               8 MB written, 6.7e7 positions, 1.7e9 + 3.0e9 integer operations beside their reductions: 0.3 ms
               at 15e12 a second
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from vitdyn._cuda import on_device_of


@triton.jit
def uniform_kernel(
    keys, step_pointer, out, samples, count, view, WIDTH: tl.constexpr, ROWS: tl.constexpr
):  # pragma: no cover  (compiled)
    """Write uniform numbers (seed, sample, count)."""
    seed = tl.program_id(1).to(tl.int64)
    quarter = (count + 3) // 4
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    index = tl.arange(0, WIDTH)[None, :]
    zero = tl.zeros((ROWS, WIDTH), tl.int32)
    step = tl.load(step_pointer).to(tl.int32)
    drawn = tl.philox(tl.load(keys + seed), zero + index, zero + row, zero + step, zero + view * 65536)
    out += seed * samples * count
    for part in tl.static_range(4):
        place = part * quarter + index
        inside = (row < samples) & (index < quarter) & (place < count)
        number = (drawn[part] >> 8).to(tl.float32) * 5.9604644775390625e-08
        tl.store(out + row * count + place, number, mask=inside)


@triton.jit
def mask_kernel(
    keys, step_pointer, cluster, position, words, masked_counts, samples, patches, key_tiles, view,
    QUARTER: tl.constexpr, SLOTS: tl.constexpr, ROWS: tl.constexpr, KEY_BITS: tl.constexpr,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write words (seed, tile, sample): bit i of tile t is 1 where the position of slot 32 t + i is visible.

    The threshold below which exactly as many keys lie as the seed masks is built bit by bit from the highest and kept
    as soon as the count is right; a row whose count never is (a tie at the boundary) is drawn again.
    """
    # 64 bits: seed times the size of its part can pass 2^31
    seed = tl.program_id(1).to(tl.int64)
    masked = tl.load(masked_counts + seed)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    index = tl.arange(0, QUARTER)[None, :]
    quarter = (patches + 3) // 4
    zero = tl.zeros((ROWS, QUARTER), tl.int32)
    key = tl.load(keys + seed)
    step = tl.load(step_pointer).to(tl.int32)
    # bit o of chosen says of position o · quarter + index, whose key is output o of that counter, whether it is masked
    chosen = zero
    done = tl.zeros((ROWS,), tl.int32)
    attempt = 0
    while tl.min(done, 0) == 0:
        drawn = tl.philox(key, zero + index, zero + row[:, None], zero + step, zero + view * 65536 + attempt)
        threshold = tl.zeros((ROWS,), tl.uint32)
        below = tl.zeros((ROWS,), tl.int32)
        # the largest threshold with at most ``masked`` keys below it, from its highest bit down, until all rows fit
        bit = KEY_BITS - 1
        while (bit >= 0) & (tl.max((below != masked).to(tl.int32), 0) > 0):
            trial = threshold | (tl.full((ROWS,), 1, tl.uint32) << bit)
            count = tl.zeros((ROWS,), tl.int32)
            for part in tl.static_range(4):
                inside = (index < quarter) & (part * quarter + index < patches)
                smaller = ((drawn[part] >> (32 - KEY_BITS)) < trial[:, None]) & inside
                count += tl.sum(smaller.to(tl.int32), 1)
            threshold = tl.where(count <= masked, trial, threshold)
            below = tl.where(count <= masked, count, below)
            bit -= 1
        # a row that fits keeps its first set of masked patches, whatever later attempts draw for the others
        fresh = (below == masked) & (done == 0)
        fits = zero
        for part in tl.static_range(4):
            smaller = (drawn[part] >> (32 - KEY_BITS)) < threshold[:, None]
            fits |= smaller.to(tl.int32) << part
        chosen = tl.where(fresh[:, None], fits, chosen)
        done = tl.where(fresh, 1, done)
        attempt += 1
    # from the order of positions to the order of slots, 32 to a word
    own = tl.load(cluster + seed * samples + row, mask=row < samples, other=0).to(tl.int32)
    slot = tl.arange(0, SLOTS)
    place = own[:, None] * (key_tiles * 32) + slot[None, :]
    spot = tl.load(position + place, mask=(slot < key_tiles * 32)[None, :], other=-1)
    real = tl.maximum(spot, 0)
    nibble = tl.gather(chosen, real % quarter, 1)
    visible = (spot >= 0) & (((nibble >> (real // quarter)) & 1) == 0)
    bits = tl.reshape(visible.to(tl.int32), (ROWS, SLOTS // 32, 32))
    word = tl.sum(bits << tl.arange(0, 32)[None, None, :], 2)
    tile = tl.arange(0, SLOTS // 32)
    target = words + (seed * key_tiles + tile[None, :]) * samples + row[:, None]
    tl.store(target, word, mask=(row < samples)[:, None] & (tile < key_tiles)[None, :])


INTERPRETED = isinstance(mask_kernel, InterpretedFunction)
"""Whether the kernels run under Triton's interpreter, on CPU tensors."""


def draw_uniforms(
    keys: Int[Tensor, " seed"], step: int | Tensor, view: int, samples: int, count: int
) -> Float[Tensor, "seed sample count"]:
    """Return what ``counter.uniforms`` returns."""
    out = torch.empty(len(keys), samples, count, device=keys.device)
    width = _power_of_two(-(-count // 4))
    rows = max(1, 128 // width)
    with on_device_of(out):
        uniform_kernel[(-(-samples // rows), len(keys))](
            keys, _step_tensor(step, keys), out, samples, count, view, WIDTH=width, ROWS=rows
        )
    return out


def draw_words(
    keys: Int[Tensor, " seed"],
    step: int | Tensor,
    view: int,
    cluster: Int[Tensor, "seed sample"],
    position: Int[Tensor, "cluster slot"],
    patches: int,
    masked: Int[Tensor, " seed"],
    key_bits: int = 32,
) -> Int[Tensor, "seed tile sample"]:
    """Return what ``device_masks.visible_words`` returns; ``masked`` holds int32 numbers."""
    seeds, samples = cluster.shape
    tiles = position.shape[1] // 32
    out = torch.empty(seeds, tiles, samples, dtype=torch.int32, device=cluster.device)
    quarter, wide = _power_of_two(-(-patches // 4)), _power_of_two(tiles) * 32
    rows = max(1, 2048 // wide)
    with on_device_of(out):
        mask_kernel[(-(-samples // rows), seeds)](
            keys, _step_tensor(step, keys), cluster, position, out, masked, samples, patches, tiles, view,
            QUARTER=quarter, SLOTS=wide, ROWS=rows, KEY_BITS=key_bits,
        )  # fmt: skip
    return out


def _step_tensor(step: int | Tensor, like: Tensor) -> Tensor:
    """Return a step as one number on a device, where kernels read it."""
    return torch.as_tensor(step, dtype=torch.int64, device=like.device)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
