"""Area attention composed of ordinary differentiable operations: second derivatives and content queries.

With C_{pj} = u_p z_j where p is in area j, else 0, the logits of a sample are

    Υ + (Φ + C Ξ) Cᵀ + C Ψ,

the terms with Ξ and Ψ for content queries only. While the maps of a seed's samples are few and small they are formed,
by four products and a softmax. Beyond, the same factorisation as in ``README.md``, left to autograd: for the queries of
one area a each key is weighted by e^{z_a Ψ_{a,q}} before the product, and z_a Ξ_{a,j} joins Φ_{p,j}. A masked query
keeps Υ and Φ alone.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.kernels.geometry import Block, SortedCluster, arrangement
from vitdyn.kernels.parameters import Correlations

FULL_MAPS = 2**21
"""P² · samples up to which maps are formed: at P = 64 with 12 samples 25 times faster; beyond, soon no gain."""


def autograd_attention(
    correlations: Correlations, batch: PatchBatch, visible: Tensor
) -> Float[Tensor, "seed sample area query"]:
    """Return area attention, differentiable to any order in the correlations and the latents."""
    return (by_maps if forms_maps(batch.layout, batch.count) else by_areas)(correlations, batch, visible)


def forms_maps(layout: PatchLayout, samples: int) -> bool:
    """Return whether the maps of so many samples of a seed are formed."""
    return samples * layout.patches**2 <= FULL_MAPS


def by_maps(correlations: Correlations, batch: PatchBatch, visible: Tensor) -> Tensor:
    """Return the softmax of the logits over keys, summed over the visible keys of each area."""
    batch = replace(batch, latents=batch.latents.to(correlations.position_position))
    cluster = batch.cluster
    shown = (batch.membership * (visible != 0)[:, :, None]).mT
    content = shown * batch.latents[:, :, None]
    seeds = torch.arange(len(cluster), device=cluster.device)[:, None]
    boost = correlations.feature_position[seeds, :, cluster]
    if correlations.content_position is None or correlations.content_content is None:
        logits = boost @ content.mT + correlations.position_position[:, None]
    else:
        logits = (boost + content @ correlations.content_content[seeds, cluster]) @ content.mT
        logits = logits + content @ correlations.content_position[seeds, cluster]
        logits = logits + correlations.position_position[:, None]
    return (torch.softmax(logits, -1) @ shown).mT


def by_areas(correlations: Correlations, batch: PatchBatch, visible: Tensor) -> Tensor:
    """Return what ``by_maps`` returns without any map, cluster by cluster of samples and area by area of queries."""
    layout, upsilon = batch.layout, correlations.position_position
    # the maximum is detached: it cancels in attention, and so in its derivatives
    exp_logits = torch.exp(upsilon - upsilon.detach().amax(-1, keepdim=True))
    by_cluster = arrangement(layout, batch.cluster)
    latents, shown = by_cluster.arrange(batch.latents), by_cluster.arrange(visible).to(upsilon.dtype)
    # collected, then joined: what is written in place autograd would have to undo. With one cluster a single block has
    # all seeds, and its slice no start
    parts: dict[int | None, list[Tensor]] = {}
    for block in by_cluster.blocks:
        count = len(block.areas.spans)
        part = _block_attention(
            correlations,
            block,
            exp_logits[block.seeds],
            block.of(latents)[:, :, :count],
            block.areas.sort(block.of(shown)),
        )
        widened = torch.nn.functional.pad(part, (0, 0, 0, layout.areas - count))
        parts.setdefault(block.seeds.start, []).append(widened)
    return by_cluster.restore(torch.cat([torch.cat(samples, 1) for samples in parts.values()]))


def _block_attention(
    correlations: Correlations, block: Block, exp_logits: Tensor, latents: Tensor, visible: Tensor
) -> Tensor:
    areas, cluster = block.areas, block.areas.cluster
    phi = correlations.feature_position[block.seeds, :, cluster, : len(areas.spans)].transpose(1, 2)[:, None]
    by_key = areas.sort(exp_logits).transpose(1, 2)
    attention = _normalised(areas, by_key, visible, 1 - visible, latents[..., None] * phi)
    if correlations.content_position is None or correlations.content_content is None:
        return attention
    psi = correlations.content_position[block.seeds, None, cluster]
    xi = correlations.content_content[block.seeds, None, cluster]
    rows = areas.sort(torch.arange(exp_logits.shape[1], device=exp_logits.device))
    by_area = []
    for area, (start, stop) in enumerate(areas.spans):
        positions = rows[start:stop]
        own = latents[:, :, area, None]
        content_logits = own * areas.sort(psi[:, :, area])
        weight = torch.exp(content_logits - content_logits.detach().amax(-1, keepdim=True))
        boost = phi[..., positions] + (own * xi[:, :, area, : len(areas.spans)])[..., None]
        with_content = _normalised(
            areas,
            by_key[:, :, positions],
            visible * weight,
            (1 - visible) * weight,
            latents[..., None] * boost,
        )
        # a masked query has no content, and attends as in the model without content queries
        shown = visible[:, :, None, start:stop] > 0
        by_area.append(torch.where(shown, with_content, attention[..., positions]))
    return areas.unsort(torch.cat(by_area, -1))


def _normalised(
    areas: SortedCluster, by_key: Tensor, visible: Tensor, masked: Tensor, exponent: Tensor
) -> Float[Tensor, "seed member area query"]:
    """Return e^x W / (W_0 + Σ_j e^x W) for the exponents x, with weights of visible and of masked keys."""
    area_sums = torch.stack(
        [visible[:, :, start:stop] @ by_key[:, start:stop] for start, stop in areas.spans], dim=2
    )
    masked_sums = masked @ by_key
    present = area_sums > 0
    shown = torch.where(present, exponent, -inf).detach()
    shift = torch.maximum(shown.amax(2), torch.where(masked_sums > 0, 0.0, -inf).to(shown))[:, :, None]
    # the choice comes before the exponential: after it, a derivative of 0 would meet one of infinity
    unnormalised = torch.exp(torch.where(present, exponent, shift) - shift) * area_sums
    exp_minus_shift = torch.exp(torch.where(masked_sums > 0, -shift[:, :, 0], 0.0))
    return unnormalised / (unnormalised.sum(2) + exp_minus_shift * masked_sums)[:, :, None]
