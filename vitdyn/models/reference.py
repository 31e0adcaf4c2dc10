"""Attention in full: the plain transcription with the matrix Q and tokens in R^d, and maps of single images.

The transcription is the oracle that every backend is tested against: slow and exact.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.data import Basis, PatchBatch
from vitdyn.kernels.inputs import check_batch
from vitdyn.kernels.parameters import Correlations


def dense_attention(
    matrix: Float[Tensor, "seed feature feature"],
    patches: Float[Tensor, "seed sample patch feature"],
    visible: Tensor,
    basis: Basis,
    *,
    content_queries: bool = True,
) -> Float[Tensor, "seed sample query key"]:
    """Return attn_{p→q} = softmax_q( t_pᵀ Q t_q ) with the tokens t_p = u_p X_p + e_p.

    Without content queries the query is e_p alone. Memory: seeds · samples · P · P numbers and more.
    """
    positions = basis.positions.to(patches)
    tokens = visible[..., None].to(patches) * patches + positions
    queries = tokens if content_queries else positions.expand_as(tokens)
    return torch.softmax(torch.einsum("sbpd,sdf,sbqf->sbpq", queries, matrix, tokens), dim=-1)


def dense_area_attention(
    attention: Float[Tensor, "seed sample query key"], batch: PatchBatch, visible: Tensor
) -> Float[Tensor, "seed sample area query"]:
    """Return A_{p→j} = Σ_{q visible, in area j} attn_{p→q}."""
    member = torch.nn.functional.one_hot(batch.area, batch.layout.areas).to(attention)
    return torch.einsum("sbpq,sbq,sbqj->sbjp", attention, visible.to(attention), member)


def attend(
    correlations: Correlations, batch: PatchBatch, visible: Tensor
) -> Float[Tensor, "seed sample query key"]:
    """Return the full attention maps of a batch, for inspection of a few images.

        attn_{p→q} = softmax_q( Υ_pq + u_q z_a(q) Φ_{p,a(q)}
                                + u_p z_a(p) Ψ_{a(p),q} + u_p u_q z_a(p) z_a(q) Ξ_{a(p),a(q)} )

    the last two terms for content queries only. Memory: seeds · samples · P · P numbers; take a small batch.
    """
    check_batch(correlations, batch, visible)
    upsilon, area = correlations.position_position, batch.area
    content = (batch.patch_latent * visible).to(upsilon)
    # sample by sample: what is made on the way has the size of one sample's maps, not of all
    maps = []
    for sample in range(batch.count):
        seeds, cluster, own = (
            torch.arange(len(area), device=area.device),
            batch.cluster[:, sample],
            area[:, sample],
        )
        here = content[:, sample]
        phi = correlations.feature_position[seeds, :, cluster]
        # u_q z_{a(q)} in the row of q's own area, 0 elsewhere: one term for each entry, so the product rounds once
        keys = phi.new_zeros(phi.shape[0], phi.shape[2], phi.shape[1]).scatter_(
            1, own[:, None], here[:, None]
        )
        logits = torch.bmm(phi, keys).add_(upsilon)
        if correlations.content_position is not None and correlations.content_content is not None:
            psi = correlations.content_position[seeds, cluster].gather(1, own[:, :, None].expand_as(upsilon))
            xi = correlations.content_content[seeds, cluster]
            xi = xi.gather(1, own[:, :, None].expand(-1, -1, xi.shape[2])).gather(
                2, own[:, None].expand_as(upsilon)
            )
            logits = logits + here[:, :, None] * (psi + here[:, None] * xi)
        maps.append(torch.softmax(logits, -1))
    return torch.stack(maps, 1)
