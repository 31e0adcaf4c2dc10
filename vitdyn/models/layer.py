"""Area attention of the theory's layer as one differentiable function of its parameters."""

from __future__ import annotations

from math import nan
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchBatch
from vitdyn.kernels import Correlations, Parameters, Path, factored, plan_for
from vitdyn.kernels.autograd_path import autograd_attention
from vitdyn.kernels.inputs import check_batch, not_finite


def area_attention(
    correlations: Parameters, batch: PatchBatch, visible: Tensor
) -> Float[Tensor, "seed sample area query"]:
    """Return how much each position attends to the visible patches of each area.

        A_{p→j} = Σ_{q visible, in area j} softmax_q( Υ_{pq} + u_q z_{a(q)} Φ_{p,a(q)} )

    and, for visible queries of a model with content queries, the two terms of Ψ and Ξ besides (their
    equation is in ``kernels/README.md``). The result is exact. Value and gradient each cost two matrix products of
    P·P·samples multiplications, and no array of (sample, query, key) is made, but for content queries and second
    derivatives of few samples. Rows need not add up to 1: the rest goes to masked patches.

    ``correlations`` are the blocks of Q, among other parameters where a model has more.

    ``visible`` (seed, sample, patch) is true or 1 where a patch is visible. The result can be differentiated twice in
    the correlations. It is safe from overflow at any size of Φ; entries of one row of Υ may differ by up to about 60 in
    float32 (600 in float64) before keys that Φ lifts again are lost to underflow.

    A query or a sample that meets a number which is not finite has NaN. Raises ``ValueError`` where shapes do not fit
    the layout, a cluster is none of its clusters, or ``visible`` is neither 0 nor 1. Source: vitdyn's notes,
    ``gradients.md``.

    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> batch = generator.sample(1, seeds=[0])
    >>> import torch
    >>> everything = torch.ones(1, 1, 16, dtype=torch.bool)
    >>> vd.area_attention(vd.Correlations.zeros(generator.layout, seeds=1), batch, everything)[0, 0, :, 0]
    tensor([0.5000, 0.2500, 0.2500], dtype=torch.float64)
    """
    correlations = Correlations.of(correlations)
    check_batch(correlations, batch, visible)
    if correlations.content_queries or batch.latents.requires_grad:
        found = autograd_attention(correlations, batch, visible)
    else:
        found = _AreaAttention.apply(
            correlations.feature_position, correlations.position_position, batch, visible
        )
    broken = not_finite(correlations, batch.latents)
    return found if broken is None else found.masked_fill(broken[:, :, None], nan)


def mean_area_attention(
    correlations: Correlations, batch: PatchBatch, visible: Tensor
) -> Float[Tensor, "seed sample area"]:
    """Return Ā_j = (1/P) Σ_p A_{p→j}, the attention of the pooled output.

    Arguments and errors are those of ``area_attention``. Where the plan says so and
    nobody asks for a gradient, no array (sample, area, query) is made.
    """
    check_batch(correlations, batch, visible)
    like, content = correlations.position_position, correlations.content_queries
    asked = batch.latents.requires_grad or any(x.requires_grad for x in correlations.named().values())
    planned = plan_for(batch.layout, like.device.type, like.dtype, content_queries=content, mean_pooled=True)
    if planned.path is not Path.MEAN_POOLED or (asked and torch.is_grad_enabled()):
        return area_attention(correlations, batch, visible).mean(-1)
    found = factored.mean_pooled(correlations, batch, visible)[0]
    broken = not_finite(correlations, batch.latents)
    return found if broken is None else found.masked_fill(broken.any(-1, keepdim=True), nan)


class _AreaAttention(torch.autograd.Function):
    """The factored forward and its closed-form backward, tied together for autograd."""

    @staticmethod
    def forward(ctx: Any, phi: Tensor, upsilon: Tensor, batch: PatchBatch, visible: Tensor) -> Tensor:
        attention, saved = factored.forward(Correlations(phi, upsilon), batch, visible)
        ctx.save_for_backward(phi, upsilon)
        ctx.given, ctx.saved = (batch, visible), saved
        return attention

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        phi, upsilon = ctx.saved_tensors
        if torch.is_grad_enabled():
            # fresh views: autograd must not differentiate through Υ = f(Φ) twice, nor with respect to a fixed block
            leaves = [
                x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in (phi, upsilon)
            ]
            attention = autograd_attention(Correlations(*leaves), *ctx.given)
            first, second = torch.autograd.grad(attention, leaves, cotangents[0], create_graph=True)
        else:
            if ctx.saved is None:  # a second backward through a retained graph: the first used it up
                ctx.saved = factored.forward(Correlations(phi, upsilon), *ctx.given)[1]
            gradient = factored.backward(ctx.saved, cotangents[0])
            ctx.saved = None
            first, second = gradient.feature_position, gradient.position_position
        return first, second, None, None
