"""The factored forward of area attention and its closed-form pull-back (queries by position).

Within an area the content part of a logit is one number for each query and sample, so with
E_{pq} = exp(Υ_{pq}), shared by all samples, and u_{bq} = 1 where patch q is visible,

    W_{bjp} = Σ_{q in area j} u_{bq} E_{pq},      W_{b0p} = Σ_q (1 − u_{bq}) E_{pq}
    R_{bjp} = e^{z_bj Φ_pj} / Z_bp,   R_{b0p} = 1 / Z_bp,   Z_bp = W_{b0p} + Σ_j e^{z_bj Φ_pj} W_{bjp}
    A_{bjp} = R_{bjp} W_{bjp}

and for a loss with G = ∂L/∂A, Ḡ_bp = Σ_j A_bjp G_bjp:

    ∂L/∂Φ_pj  = Σ_b z_bj A_bjp (G_bjp − Ḡ_bp)
    ∂L/∂Υ_pq  = E_pq Σ_b [ u_bq R_{b a(q) p} (G_{b a(q) p} − Ḡ_bp) − (1 − u_bq) R_b0p Ḡ_bp ]

Two matrix products of P·P·samples multiplications each: W_0 is Σ_q E_pq − Σ_j W_j. Where correlations are
large (|zΦ| beyond 12 or |Υ| beyond 2), or a sample shows over 90 % of its patches, that difference would lose digits, so W_0 is a product of its own, and
exponents are shifted by the row maximum of Υ and by c_bp = max(0, z_bj Φ_pj over the areas j that sample b shows), so
that none overflows and Z never vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.attention.correlations import Correlations
from vitdyn.attention.geometry import Arrangement, arrangement
from vitdyn.data import PatchLayout

_MODERATE_EXPONENT, _MODERATE_SPREAD, _MODERATE_SHARE = 12.0, 2.0, 0.9


class Workspace:
    """Arrays that are used again from step to step: fresh pages cost more than the arithmetic on them.

    What a forward returned lies in its workspace and holds until the next forward with the same one.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Return an uninitialised array, the same one as last time where name, shape and kind agree."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != like.dtype or array.device != like.device:
            array = self._arrays[name] = torch.empty(shape, dtype=like.dtype, device=like.device)
        return array


@dataclass(frozen=True)
class Saved:
    """What the forward leaves for one pull-back: samples in the order of their clusters, R kept times Z.

    ``seen`` holds the visible patches sorted by area, each block in the order of its own cluster.
    """

    layout: PatchLayout
    workspace: Workspace
    by_cluster: Arrangement
    kernel: Float[Tensor, "seed query key"]
    seen: Float[Tensor, "seed sample key"]
    latents: Float[Tensor, "seed sample area"]
    masses: Float[Tensor, "seed sample area query"]
    attention: Float[Tensor, "seed sample area query"]
    ratios: Float[Tensor, "seed sample area query"]
    masked_ratio: Float[Tensor, "seed sample query"] | None
    inverse: Float[Tensor, "seed sample query"]


def factored_forward(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
    workspace: Workspace | None = None,
) -> tuple[Float[Tensor, "seed sample area query"], Saved]:
    """Return area attention and what ``factored_pullback`` needs. Records no autograd graph."""
    work, by_cluster = workspace or Workspace(), arrangement(layout, cluster)
    phi, upsilon = correlations.feature_position.detach(), correlations.position_position.detach()
    latents, shown = by_cluster.arrange(latents.detach()), by_cluster.arrange(visible)
    shape = (*latents.shape, layout.patches)
    seen = work.take("seen", phi, *shown.shape).copy_(shown)
    careful = phi.is_cuda or _loses_digits(phi, upsilon, latents, seen)

    kernel = work.take("kernel", phi, *upsilon.shape)
    torch.sub(upsilon, upsilon.amax(-1, keepdim=True), out=kernel).exp_() if careful else torch.exp(
        upsilon, out=kernel
    )
    masses, ratios = work.take("masses", phi, *shape), work.take("ratios", phi, *shape)
    inverse = torch.bmm(1 - seen, kernel.transpose(1, 2)) if careful else None
    _fill_blocks(by_cluster, kernel, phi, latents, seen, masses, ratios)
    if inverse is None:
        inverse = _over_areas(masses, work.take("sums", phi, *shown.shape))
        torch.sub(kernel.sum(-1)[:, None], inverse, out=inverse).clamp_min_(0)

    masked_ratio = _shift(ratios, masses, seen, work) if careful else None
    ratios.exp_()
    attention = torch.mul(ratios, masses, out=work.take("attention", phi, *shape))
    if masked_ratio is not None:
        inverse.mul_(masked_ratio)
    inverse.add_(_over_areas(attention, work.take("means", phi, *shown.shape))).reciprocal_()
    attention.mul_(inverse[:, :, None])
    saved = Saved(
        layout, work, by_cluster, kernel, seen, latents, masses, attention, ratios, masked_ratio, inverse
    )
    return by_cluster.restore(attention), saved


