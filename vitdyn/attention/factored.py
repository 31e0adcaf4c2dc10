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
large (|zΦ| beyond 12 or |Υ| beyond 2), or a sample shows over 90 % of its patches, that difference would
lose digits, so W_0 is a product of its own, and exponents are shifted by the row maximum of Υ and by
c_bp = max(0, z_bj Φ_pj over the areas j that sample b shows), so that none overflows and Z never vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.attention import shares
from vitdyn.attention.correlations import Correlations
from vitdyn.attention.geometry import Arrangement, arrangement
from vitdyn.attention.workspace import Workspace
from vitdyn.data import PatchLayout

_MODERATE_EXPONENT, _MODERATE_SPREAD, _MODERATE_SHARE = 12.0, 2.0, 0.9


@dataclass(frozen=True)
class Saved:
    """What the forward leaves for one pull-back: samples in the order of their clusters.

    ``seen`` holds the visible patches sorted by area, each block in the order of its own cluster.
    """

    layout: PatchLayout
    workspace: Workspace
    by_cluster: Arrangement
    kernel: Float[Tensor, "seed query key"]
    seen: Float[Tensor, "seed sample key"]
    latents: Float[Tensor, "seed sample area"]
    masses: Float[Tensor, "seed sample area query"]
    shares: shares.Shares


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
    careful = phi.is_cuda or _loses_digits(phi, upsilon, latents, shown)

    kernel = work.take("kernel", phi, *upsilon.shape)
    if careful:
        torch.sub(upsilon, upsilon.amax(-1, keepdim=True), out=kernel).exp_()
    else:
        torch.exp(upsilon, out=kernel)
    seen = work.take("seen", phi, *shown.shape).copy_(shown)
    masked_mass = torch.bmm(1 - seen, kernel.transpose(1, 2)) if careful else None
    masses = work.take("masses", phi, *latents.shape, layout.patches)
    _fill_masses(by_cluster, kernel, seen, masses)
    by_query = phi.permute(0, 2, 3, 1).contiguous()
    found = _engine(phi.device.type).shares(
        by_cluster, by_query, latents.contiguous(), masses, masked_mass, kernel.sum(-1), work
    )
    saved = Saved(layout, work, by_cluster, kernel, seen, latents, masses, found)
    return by_cluster.restore(found.attention), saved


def factored_pullback(
    saved: Saved,
    adjoint: Float[Tensor, "seed sample area #query"],
    weight: Float[Tensor, "seed sample query"] | None = None,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``weight`` · ``adjoint`` (a query axis of 1 stands for all queries).

    The result lies in the forward's workspace, and what the forward saved is used up.
    """
    by_cluster, work = saved.by_cluster, saved.workspace
    phi, pulled, masked = _engine(saved.masses.device.type).pull(
        saved.shares,
        by_cluster,
        saved.latents,
        saved.masses,
        by_cluster.arrange(adjoint),
        None if weight is None else by_cluster.arrange(weight),
        saved.layout.clusters,
        work,
    )
    upsilon = _collect_keys(saved, pulled).sub_(masked[:, :, None]).mul_(saved.kernel)
    return Correlations(phi.permute(0, 3, 1, 2), upsilon)


@cache
def _engine(device: str) -> ModuleType:
    """Return the module that does the work between the products: compiled on CPU where numba is at hand."""
    if device == "cpu":
        try:
            from vitdyn.attention import fused
        except (ImportError, RuntimeError):  # no numba for this Python or machine, or no folder for its cache
            return shares
        return fused
    return shares


def _loses_digits(phi: Tensor, upsilon: Tensor, latents: Tensor, shown: Tensor) -> bool:
    """Say whether exponents could overflow, or a difference of masses could lose its digits."""
    least, most = torch.aminmax(upsilon)
    large = (-least > _MODERATE_SPREAD) | (most > _MODERATE_SPREAD)
    few_masked = shown.sum(-1).amax() > _MODERATE_SHARE * shown.shape[-1]
    return bool(large | few_masked | (phi.abs().amax() * latents.amax() > _MODERATE_EXPONENT))


def _fill_masses(by_cluster: Arrangement, kernel: Tensor, seen: Tensor, masses: Tensor) -> None:
    """Write W into ``masses``, block by block, and sort ``seen`` by area on the way."""
    kernels = {}
    for block in by_cluster.blocks:
        areas, member, mass = block.areas, block.of(seen), block.of(masses)
        member.copy_(areas.sort(member))
        if areas.cluster not in kernels:
            kernels[areas.cluster] = areas.sort(kernel)
        by_key = kernels[areas.cluster][block.seeds].transpose(1, 2)
        for area, (start, stop) in enumerate(areas.spans):
            torch.bmm(member[:, :, start:stop], by_key[:, start:stop], out=mass[:, :, area])
        mass[:, :, len(areas.spans) :].zero_()


def _collect_keys(saved: Saved, pulled: Tensor) -> Float[Tensor, "seed query key"]:
    """Return Σ_b u_bq pulled_{b a(q) p}, the keys in their own order."""
    seeds, patches, several = len(pulled), pulled.shape[-1], saved.layout.clusters > 1
    total = saved.workspace.take("gradient", pulled, seeds, patches, patches)
    if several:
        total.zero_()
    for block in saved.by_cluster.blocks:
        areas, target = block.areas, total[block.seeds]
        direct = areas.order is None and not several
        part = target if direct else saved.workspace.take("part", pulled, *target.shape)
        member, pull = block.of(saved.seen), block.of(pulled)
        for area, (start, stop) in enumerate(areas.spans):
            torch.bmm(pull[:, :, area].transpose(1, 2), member[:, :, start:stop], out=part[:, :, start:stop])
        if several:
            target.add_(areas.unsort(part))
        elif not direct:
            target.copy_(areas.unsort(part))
    return total
