"""The factored evaluation of area attention by whichever backend the plan says. Records no autograd graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchBatch
from vitdyn.kernels.backend import Backend
from vitdyn.kernels.inputs import require_layers_data
from vitdyn.kernels.parameters import Correlations
from vitdyn.kernels.plan import backend_for
from vitdyn.kernels.workspace import Workspace


@dataclass(frozen=True)
class Saved:
    """What a forward leaves for one ``backward``: the backend that ran it, and that backend's own record."""

    backend: Backend
    parts: Any


def forward(
    parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace | None = None
) -> tuple[Float[Tensor, "seed sample area query"], Saved]:
    """Return area attention and what ``backward`` needs."""
    backend, parameters, batch = _detached(parameters, batch)
    attention, parts = backend.forward(parameters, batch, view, workspace or Workspace())
    return attention, Saved(backend, parts)


def mean_pooled(
    parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace | None = None
) -> tuple[Float[Tensor, "seed sample area"], Saved]:
    """Return Ā_{bj} = (1/P) Σ_p A_{bjp} and what ``backward`` needs."""
    backend, parameters, batch = _detached(parameters, batch)
    means, parts = backend.mean_pooled(parameters, batch, view, workspace or Workspace())
    return means, Saved(backend, parts)


def backward(saved: Saved, cotangent: Float[Tensor, "seed sample area #query"]) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``cotangent`` (a query axis of 1 stands for all queries).

    The result lies in the forward's workspace, and what the forward saved is used up. Attention and Υ must
    not have been written to since the forward.
    """
    # The backend that ran the forward, even if another would be chosen now: only it can read what it kept.
    return saved.backend.backward(saved.parts, cotangent)


def residual_gradient(
    parameters: Correlations,
    batch: PatchBatch,
    view: Tensor,
    scale: float | Float[Tensor, " seed"],
    workspace: Workspace | None = None,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) of masked reconstruction, without attention in between. It lies in the workspace."""
    backend, parameters, batch = _detached(parameters, batch)
    return backend.residual_gradient(parameters, batch, view, scale, workspace or Workspace())


def _detached(parameters: Correlations, batch: PatchBatch) -> tuple[Backend, Correlations, PatchBatch]:
    """Return the backend with the blocks of queries by position and the batch, without a graph."""
    require_layers_data(batch)
    # content blocks go too: whoever comes here asks for queries by position
    phi, upsilon = parameters.feature_position, parameters.position_position
    if parameters.content_queries or phi.requires_grad or upsilon.requires_grad:
        parameters = Correlations(phi.detach(), upsilon.detach())
    if batch.latents.requires_grad:
        batch = replace(batch, latents=batch.latents.detach())
    return backend_for(batch.layout, upsilon.device.type, upsilon.dtype), parameters, batch
