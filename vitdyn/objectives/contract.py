"""What training and records ask of an objective: every answer is checked once, here, and none is a parent's by mistake.

An objective's methods may be anybody's. Closed forms are taken where they are those of its loss (``forms``), shapes are
compared with what they must be, and what it remembers is copied, so that no teacher is the student itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import wrong
from vitdyn.attention import Correlations, Workspace
from vitdyn.data import PatchBatch
from vitdyn.objectives.joined import add_scaled, members, per_seed
from vitdyn.objectives.objective import (
    Adjoint,
    ForwardPass,
    Memory,
    Objective,
    PooledAdjoint,
    autograd_adjoint,
    require_tensor,
    seed_values,
    shown_shape,
    unchanged,
)


def loss_of(objective: Objective, forward: ForwardPass) -> Float[Tensor, " seed"]:
    """Return the loss without weight decay."""
    with unchanged(objective, "loss", forward) as seen:
        return seed_values(objective, "loss", objective.loss(seen), forward)


def bound_of(objective: Objective, forward: ForwardPass) -> Float[Tensor, " seed"]:
    """Return the lower bound of the loss; NaN where none is known of the loss that the objective has."""
    if not objective.holds("bound"):
        return torch.full_like(forward.batch.latents[:, 0, 0], torch.nan)
    with unchanged(objective, "bound", forward) as seen:
        return seed_values(objective, "bound", objective.bound(seen), forward)


def decay_of(
    objective: Objective, correlations: Correlations, forward: ForwardPass
) -> Float[Tensor, " seed"]:
    """Return the term of weight decay."""
    return seed_values(objective, "decay", objective.decay(correlations), forward)


def counted_queries_of(objective: Objective, forward: ForwardPass) -> Bool[Tensor, "seed sample query"]:
    """Return which queries records speak of."""
    with unchanged(objective, "counted_queries", forward) as seen:
        found = objective.counted_queries(seen)
    shape = tuple(forward.views[0].shape)
    if not isinstance(found, Tensor) or tuple(found.shape) != shape or found.dtype != torch.bool:
        raise wrong(
            _named(objective, "counted_queries"), shown_shape(found), f"must be truth values of shape {shape}"
        )
    return found


def adjoint_of(objective: Objective, forward: ForwardPass, work: Workspace) -> tuple[Adjoint | None, ...]:
    """Return ∂L/∂A for each view: by the objective's ``adjoint`` where that is its loss's, else by autograd."""
    if not objective.holds("adjoint"):
        return autograd_adjoint(objective, forward)
    found, field = objective.adjoint(forward, work), _named(objective, "adjoint")
    if not isinstance(found, tuple) or len(found) != len(forward.views):
        raise wrong(
            field, type(found).__name__, f"must be a tuple of {len(forward.views)}, one for each view"
        )
    for view, one in enumerate(found):
        if one is not None:
            seeds, samples, areas, queries = forward.attention[view].shape
            last = 1 if one.value.shape[-1:] == (1,) else queries
            require_tensor(field, one.value, (seeds, samples, areas, last), "∂L/∂A of a view")
            if one.weight is not None and tuple(one.weight.shape) != (seeds, samples, queries):
                raise wrong(field, shown_shape(one.weight), f"weights must be {(seeds, samples, queries)}")
    return found


def residual_scale_of(objective: Objective, batch: PatchBatch) -> float | Float[Tensor, " seed"] | None:
    """Return the objective's ``residual_scale`` where that is its loss's, else None."""
    return objective.residual_scale(batch) if objective.holds("residual_scale") else None


def pooled_adjoint_of(objective: Objective, batch: PatchBatch) -> PooledAdjoint | None:
    """Return the objective's ``pooled_adjoint`` where that is its loss's, else None."""
    return objective.pooled_adjoint(batch) if objective.holds("pooled_adjoint") else None


def add_decay(objective: Objective, gradient: Correlations, correlations: Correlations) -> Correlations:
    """Add the gradient of the objective's ``decay``: λQ, or by autograd for a class with a decay of its own."""
    if type(objective).decay is not Objective.decay or "decay" in vars(objective):
        leaves = correlations.map(lambda block: block.detach().requires_grad_())
        blocks = leaves.named()
        with torch.enable_grad():
            total = objective.decay(leaves).sum()
        if not total.requires_grad:
            return gradient
        found = torch.autograd.grad(total, list(blocks.values()), materialize_grads=True)
        return gradient.map(torch.add, Correlations(**dict(zip(blocks, found, strict=True))))
    if not any(one.weight_decay for one in members(objective)):
        return gradient

    def add(part: Tensor, block: Tensor) -> Tensor:
        return add_scaled(part, block, per_seed(objective, lambda one: one.weight_decay, part))

    return gradient.map(add, correlations)


def first_memory(objective: Objective, correlations: Correlations) -> Memory:
    """Return what the objective remembers before the first step, in tensors that nobody else changes."""
    return _owned(objective, "init", objective.init(correlations), {}, correlations.seeds)


def next_memory(objective: Objective, forward: ForwardPass, correlations: Correlations) -> Memory:
    """Return what it remembers after a step, in tensors that nobody else changes."""
    found = objective.after_step(forward, correlations)
    return _owned(objective, "after_step", found, forward.memory, correlations.seeds)


def _owned(objective: Objective, field: str, found: Any, before: Memory, seeds: int) -> Memory:
    """Copy what is new: a tensor of the model's, of scratch or of the batch would change behind the objective."""
    field = _named(objective, field)
    if not isinstance(found, Mapping):
        raise wrong(field, type(found).__name__, "must be a mapping of names to tensors")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.shape[:1] != (seeds,):
            raise wrong(
                f"{field}[{name!r}]",
                shown_shape(value),
                f"must be a tensor with an axis of {seeds} seeds first",
            )
    return {
        name: value if name in before and value is before[name] else value.detach().clone()
        for name, value in found.items()
    }


def _named(objective: Objective, field: str) -> str:
    return f"{type(objective).__name__}.{field}"
