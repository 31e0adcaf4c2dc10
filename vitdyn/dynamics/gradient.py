"""The gradient of an objective with respect to the correlations, and the forward pass it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from vitdyn.attention import (
    Correlations,
    Workspace,
    area_attention,
    factored_forward,
    factored_pullback,
    pooled_forward,
    pools,
    residual_gradient,
)
from vitdyn.data import PatchBatch
from vitdyn.dynamics.batches import Views
from vitdyn.objectives import Adjoint, ForwardPass, Memory, Objective, PooledAdjoint
from vitdyn.objectives.contract import add_decay, adjoint_of, pooled_adjoint_of, residual_scale_of


@dataclass
class Workspaces:
    """Scratch arrays of one group of seeds: one set for each view, one for the objective."""

    views: dict[int, Workspace] = field(default_factory=dict)
    objective: Workspace = field(default_factory=Workspace)

    def view(self, index: int) -> Workspace:
        """Return the workspace of one view."""
        return self.views.setdefault(index, Workspace())


Pull = Callable[[tuple[Adjoint | None, ...]], Correlations]
"""From ∂L/∂A of each view to ∂L/∂Q."""


def forward_pass(
    correlations: Correlations,
    batch: PatchBatch,
    views: Views,
    memory: Memory,
    workspaces: Workspaces | None = None,
) -> ForwardPass:
    """Return the area attention of the model on every view of a batch, for evaluation."""
    attention, _ = _attend_to_views(correlations, batch, views, workspaces or Workspaces())
    return ForwardPass(batch, views, attention, memory, _attender(batch, views))


def loss_gradient(
    correlations: Correlations,
    objective: Objective,
    batch: PatchBatch,
    views: Views,
    memory: Memory,
    workspaces: Workspaces | None = None,
) -> tuple[Correlations, ForwardPass]:
    """Return ∂/∂Q of the loss with its weight decay, each seed by itself, and the forward pass.

    An objective with a ``residual_scale`` or a ``pooled_adjoint`` goes the fused way, without attention in memory, and
    the forward pass makes its attention when it is asked for; with ``workspaces`` that must be before the correlations
    change (else ``RuntimeError``), unless the objective has an ``after_step`` of its own. With other objectives queries
    by position take the factored forward and its closed-form pull-back, content queries go by autograd. All lies in
    ``workspaces`` and holds until its next use.
    """
    work = workspaces or Workspaces()
    fused = _fused(correlations, objective, batch, views, work)
    attention: Sequence[Tensor]
    if fused is not None:
        # a training loop, which brings its workspaces, should not pay for a copy that nobody looks at
        looked_at = workspaces is None or type(objective).after_step is not Objective.after_step
        kept = correlations.map(torch.clone) if looked_at else correlations
        gradient, attention = fused, _OnDemand(kept, batch, views)
        forward = ForwardPass(batch, views, attention, memory, _attender(batch, views))
    else:
        attention, pull = _attend_to_views(correlations, batch, views, work)
        forward = ForwardPass(batch, views, attention, memory, _attender(batch, views))
        gradient = pull(adjoint_of(objective, forward, work.objective))
    return add_decay(objective, gradient, correlations), forward


def _fused(
    correlations: Correlations, objective: Objective, batch: PatchBatch, views: Views, work: Workspaces
) -> Correlations | None:
    """Return the gradient without attention in memory, where the objective has that form."""
    scale, pooled = residual_scale_of(objective, batch), pooled_adjoint_of(objective, batch)
    block = correlations.position_position
    if pooled is not None and (
        correlations.content_queries or not pools(batch.layout, block.device.type, block.dtype)
    ):
        return None
    parts = [] if scale is None else [_residual(correlations, batch, views[0], scale, work.view(0))]
    if pooled is not None:
        parts += _pooled(correlations, batch, views, pooled, work)
    return reduce(lambda total, part: total.map(Tensor.add_, part), parts) if parts else None


def _residual(
    correlations: Correlations, batch: PatchBatch, visible: Tensor, scale: float | Tensor, work: Workspace
) -> Correlations:
    """Return the gradient of masked reconstruction of one view, with its ``scale``."""
    given = batch.latents, batch.cluster, visible, batch.layout
    gradient = residual_gradient(correlations, *given, scale, work)
    if not correlations.content_queries:
        return gradient
    # visible queries alone carry content, and this loss does not count them
    zeros = correlations.map(torch.zeros_like)
    return Correlations(**zeros.named() | gradient.named())


def _pooled(
    correlations: Correlations, batch: PatchBatch, views: Views, adjoint: PooledAdjoint, work: Workspaces
) -> list[Correlations]:
    """Return the gradient of each view of a loss that depends on attention through its means over queries."""
    means, saved = zip(
        *(
            pooled_forward(
                correlations, batch.latents, batch.cluster, visible, batch.layout, work.view(index)
            )
            for index, visible in enumerate(views)
        ),
        strict=True,
    )
    patches = batch.layout.patches
    return [
        factored_pullback(kept, (value / patches)[..., None])
        for kept, value in zip(saved, adjoint(means), strict=True)
        if value is not None
    ]


class _OnDemand(Sequence[Tensor]):
    """The area attention of each view, made when first asked for; an error once the correlations have changed."""

    def __init__(self, correlations: Correlations, batch: PatchBatch, views: Views) -> None:
        self._correlations, self._batch, self._views = correlations, batch, views
        self._versions = self._count_changes()
        self._made: tuple[Tensor, ...] | None = None

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: Any) -> Any:
        if self._made is None:
            if self._count_changes() != self._versions:
                raise RuntimeError(
                    "the correlations have changed since this forward pass; ask for its attention before"
                )
            attend = _attender(self._batch, self._views)
            self._made = tuple(attend(self._correlations, view) for view in range(len(self)))
        return self._made[index]

    def _count_changes(self) -> list[int]:
        return [block._version for block in self._correlations.named().values()]


def _attender(batch: PatchBatch, views: Views) -> Callable[[Correlations, int], Tensor]:
    def attend(correlations: Correlations, view: int) -> Tensor:
        with torch.no_grad():
            return area_attention(correlations, batch.latents, batch.cluster, views[view], batch.layout)

    return attend


def _attend_to_views(
    correlations: Correlations, batch: PatchBatch, views: Views, work: Workspaces
) -> tuple[tuple[Tensor, ...], Pull]:
    route = _by_autograd if correlations.content_queries else _factored
    return route(correlations, batch, views, work)


def _factored(
    correlations: Correlations, batch: PatchBatch, views: Views, work: Workspaces
) -> tuple[tuple[Tensor, ...], Pull]:
    attention, saved = zip(
        *(
            factored_forward(
                correlations, batch.latents, batch.cluster, visible, batch.layout, work.view(index)
            )
            for index, visible in enumerate(views)
        ),
        strict=True,
    )

    def pull(adjoints: tuple[Adjoint | None, ...]) -> Correlations:
        parts = [
            factored_pullback(kept, adjoint.value, adjoint.weight)
            for kept, adjoint in zip(saved, adjoints, strict=True)
            if adjoint is not None
        ]
        return reduce(lambda total, part: total.map(torch.add, part), parts)

    return attention, pull


def _by_autograd(
    correlations: Correlations, batch: PatchBatch, views: Views, work: Workspaces
) -> tuple[tuple[Tensor, ...], Pull]:
    leaves = correlations.map(lambda block: block.detach().requires_grad_())
    with torch.enable_grad():
        live = [
            area_attention(leaves, batch.latents, batch.cluster, visible, batch.layout) for visible in views
        ]

    def pull(adjoints: tuple[Adjoint | None, ...]) -> Correlations:
        pairs = [
            (attention, _dense(adjoint, attention))
            for attention, adjoint in zip(live, adjoints, strict=True)
            if adjoint is not None
        ]
        names = leaves.named()
        outputs, values = zip(*pairs, strict=True)
        gradients = torch.autograd.grad(outputs, list(names.values()), values, materialize_grads=True)
        return Correlations(**dict(zip(names, gradients, strict=True)))

    return tuple(attention.detach() for attention in live), pull


def _dense(adjoint: Adjoint, attention: Tensor) -> Tensor:
    value = adjoint.value if adjoint.weight is None else adjoint.value * adjoint.weight[:, :, None]
    return value.expand_as(attention)
