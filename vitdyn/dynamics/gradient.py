"""The gradient of an objective with respect to the correlations, and the forward pass it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitdyn.attention import (
    Correlations,
    Saved,
    Workspace,
    area_attention,
    factored_forward,
    factored_pullback,
)
from vitdyn.data import PatchBatch
from vitdyn.dynamics.batches import Views
from vitdyn.objectives import Adjoint, ForwardPass, Memory, Objective


@dataclass
class Workspaces:
    """Scratch arrays of one group of seeds: one set for each view, one for the objective."""

    views: dict[int, Workspace] = field(default_factory=dict)
    objective: Workspace = field(default_factory=Workspace)

    def view(self, index: int) -> Workspace:
        """Return the workspace of one view."""
        return self.views.setdefault(index, Workspace())


def forward_pass(
    correlations: Correlations,
    batch: PatchBatch,
    views: Views,
    memory: Memory,
    workspaces: Workspaces | None = None,
) -> ForwardPass:
    """Return the area attention of the model on every view of a batch, for evaluation."""
    work, attend = workspaces or Workspaces(), _attender(batch, views)
    if correlations.content_queries:
        attention = [attend(correlations, view) for view in range(len(views))]
    else:
        attention = [_factored(correlations, batch, views, view, work)[0] for view in range(len(views))]
    return ForwardPass(batch, views, tuple(attention), memory, attend)


def loss_gradient(
    correlations: Correlations,
    objective: Objective,
    batch: PatchBatch,
    views: Views,
    memory: Memory,
    workspaces: Workspaces | None = None,
) -> tuple[Correlations, ForwardPass]:
    """Return ∂/∂Q of the loss with its weight decay, each seed by itself, and the forward pass.

    Queries by position take the factored forward and its closed-form pull-back; content queries go by
    autograd. Both lie in ``workspaces`` and hold until its next use.
    """
    work = workspaces or Workspaces()
    route = _content_gradient if correlations.content_queries else _position_gradient
    gradient, forward = route(correlations, objective, batch, views, memory, work)
    if objective.weight_decay:
        gradient = gradient.map(
            lambda pull, block: pull.add(block, alpha=objective.weight_decay), correlations
        )
    return gradient, forward


def _attender(batch: PatchBatch, views: Views) -> Callable[[Correlations, int], Tensor]:
    def attend(correlations: Correlations, view: int) -> Tensor:
        with torch.no_grad():
            return area_attention(correlations, batch.latents, batch.cluster, views[view], batch.layout)

    return attend


def _factored(
    correlations: Correlations, batch: PatchBatch, views: Views, view: int, work: Workspaces
) -> tuple[Tensor, Saved]:
    return factored_forward(
        correlations, batch.latents, batch.cluster, views[view], batch.layout, work.view(view)
    )


def _position_gradient(
    correlations: Correlations,
    objective: Objective,
    batch: PatchBatch,
    views: Views,
    memory: Memory,
    work: Workspaces,
) -> tuple[Correlations, ForwardPass]:
    attention, saved = zip(
        *(_factored(correlations, batch, views, view, work) for view in range(len(views))), strict=True
    )
    forward = ForwardPass(batch, views, attention, memory, _attender(batch, views))
    parts = [
        factored_pullback(kept, adjoint.value, adjoint.weight)
        for kept, adjoint in zip(saved, objective.adjoint(forward, work.objective), strict=True)
        if adjoint is not None
    ]
    return _total(parts), forward


def _content_gradient(
    correlations: Correlations,
    objective: Objective,
    batch: PatchBatch,
    views: Views,
    memory: Memory,
    work: Workspaces,
) -> tuple[Correlations, ForwardPass]:
    leaves = correlations.map(lambda block: block.detach().requires_grad_())
    with torch.enable_grad():
        live = [
            area_attention(leaves, batch.latents, batch.cluster, visible, batch.layout) for visible in views
        ]
    forward = ForwardPass(
        batch, views, tuple(attention.detach() for attention in live), memory, _attender(batch, views)
    )
    pairs = [
        (attention, _dense(adjoint, attention))
        for attention, adjoint in zip(live, objective.adjoint(forward, work.objective), strict=True)
        if adjoint is not None
    ]
    names = leaves.named()
    outputs, adjoints = zip(*pairs, strict=True)
    gradients = torch.autograd.grad(outputs, list(names.values()), adjoints, materialize_grads=True)
    return Correlations(**dict(zip(names, gradients, strict=True))), forward


def _dense(adjoint: Adjoint, attention: Tensor) -> Tensor:
    value = adjoint.value if adjoint.weight is None else adjoint.value * adjoint.weight[:, :, None]
    return value.expand_as(attention)


def _total(parts: list[Correlations]) -> Correlations:
    total = parts[0]
    for part in parts[1:]:
        total = total.map(torch.add, part)
    return total