def _over_areas(values: Tensor, out: Tensor) -> Tensor:
    """Sum over the areas into ``out``: as a product with ones, which is twice as fast on CPU as a sum."""
    rows = values.flatten(0, 1)
    torch.bmm(rows.new_ones(len(rows), 1, rows.shape[1]), rows, out=out.view(len(rows), 1, -1))
    return out


def _loses_digits(phi: Tensor, upsilon: Tensor, latents: Tensor, seen: Tensor) -> bool:
    """Say whether exponents could overflow, or a difference of masses could lose its digits."""
    least, most = torch.aminmax(upsilon)
    large = (-least > _MODERATE_SPREAD) | (most > _MODERATE_SPREAD)
    few_masked = seen.mean(-1).amax() > _MODERATE_SHARE
    return bool(large | few_masked | (phi.abs().amax() * latents.amax() > _MODERATE_EXPONENT))


def _fill_blocks(
    by_cluster: Arrangement,
    kernel: Tensor,
    phi: Tensor,
    latents: Tensor,
    seen: Tensor,
    masses: Tensor,
    ratios: Tensor,
) -> None:
    """Write W into ``masses`` and the exponents zΦ into ``ratios``, block by block, and sort ``seen`` by area."""
    kernels = {}
    for block in by_cluster.blocks:
        areas, member = block.areas, block.of(seen)
        member.copy_(areas.sort(member))
        if areas.cluster not in kernels:
            kernels[areas.cluster] = areas.sort(kernel)
        by_key = kernels[areas.cluster][block.seeds].transpose(1, 2)
        mass = block.of(masses)
        for area, (start, stop) in enumerate(areas.spans):
            torch.bmm(member[:, :, start:stop], by_key[:, start:stop], out=mass[:, :, area])
        mass[:, :, len(areas.spans) :].zero_()
        weights = phi[block.seeds, :, areas.cluster].transpose(1, 2)[:, None].contiguous()
        torch.mul(block.of(latents)[..., None], weights, out=block.of(ratios))


def _shift(ratios: Tensor, masses: Tensor, seen: Tensor, work: Workspace) -> Tensor:
    """Subtract from the exponents, in place, the largest that counts; return what masked keys are left with."""
    some_masked = (seen.sum(-1, keepdim=True) < seen.shape[-1]).to(seen)
    ratios.masked_fill_(masses == 0, -inf)
    shift = torch.amax(ratios, 2, out=work.take("shift", ratios, *ratios.shape[:2], ratios.shape[3]))
    torch.maximum(shift, some_masked.log(), out=shift)
    ratios.sub_(shift[:, :, None])
    return shift.neg_().masked_fill_(some_masked == 0, -inf).exp_()  # not exp times 0: exp may be infinite


def factored_pullback(
    saved: Saved,
    adjoint: Float[Tensor, "seed sample area #query"],
    weight: Float[Tensor, "seed sample query"] | None = None,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``weight`` · ``adjoint`` (a query axis of 1 stands for all queries).

    The result lies in the forward's workspace, and what the forward saved is used up.
    """
    work, by_cluster, attention = saved.workspace, saved.by_cluster, saved.attention
    adjoint = by_cluster.arrange(adjoint)
    scale = saved.inverse if weight is None else saved.inverse.mul_(by_cluster.arrange(weight))
    weighted = torch.mul(attention, adjoint, out=work.take("weighted", attention, *attention.shape))
    mean = _over_areas(weighted, work.take("means", attention, *scale.shape))
    masked = mean.mul_(scale)
    pull = torch.addcmul(-masked[:, :, None], adjoint, scale[:, :, None], out=weighted).mul_(saved.ratios)
    by_feature = saved.masses.mul_(pull).mul_(saved.latents[..., None])
    if saved.masked_ratio is not None:
        masked.mul_(saved.masked_ratio)
    pull.add_(masked[:, :, None])
    phi, upsilon = _collect_blocks(saved, by_feature, pull)
    return Correlations(phi, upsilon.sub_(masked.sum(1)[:, :, None]).mul_(saved.kernel))


def _collect_blocks(saved: Saved, by_feature: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over the samples of each block: what pulls at Φ, and Σ_b u_bq pull_{b a(q) p} for Υ."""
    seeds, patches, layout = len(pull), pull.shape[-1], saved.layout
    phi = pull.new_zeros(seeds, patches, layout.clusters, layout.areas)
    upsilon = saved.workspace.take("gradient", pull, seeds, patches, patches)
    several = layout.clusters > 1
    if several:
        upsilon.zero_()
    for block in saved.by_cluster.blocks:
        areas = block.areas
        phi[block.seeds, :, areas.cluster] = block.of(by_feature).sum(1).transpose(1, 2)
        target = upsilon[block.seeds]
        part = (
            saved.workspace.take("part", pull, *target.shape)
            if several or areas.order is not None
            else target
        )
        member, pulled = block.of(saved.seen), block.of(pull)
        for area, (start, stop) in enumerate(areas.spans):
            torch.bmm(
                pulled[:, :, area].transpose(1, 2), member[:, :, start:stop], out=part[:, :, start:stop]
            )
        if several:
            target.add_(areas.unsort(part))
        elif areas.order is not None:
            target.copy_(areas.unsort(part))
    return phi, upsilon
