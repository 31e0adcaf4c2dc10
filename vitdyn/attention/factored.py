"""The factored forward of area attention and its closed-form pull-back (queries by position).

Within an area the content part of a logit is one number for each query and sample, so with
E_{pq} = exp(Υ_{pq} − max_q Υ_{pq}), shared by all samples, and u_{bq} = 1 where patch q is visible,

    W_{bjp} = Σ_{q in area j} u_{bq} E_{pq},      W_{b0p} = Σ_q (1 − u_{bq}) E_{pq}
    R_{bjp} = e^{z_bj Φ_pj} / Z_bp,   R_{b0p} = 1 / Z_bp,   Z_bp = W_{b0p} + Σ_j e^{z_bj Φ_pj} W_{bjp}
    A_{bjp} = R_{bjp} W_{bjp}

and for a loss with G = ∂L/∂A, Ḡ_bp = Σ_j A_bjp G_bjp:

    ∂L/∂Φ_pj  = Σ_b z_bj A_bjp (G_bjp − Ḡ_bp)
    ∂L/∂Υ_pq  = E_pq Σ_b [ u_bq R_{b a(q) p} (G_{b a(q) p} − Ḡ_bp) − (1 − u_bq) R_b0p Ḡ_bp ]

Two matrix products of P·P·samples multiplications each: W_0 is Σ_q E_pq − Σ_j W_j. Where correlations are
large (|zΦ| beyond 12, or Υ spread over more than 3) that difference would lose digits, so W_0 is a product
of its own, and exponents are shifted by c_bp = max(0, z_bj Φ_pj over the areas j that sample b shows), so
that none overflows and Z never vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.attention.correlations import Correlations
from vitdyn.attention.geometry import Group, sample_groups
from vitdyn.data import PatchLayout


_MODERATE_EXPONENT, _MODERATE_SPREAD = 12.0, 3.0


class Workspace:
    """Arrays that are used again from step to step: fresh pages cost more than the arithmetic on them.

    What a forward returned lies in its workspace and holds until the next forward with the same one.
    """

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, int], Tensor] = {}

    def take(self, name: str, like: Tensor, *shape: int, part: int = 0) -> Tensor:
        """Return an uninitialised array, the same one as last time where name, part and shape agree."""
        array = self._arrays.get((name, part))
        if array is None or array.shape != shape or array.dtype != like.dtype or array.device != like.device:
            array = self._arrays[name, part] = torch.empty(shape, dtype=like.dtype, device=like.device)
        return array


@dataclass(frozen=True)
class _Shares:
    """What the pull-back needs of one group of samples; ``visible`` is sorted by area, R is kept times Z."""

    group: Group
    visible: Float[Tensor, "seed member key"]
    latents: Float[Tensor, "seed member area"]
    masses: Float[Tensor, "seed member area query"]
    attention: Float[Tensor, "seed member area query"]
    ratios: Float[Tensor, "seed member area query"]
    masked_ratio: Float[Tensor, "seed member query"] | None
    inverse: Float[Tensor, "seed member query"]


@dataclass(frozen=True)
class Saved:
    """What the forward leaves for one pull-back."""

    layout: PatchLayout
    kernel: Float[Tensor, "seed query key"]
    shares: tuple[_Shares, ...]
    workspace: Workspace


def factored_forward(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
    workspace: Workspace | None = None,
) -> tuple[Float[Tensor, "seed sample area query"], Saved]:
    """Return area attention and what ``factored_pullback`` needs. Records no autograd graph."""
    work = workspace or Workspace()
    phi, upsilon = correlations.feature_position.detach(), correlations.position_position.detach()
    kernel = torch.sub(upsilon, upsilon.amax(-1, keepdim=True), out=work.take("kernel", phi, *upsilon.shape)).exp_()
    seen = work.take("seen", phi, *visible.shape).copy_(visible)
    careful = phi.is_cuda or _is_large(phi, upsilon, latents)
    attention, shares = _blank(phi, latents), []
    for group in sample_groups(layout, cluster):
        areas = group.areas
        part = _group_shares(
            group,
            areas.sort(group.take(seen)),
            group.take(latents)[:, :, : len(areas.spans)],
            areas.sort(kernel),
            phi[:, :, areas.cluster, : len(areas.spans)].transpose(1, 2)[:, None].contiguous(),
            work,
            careful,
        )
        shares.append(part)
        attention = group.put(attention, _widen(part.attention, layout.areas))
    return attention, Saved(layout, kernel, tuple(shares), work)


def _is_large(phi: Tensor, upsilon: Tensor, latents: Tensor) -> bool:
    """Say whether exponents could overflow, or a difference of masses could lose its digits."""
    exponent = phi.abs().amax() * latents.amax()
    spread = upsilon.amax() - upsilon.amin()
    return bool((exponent > _MODERATE_EXPONENT) | (spread > _MODERATE_SPREAD))


def _blank(phi: Tensor, latents: Tensor) -> Tensor:
    return phi.new_zeros(*latents.shape, phi.shape[1]) if phi.shape[2] > 1 else phi


def _widen(attention: Tensor, areas: int) -> Tensor:
    missing = areas - attention.shape[2]
    return torch.nn.functional.pad(attention, (0, 0, 0, missing)) if missing else attention


def _group_shares(
    group: Group, visible: Tensor, latents: Tensor, kernel: Tensor, phi: Tensor, work: Workspace, careful: bool
) -> _Shares:
    cluster, queries = group.areas.cluster, phi.shape[-1]
    shape, rest = (*latents.shape, queries), (*visible.shape[:2], queries)
    masses = work.take("masses", phi, *shape, part=cluster)
    for area, (start, stop) in enumerate(group.areas.spans):
        torch.bmm(visible[:, :, start:stop], kernel[:, :, start:stop].transpose(1, 2), out=masses[:, :, area])
    some_masked = (visible.sum(-1, keepdim=True) < visible.shape[-1]).to(phi)
    inverse = work.take("sums", phi, *rest, part=cluster)
    if careful:
        torch.bmm(1 - visible, kernel.transpose(1, 2), out=inverse)
    else:
        torch.sum(masses, 2, out=inverse)
        torch.sub(kernel.sum(-1)[:, None], inverse, out=inverse).clamp_min_(0).mul_(some_masked)

    ratios = torch.mul(latents[..., None], phi, out=work.take("ratios", phi, *shape, part=cluster))
    masked_ratio = _shift(ratios, masses, some_masked, work, cluster) if careful else None
    ratios.exp_()
    attention = torch.mul(ratios, masses, out=work.take("attention", phi, *shape, part=cluster))
    if masked_ratio is not None:
        inverse.mul_(masked_ratio)
    inverse.add_(torch.sum(attention, 2, out=work.take("means", phi, *rest, part=cluster))).reciprocal_()
    attention.mul_(inverse[:, :, None])
    return _Shares(group, visible, latents, masses, attention, ratios, masked_ratio, inverse)


def _shift(ratios: Tensor, masses: Tensor, some_masked: Tensor, work: Workspace, cluster: int) -> Tensor:
    """Subtract from the exponents, in place, the largest that counts; return what masked keys are left with."""
    ratios.masked_fill_(masses == 0, -inf)
    shift = torch.amax(ratios, 2, out=work.take("shift", ratios, *some_masked.shape[:2], ratios.shape[-1], part=cluster))
    torch.maximum(shift, some_masked.log(), out=shift)
    ratios.sub_(shift[:, :, None])
    return shift.neg_().exp_().mul_(some_masked)


def factored_pullback(
    saved: Saved,
    adjoint: Float[Tensor, "seed sample area #query"],
    weight: Float[Tensor, "seed sample query"] | None = None,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``weight`` · ``adjoint`` (a query axis of 1 stands for all queries).

    The result lies in the forward's workspace, and what the forward saved is used up.
    """
    seeds, patches, _ = saved.kernel.shape
    phi = saved.kernel.new_zeros(seeds, patches, saved.layout.clusters, saved.layout.areas)
    upsilon = saved.workspace.take("gradient", phi, seeds, patches, patches)
    for index, part in enumerate(saved.shares):
        areas, group = part.group.areas, part.group
        scale = part.inverse if weight is None else part.inverse.mul_(group.take(weight))
        pulled, pulled_upsilon = _group_pullback(
            part, group.take(adjoint)[:, :, : len(areas.spans)], group.blank_padding(scale), saved.workspace
        )
        phi[:, :, areas.cluster, : len(areas.spans)] = pulled
        pulled_upsilon = areas.unsort(pulled_upsilon)
        upsilon = upsilon.add_(pulled_upsilon) if index else upsilon.copy_(pulled_upsilon)
    return Correlations(phi, upsilon.mul_(saved.kernel))


def _group_pullback(part: _Shares, adjoint: Tensor, scale: Tensor, work: Workspace) -> tuple[Tensor, Tensor]:
    cluster = part.group.areas.cluster
    weighted = torch.mul(part.attention, adjoint, out=work.take("weighted", scale, *part.attention.shape, part=cluster))
    mean = torch.sum(weighted, 2, out=work.take("means", scale, *scale.shape, part=cluster))
    pull = torch.sub(adjoint, mean[:, :, None], out=weighted)
    pull.mul_(part.ratios.mul_(scale[:, :, None]))
    phi = part.masses.mul_(pull).mul_(part.latents[..., None]).sum(1)
    masked = mean.mul_(scale)
    if part.masked_ratio is not None:
        masked.mul_(part.masked_ratio)
    pull.add_(masked[:, :, None])
    upsilon = work.take("pulled", pull, len(pull), pull.shape[-1], pull.shape[-1])
    for area, (start, stop) in enumerate(part.group.areas.spans):
        torch.bmm(pull[:, :, area].transpose(1, 2), part.visible[:, :, start:stop], out=upsilon[:, :, start:stop])
    return phi.transpose(1, 2), upsilon.sub_(masked.sum(1)[:, :, None])
