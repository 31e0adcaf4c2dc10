"""Counter-based random numbers on any device: Philox4x32-10, a function of a key and a counter and of nothing else.

A draw is ``philox(counter, key)``: four words of 32 bits from a counter of four words and a key of two. The key
is a seed's and a purpose's; the counter says the place: (index within the sample, sample, step, view and
attempt). So every number can be drawn on its own, in any order, on any device, inside a kernel too, to the
same bits. These streams are not numpy's of ``vitdyn.seeds``: the same distribution, other draws.

Source: Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3 (2011).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import require_choice
from vitdyn.seeds import PURPOSES, as_seeds

_WORD = 0xFFFFFFFF
_FACTORS = (0xD2511F53, 0xCD9E8D57)
_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
ATTEMPTS = 2**16
"""Attempts of one draw that have counters of their own; view v starts at v times this."""

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def stream_keys(
    seeds: Sequence[int], purpose: str, device: torch.device | str = "cpu"
) -> Int[Tensor, " seed"]:
    """Return the Philox key of each seed for a purpose: 64 bits, the first key word the low half.

    Raises ``ValueError`` for a negative seed or an unknown purpose (``vitdyn.seeds.PURPOSES``).
    """
    require_choice("purpose", purpose, PURPOSES)
    place = (PURPOSES.index(purpose), 1)  # 1 keeps clear of the keys of numpy's streams
    keys = [
        np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64) for seed in as_seeds(seeds)
    ]
    return torch.from_numpy(np.concatenate(keys).view(np.int64)).to(device)


def philox(counter: Sequence[Tensor | int], key: Tensor) -> Words:
    """Return four words of 32 bits, as int64 tensors, for a counter of four words and a key of 64 bits.

    Each of ten rounds multiplies two words by constants to 64 bits and mixes the halves with the others and
    with the key, which grows by constants. All arguments are broadcast.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*(torch.as_tensor(c, device=key.device) for c in counter))
    k0, k1 = key & _WORD, (key >> 32) & _WORD
    for _ in range(_ROUNDS):
        # torch has no unsigned 64 bits, but int64 products wrap around, which leaves the low 64 bits as they are
        first, second = c0 * _FACTORS[0], c2 * _FACTORS[1]
        c0, c1, c2, c3 = (
            ((second >> 32) & _WORD) ^ c1 ^ k0,
            second & _WORD,
            ((first >> 32) & _WORD) ^ c3 ^ k1,
            first & _WORD,
        )
        k0, k1 = (k0 + _INCREMENTS[0]) & _WORD, (k1 + _INCREMENTS[1]) & _WORD
    return c0, c1, c2, c3


def words(
    keys: Int[Tensor, " seed"], step: int | Tensor, view: int, samples: int, count: int
) -> Int[Tensor, "seed sample count"]:
    """Return ``count`` words of 32 bits for each sample: word n is output n div q of counter n mod q, q = ⌈count/4⌉."""
    quarter = -(-count // 4)
    index = torch.arange(quarter, device=keys.device)
    sample = torch.arange(samples, device=keys.device)[:, None]
    drawn = philox((index, sample, step, view * ATTEMPTS), keys[:, None, None])
    return torch.cat(drawn, -1)[..., :count]


def uniforms(
    keys: Int[Tensor, " seed"], step: int | Tensor, view: int, samples: int, count: int
) -> Float[Tensor, "seed sample count"]:
    """Return uniform numbers in [0, 1), multiples of 2^-24 in float32: the upper 24 bits of ``words``.

    On CUDA, where Triton is at hand, a kernel draws the same bits.
    """
    if keys.is_cuda:
        try:
            from vitdyn.data.counter_kernels import draw_uniforms
        except ImportError:
            pass
        else:
            return draw_uniforms(keys, step, view, samples, count)
    return (words(keys, step, view, samples, count) >> 8).to(torch.float32) * 2.0**-24
