"""Masks of an exact size from the counter stream, drawn on the device that uses them.

Each position of a sample gets a word of 32 bits (``counter.words``) and the ``masked`` smallest are masked. Given
that the words at the boundary differ, every subset of that size is equally likely; where they tie (P/2^32 of the
samples or fewer) the sample is drawn again with the next attempt in its counter, so the distribution is exactly
uniform. A mask depends on the seed, the step, the view and the sample alone: neither on the batch nor on the device.

``masked`` is a number, or an int32 tensor on the device of one number for each seed, whose values are taken on trust:
to look at them would be to wait for the device.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer
from vitdyn.data.counter import ATTEMPTS, philox

_MOST_PATCHES = 2**14
"""Positions whose words one program of the kernel holds in registers."""


def draw_masked(
    keys: Int[Tensor, " seed"],
    step: int | Tensor,
    view: int,
    samples: int,
    patches: int,
    masked: int | Int[Tensor, " seed"],
    *,
    key_bits: int = 32,
) -> Bool[Tensor, "seed sample patch"]:
    """Draw which patches are masked, in torch: the oracle of the kernel. Waits for the device.

    ``key_bits`` below 32 keeps that many upper bits of each word, so that ties come often (for tests).
    Raises ``ValueError`` unless 1 ≤ masked < patches.
    """
    counts = _masked_counts(masked, keys, patches).long()
    quarter = -(-patches // 4)
    index = torch.arange(quarter, device=keys.device)
    seed = torch.arange(len(keys), device=keys.device).repeat_interleave(samples)
    sample = torch.arange(samples, device=keys.device).repeat(len(keys))
    chosen = torch.empty(len(seed), patches, dtype=torch.bool, device=keys.device)
    pending = torch.arange(len(seed), device=keys.device)
    attempt = 0
    while len(pending):
        counter = (index, sample[pending, None], step, view * ATTEMPTS + attempt)
        drawn = torch.cat(philox(counter, keys[seed[pending], None]), -1)[:, :patches] >> (32 - key_bits)
        ranked = drawn.sort(-1).values
        count = counts[seed[pending], None]
        boundary = ranked.gather(1, count)  # the least word that stays visible
        chosen[pending] = drawn < boundary
        # a tie at the boundary leaves too few below it: those samples are drawn again
        pending = pending[(ranked.gather(1, count - 1) == boundary)[:, 0]]
        attempt += 1
    return chosen.view(len(keys), samples, patches)


def visible_words(
    keys: Int[Tensor, " seed"],
    step: int | Tensor,
    view: int,
    cluster: Int[Tensor, "seed sample"],
    position: Int[Tensor, "cluster slot"],
    patches: int,
    masked: int | Int[Tensor, " seed"],
) -> Int[Tensor, "seed tile sample"]:
    """Draw which patches are visible, 32 to a word: bit i of tile t is the position in slot 32 t + i.

    ``position`` lists for each cluster the position in each slot, −1 for none; each sample takes the list of its
    ``cluster``. A kernel where Triton is at hand for the device, else torch.
    """
    counts = _masked_counts(masked, keys, patches)
    if runs_kernels(keys.device):
        from vitdyn.data.counter_kernels import draw_words

        return draw_words(keys, step, view, cluster, position, patches, counts)
    masks = draw_masked(keys, step, view, cluster.shape[1], patches, counts)
    return words_of_visible(~masks, cluster, position)


def visible_patches(
    keys: Int[Tensor, " seed"],
    step: int | Tensor,
    view: int,
    samples: int,
    patches: int,
    masked: int | Int[Tensor, " seed"],
) -> Bool[Tensor, "seed sample patch"]:
    """Draw which patches are visible, one byte each: the same masks as ``visible_words``, in order of position."""
    if not runs_kernels(keys.device):
        return ~draw_masked(keys, step, view, samples, patches, masked)
    slots = -(-patches // 32) * 32
    position = torch.arange(slots, dtype=torch.int32, device=keys.device)
    position = torch.where(position < patches, position, -1)[None]
    cluster = torch.zeros(len(keys), samples, dtype=torch.int64, device=keys.device)
    drawn = visible_words(keys, step, view, cluster, position, patches, masked)
    bit = torch.arange(32, dtype=torch.int32, device=keys.device)
    visible = (drawn.transpose(1, 2)[..., None] >> bit) & 1
    return visible.flatten(2)[..., :patches] > 0


def words_of_visible(
    visible: Bool[Tensor, "seed sample patch"],
    cluster: Int[Tensor, "seed sample"],
    position: Int[Tensor, "cluster slot"],
) -> Int[Tensor, "seed tile sample"]:
    """Pack which patches are visible into words of 32 slots each, in torch."""
    own = position.long()[cluster]
    slots = visible.gather(2, own.clamp(min=0)) & (own >= 0)
    bit = torch.arange(32, device=visible.device)
    return (slots.unflatten(-1, (-1, 32)).long() << bit).sum(-1).int().transpose(1, 2).contiguous()


def runs_kernels(device: torch.device) -> bool:
    """Return whether kernels draw on this device: on CUDA with Triton, on CPU only under Triton's interpreter."""
    try:
        from vitdyn.data import counter_kernels
    except ImportError:
        return False
    return device.type == ("cpu" if counter_kernels.INTERPRETED else "cuda")


def _masked_counts(
    masked: int | Int[Tensor, " seed"], keys: Int[Tensor, " seed"], patches: int
) -> Int[Tensor, " seed"]:
    if patches > _MOST_PATCHES:
        raise invalid_value(
            "patches", patches, f"masks are drawn on a device for {_MOST_PATCHES} patches at most"
        )
    if isinstance(masked, Tensor):
        return masked
    require_integer("masked", masked, at_least=1)
    if masked >= patches:
        raise invalid_value("masked", masked, f"must leave one of {patches} patches visible")
    return torch.full((len(keys),), masked, dtype=torch.int32, device=keys.device)
