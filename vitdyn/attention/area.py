"""Area attention as one differentiable function of the correlations."""

from __future__ import annotations

from math import nan
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.attention.composed import composed_attention
from vitdyn.attention.correlations import Correlations
from vitdyn.attention.factored import factored_forward, factored_pullback, pooled_forward, pools
from vitdyn.attention.inputs import check_batch, not_finite
from vitdyn.data import PatchLayout


def area_attention(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
) -> Float[Tensor, "seed sample area query"]:
    """Return how much each position attends to the visible patches of each area.

        A_{p→j} = Σ_{q visible, in area j} softmax_q( Υ_{pq} + u_q z_{a(q)} Φ_{p,a(q)} )

    and, for visible queries of a model with content queries, the two terms of Ψ and Ξ besides (their
    equation is in ``composed``). Exact. Without any array of (sample, query, key), but for content queries and second
    derivatives of few samples: the cost is two matrix products of P·P·samples each, for the value and for the gradient.
    The rows need not add up to 1: the rest goes to masked patches.

    ``visible`` (seed, sample, patch) is true or 1 where a patch is seen. Differentiable twice in the
    correlations. Safe from overflow at any size of Φ; the entries of one row of Υ may differ by up to about
    60 in float32 (600 in float64) before keys that Φ lifts again are lost to underflow.

    A query or a sample that meets a number which is not finite has NaN. Raises ``ValueError`` where shapes do not fit
    the layout, a cluster is none of its clusters, or ``visible`` is neither 0 nor 1. Source: vitdyn's notes,
    ``gradients.md``.
    """
    check_batch(correlations, latents, cluster, visible, layout)
    if correlations.content_queries or latents.requires_grad:
        found = composed_attention(correlations, latents, cluster, visible, layout)
    else:
        found = _AreaAttention.apply(
            correlations.feature_position, correlations.position_position, latents, cluster, visible, layout
        )
    broken = not_finite(correlations, latents)
    return found if broken is None else found.masked_fill(broken[:, :, None], nan)


def mean_area_attention(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
) -> Float[Tensor, "seed sample area"]:
    """Return Ā_j = (1/P) Σ_p A_{p→j}, the attention of the pooled output; all else as of ``area_attention``.

    Without any array of (sample, area, query) where the engine pools and nobody asks for a gradient.
    """
    given = latents, cluster, visible, layout
    check_batch(correlations, *given)
    like = correlations.position_position
    asked = latents.requires_grad or any(part.requires_grad for part in correlations.named().values())
    pooled = not correlations.content_queries and pools(layout, like.device.type, like.dtype)
    if not pooled or (asked and torch.is_grad_enabled()):
        return area_attention(correlations, *given).mean(-1)
    found, broken = pooled_forward(correlations, *given)[0], not_finite(correlations, latents)
    return found if broken is None else found.masked_fill(broken.any(-1, keepdim=True), nan)


class _AreaAttention(torch.autograd.Function):
    """The factored forward and its closed-form pull-back, tied together for autograd."""

    @staticmethod
    def forward(ctx: Any, phi: Tensor, upsilon: Tensor, *batch: Any) -> Tensor:
        attention, saved = factored_forward(Correlations(phi, upsilon), *batch)
        ctx.save_for_backward(phi, upsilon)
        ctx.batch, ctx.saved = batch, saved
        return attention

    @staticmethod
    def backward(ctx: Any, *adjoints: Tensor) -> Any:
        phi, upsilon = ctx.saved_tensors
        if torch.is_grad_enabled():
            # views of their own: neither a block that is held fixed nor one made from the other may count
            leaves = [
                x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in (phi, upsilon)
            ]
            attention = composed_attention(Correlations(*leaves), *ctx.batch)
            first, second = torch.autograd.grad(attention, leaves, adjoints[0], create_graph=True)
        else:
            if ctx.saved is None:  # a second backward through a retained graph: the first used it up
                ctx.saved = factored_forward(Correlations(phi, upsilon), *ctx.batch)[1]
            gradient = factored_pullback(ctx.saved, adjoints[0])
            ctx.saved = None
            first, second = gradient.feature_position, gradient.position_position
        return first, second, None, None, None, None
