"""Area attention composed of ordinary differentiable operations: second derivatives and content queries.

The same factorisation as in ``factored``, left to autograd. A visible query of a model with content
queries has the logit

    Υ_{pq} + u_q z_{a(q)} Φ_{p,a(q)} + z_{a(p)} Ψ_{a(p),q} + u_q z_{a(p)} z_{a(q)} Ξ_{a(p),a(q)},

so for the queries of one area a each key is weighted by e^{z_a Ψ_{a,q}} before the product, and
z_a Ξ_{a,j} joins Φ_{p,j}. A masked query has no content and keeps the first two terms.
"""

from __future__ import annotations

from math import inf

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.attention.correlations import Correlations
from vitdyn.attention.geometry import Group, SortedCluster, sample_groups
from vitdyn.data import PatchLayout


def composed_attention(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
) -> Float[Tensor, "seed sample area query"]:
    """Return area attention, differentiable to any order in the correlations and the latents."""
    upsilon = correlations.position_position
    kernel = torch.exp(upsilon - upsilon.detach().amax(-1, keepdim=True))
    seen = visible.to(upsilon.dtype)
    attention = upsilon.new_zeros(*latents.shape, layout.patches)
    for group in sample_groups(layout, cluster):
        count = len(group.areas.spans)
        part = _group_attention(
            correlations, group, kernel, group.take(latents)[:, :, :count], group.areas.sort(group.take(seen))
        )
        attention = group.put(attention, torch.nn.functional.pad(part, (0, 0, 0, layout.areas - count)))
    return attention


def _group_attention(
    correlations: Correlations, group: Group, kernel: Tensor, latents: Tensor, visible: Tensor
) -> Tensor:
    areas = group.areas
    phi = correlations.feature_position[:, :, areas.cluster, : len(areas.spans)].transpose(1, 2)[:, None]
    by_key = areas.sort(kernel).transpose(1, 2)
    attention = _normalised(areas, by_key, visible, 1 - visible, latents[..., None] * phi)
    psi, xi = correlations.content_position, correlations.content_content
    if psi is None or xi is None:
        return attention
    rows = areas.sort(torch.arange(kernel.shape[1], device=kernel.device))
    by_area = []
    for area, (start, stop) in enumerate(areas.spans):
        positions = rows[start:stop]
        own = latents[:, :, area, None]
        tilt = own * areas.sort(psi[:, None, areas.cluster, area])
        weight = torch.exp(tilt - tilt.detach().amax(-1, keepdim=True))
        pull = phi[..., positions] + (own * xi[:, None, areas.cluster, area, : len(areas.spans)])[..., None]
        with_content = _normalised(
            areas, by_key[:, :, positions], visible * weight, (1 - visible) * weight, latents[..., None] * pull
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
    return unnormalised / (unnormalised.sum(2) + torch.exp(-shift[:, :, 0]) * masked_mass)[:, :, None]
