"""Area attention composed of ordinary differentiable operations: second derivatives and content queries.

With C_{pj} = u_p z_j where p is in area j, else 0, the logits of a sample are

    Υ + (Φ + C Ξ) Cᵀ + C Ψ,

the terms with Ξ and Ψ for content queries only. While the maps of a seed's samples are few and small they are formed,
by four products and a softmax. Beyond, the same factorisation as in ``factored``, left to autograd: for the queries of
one area a each key is weighted by e^{z_a Ψ_{a,q}} before the product, and z_a Ξ_{a,j} joins Φ_{p,j}. A masked query
keeps Υ and Φ alone.
"""

from __future__ import annotations

from math import inf

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.attention.correlations import Correlations
from vitdyn.attention.geometry import Block, SortedCluster, arrangement
from vitdyn.data import PatchBatch, PatchLayout

FULL_MAPS = 2**21
"""P² · samples up to which maps are formed: at P = 64 with 12 samples 25 times sooner; beyond it is soon no gain."""


def composed_attention(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
) -> Float[Tensor, "seed sample area query"]:
    """Return area attention, differentiable to any order in the correlations and the latents."""
    route = by_maps if forms_maps(layout, latents.shape[1]) else by_areas
    return route(correlations, latents, cluster, visible, layout)


def forms_maps(layout: PatchLayout, samples: int) -> bool:
    """Say whether the maps of so many samples of a seed are formed."""
    return samples * layout.patches**2 <= FULL_MAPS


def by_maps(
    correlations: Correlations, latents: Tensor, cluster: Tensor, visible: Tensor, layout: PatchLayout
) -> Tensor:
    """Softmax of the logits over keys, summed over the visible keys of each area."""
    batch = PatchBatch(layout, (), cluster, latents.to(correlations.position_position))
    shown = (batch.membership * (visible != 0)[:, :, None]).mT
    content = shown * batch.latents[:, :, None]
    seeds = torch.arange(len(cluster), device=cluster.device)[:, None]
    pull = correlations.feature_position[seeds, :, cluster]
    if correlations.content_position is None or correlations.content_content is None:
        logits = pull @ content.mT + correlations.position_position[:, None]
    else:
        logits = (pull + content @ correlations.content_content[seeds, cluster]) @ content.mT
        logits = logits + content @ correlations.content_position[seeds, cluster]
        logits = logits + correlations.position_position[:, None]
    return (torch.softmax(logits, -1) @ shown).mT


def by_areas(
    correlations: Correlations, latents: Tensor, cluster: Tensor, visible: Tensor, layout: PatchLayout
) -> Tensor:
    """Go through the samples of each cluster, and through the areas of the queries."""
    upsilon = correlations.position_position
    kernel = torch.exp(upsilon - upsilon.detach().amax(-1, keepdim=True))
    by_cluster = arrangement(layout, cluster)
    strengths, seen = by_cluster.arrange(latents), by_cluster.arrange(visible).to(upsilon.dtype)
    parts: dict[int | None, list[Tensor]] = {}
    for block in by_cluster.blocks:
        count = len(block.areas.spans)
        part = _block_attention(
            correlations,
            block,
            kernel[block.seeds],
            block.of(strengths)[:, :, :count],
            block.areas.sort(block.of(seen)),
        )
        widened = torch.nn.functional.pad(part, (0, 0, 0, layout.areas - count))
        parts.setdefault(block.seeds.start, []).append(widened)
    return by_cluster.restore(torch.cat([torch.cat(samples, 1) for samples in parts.values()]))


def _block_attention(
    correlations: Correlations, block: Block, kernel: Tensor, latents: Tensor, visible: Tensor
) -> Tensor:
    areas, cluster = block.areas, block.areas.cluster
    phi = correlations.feature_position[block.seeds, :, cluster, : len(areas.spans)].transpose(1, 2)[:, None]
    by_key = areas.sort(kernel).transpose(1, 2)
    attention = _normalised(areas, by_key, visible, 1 - visible, latents[..., None] * phi)
    if correlations.content_position is None or correlations.content_content is None:
        return attention
    psi = correlations.content_position[block.seeds, None, cluster]
    xi = correlations.content_content[block.seeds, None, cluster]
    rows = areas.sort(torch.arange(kernel.shape[1], device=kernel.device))
    by_area = []
    for area, (start, stop) in enumerate(areas.spans):
        positions = rows[start:stop]
        own = latents[:, :, area, None]
        tilt = own * areas.sort(psi[:, :, area])
        weight = torch.exp(tilt - tilt.detach().amax(-1, keepdim=True))
        pull = phi[..., positions] + (own * xi[:, :, area, : len(areas.spans)])[..., None]
        with_content = _normalised(
            areas,
            by_key[:, :, positions],
            visible * weight,
            (1 - visible) * weight,
            latents[..., None] * pull,
        )
        shown = visible[:, :, None, start:stop] > 0
        by_area.append(torch.where(shown, with_content, attention[..., positions]))
    return areas.unsort(torch.cat(by_area, -1))


def _normalised(
    areas: SortedCluster, by_key: Tensor, visible: Tensor, masked: Tensor, exponent: Tensor
) -> Float[Tensor, "seed member area query"]:
    """Return e^x W / (W_0 + Σ_j e^x W) for the exponents x, with weights of visible and of masked keys."""
    masses = torch.stack(
        [visible[:, :, start:stop] @ by_key[:, start:stop] for start, stop in areas.spans], dim=2
    )
    masked_mass = masked @ by_key
    present = masses > 0
    shown = torch.where(present, exponent, -inf).detach()
    shift = torch.maximum(shown.amax(2), torch.where(masked_mass > 0, 0.0, -inf).to(shown))[:, :, None]
    unnormalised = torch.exp(torch.where(present, exponent, shift) - shift) * masses
    lowered = torch.exp(torch.where(masked_mass > 0, -shift[:, :, 0], 0.0))
    return unnormalised / (unnormalised.sum(2) + lowered * masked_mass)[:, :, None]
