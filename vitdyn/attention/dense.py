"""The plain transcription of the layer: the matrix Q, tokens in R^d, the full softmax. Slow and exact.

It is the oracle that the factored path is tested against, and what is inspected for one image.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.attention.correlations import Correlations
from vitdyn.data import Basis, PatchBatch, orthonormal_basis


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

    Memory: seeds · samples · P · P numbers; take a small batch.
    """
    basis = orthonormal_basis(batch.layout, dtype=correlations.position_position.dtype)
    basis = Basis(*(part.to(batch.cluster.device) for part in (basis.features, basis.positions)))
    return dense_attention(
        correlations.to_matrix(basis),
        batch.patches(basis),
        visible,
        basis,
        content_queries=correlations.content_queries,
    )
