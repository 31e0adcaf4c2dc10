"""The gradient of an objective with respect to the correlations, and the forward pass it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.data import PatchBatch
from vitdyn.dynamics.batches import Views
from vitdyn.kernels import Correlations, Path, factored, plan_for
from vitdyn.kernels.workspace import Workspace
from vitdyn.models import LAYER, Model, Parameters, area_attention
from vitdyn.models.model import CLOSED_FORMS
from vitdyn.objectives import ForwardPass, MeanPooled, Objective, Residual
from vitdyn.objectives import State as ObjectiveState
from vitdyn.objectives.closed_form import Means
from vitdyn.objectives.contract import (
    add_decay,
    attention_gradient,
    closed_form_of,
    has_state,
    loss_of,
    mean_gradient_of,
)
from vitdyn.objectives.forward import Lazily, kept, layer_attender
from vitdyn.objectives.model_pass import model_pass

Weights = TypeVar("Weights", bound=Parameters)

Gradients = tuple[Tensor | None, ...]
"""∂L/∂A of each view, (seed, sample, area, #query): a query axis of 1 stands for all, None for no dependence."""


@dataclass
class Workspaces:
    """Scratch arrays of one group of seeds: one set for each view, one for a residual."""

    views: dict[int, Workspace] = field(default_factory=dict)
    residual: Workspace = field(default_factory=Workspace)

    def view(self, index: int) -> Workspace:
        """Return the workspace of one view."""
        return self.views.setdefault(index, Workspace())


Backward = Callable[[Gradients], Correlations]
"""From ∂L/∂A of each view to ∂L/∂Q."""


def forward_pass(
    correlations: Parameters,
    batch: PatchBatch,
    views: Views,
    state: ObjectiveState,
    workspaces: Workspaces | None = None,
    *,
    model: Model = LAYER,
) -> ForwardPass:
    """Return a batch seen through the model, for evaluation: of the layer with area attention on every view."""
    if not isinstance(correlations, Correlations) or CLOSED_FORMS not in model.offers:
        return model_pass(model, correlations, batch, views, state)
    attention, _ = _attend_to_views(correlations, batch, views, workspaces or Workspaces())
    return ForwardPass(batch, views, attention, state, kept(layer_attender(batch, views)))


def loss_gradient(
    correlations: Weights,
    objective: Objective,
    batch: PatchBatch,
    views: Views,
    state: ObjectiveState,
    workspaces: Workspaces | None = None,
    *,
    model: Model = LAYER,
) -> tuple[Weights, ForwardPass]:
    """Return the gradient of the loss with its weight decay, each seed by itself, and the forward pass.

    Of the theory's layer by its kernels, of any other ``model`` by autograd of its outputs.
    """
    if isinstance(correlations, Correlations) and CLOSED_FORMS in model.offers:
        found: Any = _layer_gradient(correlations, objective, batch, views, state, workspaces)
    else:
        found = _model_gradient(model, correlations, objective, batch, views, state)
    return add_decay(objective, found[0], correlations), found[1]


def _model_gradient(
    model: Model,
    parameters: Parameters,
    objective: Objective,
    batch: PatchBatch,
    views: Views,
    state: ObjectiveState,
) -> tuple[Parameters, ForwardPass]:
    """Return the gradient by autograd, without weight decay."""
    # what the objective remembers it may read off the pass after the model has moved in place
    source = parameters.map(torch.clone) if has_state(objective) else parameters
    leaves = source.map(lambda block: block.detach().requires_grad_())
    names = leaves.named()
    with torch.enable_grad():
        live = model_pass(model, leaves, batch, views, state)
        total = loss_of(objective, live).sum()
    found: tuple[Tensor | None, ...] = ()
    if total.requires_grad:
        found = torch.autograd.grad(total, list(names.values()), allow_unused=True)
    if all(part is None for part in found):  # weights outside of the parameters would stay where they are
        words = f"the loss must depend on {' or '.join(names)} by differentiable operations"
        raise invalid_value(f"{type(model).__name__}.outputs", "a constant", words)
    pairs = zip(names.items(), found, strict=True)
    gradient = parameters.rebuilt(
        {name: torch.zeros_like(leaf) if part is None else part for (name, leaf), part in pairs}
    )
    # the graph goes: a state's own parts are trained on outputs that are as they were
    return gradient, live.detached()


def _layer_gradient(
    correlations: Correlations,
    objective: Objective,
    batch: PatchBatch,
    views: Views,
    state: ObjectiveState,
    workspaces: Workspaces | None,
) -> tuple[Correlations, ForwardPass]:
    """Return the gradient by the kernels, without weight decay.

    On a fused path of the plan no attention lies in memory, and the forward pass makes it when it is asked for; with
    ``workspaces`` that must be before the correlations change (else ``RuntimeError``), unless the objective has a state
    of its own. Without a closed form ∂L/∂A comes from autograd; from there queries by position take the closed-form
    backward of the factored forward, and content queries autograd. Results lie in ``workspaces`` until their next use.
    """
    work, terms = workspaces or Workspaces(), closed_form_of(objective, batch)
    pooled = [term for term in terms if isinstance(term, MeanPooled)]
    like = correlations.position_position
    planned = plan_for(
        batch.layout,
        like.device.type,
        like.dtype,
        content_queries=correlations.content_queries,
        residual=len(terms) > len(pooled),
        mean_pooled=bool(pooled),
    )
    attention: Sequence[Tensor]
    if planned.is_fused:
        # a training loop, which brings its workspaces, should not pay for a copy that nobody looks at
        looked_at = workspaces is None or has_state(objective)
        attention = _on_demand(correlations.map(torch.clone) if looked_at else correlations, batch, views)
        means: Means = ()
        backward: Backward | None = None
        if planned.path is Path.MEAN_POOLED:
            means, backward = _on_each_view(factored.mean_pooled, correlations, batch, views, work)
    else:
        attention, backward = _attend_to_views(correlations, batch, views, work)
        means = tuple(each.mean(-1) for each in attention) if pooled else ()
    forward = ForwardPass(batch, views, attention, state, kept(layer_attender(batch, views)))
    parts = [
        _residual(correlations, batch, views[0], term.scale, work.residual)
        for term in terms
        if isinstance(term, Residual)
    ]
    if backward is not None:
        gradients = (
            _of_each_query(objective, pooled, means, batch)
            if terms
            else attention_gradient(objective, forward)
        )
        parts.append(backward(gradients))
    # in place: the first part lies in scratch that is this call's own until the next
    return reduce(lambda total, part: total.map(Tensor.add_, part), parts), forward


def _of_each_query(
    objective: Objective, terms: Sequence[MeanPooled], means: Means, batch: PatchBatch
) -> Gradients:
    """Return ∂L/∂A_{p→j} = (1/P) ∂L/∂Ā_j, the same for all queries p."""
    patches = batch.layout.patches
    return tuple(
        None if gradient is None else (gradient / patches)[..., None]
        for gradient in mean_gradient_of(objective, terms, means)
    )


def _residual(
    correlations: Correlations, batch: PatchBatch, visible: Tensor, scale: float | Tensor, work: Workspace
) -> Correlations:
    """Return the gradient of a residual on one view, with its ``scale``."""
    gradient = factored.residual_gradient(correlations, batch, visible, scale, work)
    if not correlations.content_queries:
        return gradient
    # visible queries alone carry content, and this loss does not count them
    zeros = correlations.map(torch.zeros_like)
    return Correlations(**zeros.named() | gradient.named())


def _on_demand(correlations: Correlations, batch: PatchBatch, views: Views) -> Lazily:
    """Return the area attention of each view, made when asked for: an error once the correlations have changed."""
    attend, versions = kept(layer_attender(batch, views)), _versions(correlations)

    def attend_before(view: int) -> Tensor:
        # attention of other correlations than the gradient's would be a wrong number without a word
        if _versions(correlations) != versions:
            raise RuntimeError(
                "the correlations have changed since this forward pass; ask for its attention before"
            )
        return attend(correlations, view)

    return Lazily(len(views), attend_before)


def _versions(correlations: Correlations) -> list[int]:
    # torch counts writes to a tensor: that costs nothing, and a copy of Q at every step would
    return [block._version for block in correlations.named().values()]


def _attend_to_views(
    correlations: Correlations, batch: PatchBatch, views: Views, work: Workspaces
) -> tuple[tuple[Tensor, ...], Backward]:
    if correlations.content_queries:
        return _by_autograd(correlations, batch, views)
    return _on_each_view(factored.forward, correlations, batch, views, work)


def _on_each_view(
    forward: Callable[..., tuple[Tensor, factored.Saved]],
    correlations: Correlations,
    batch: PatchBatch,
    views: Views,
    work: Workspaces,
) -> tuple[tuple[Tensor, ...], Backward]:
    """Return what a factored forward gives on each view, with its backward."""
    made = (forward(correlations, batch, view, work.view(index)) for index, view in enumerate(views))
    values, saved = zip(*made, strict=True)

    def backward(gradients: Gradients) -> Correlations:
        parts = [
            factored.backward(kept, gradient)
            for kept, gradient in zip(saved, gradients, strict=True)
            if gradient is not None
        ]
        return reduce(lambda total, part: total.map(torch.add, part), parts)

    return values, backward


def _by_autograd(
    correlations: Correlations, batch: PatchBatch, views: Views
) -> tuple[tuple[Tensor, ...], Backward]:
    leaves = correlations.map(lambda block: block.detach().requires_grad_())
    with torch.enable_grad():
        live = [area_attention(leaves, batch, view) for view in views]

    def backward(gradients: Gradients) -> Correlations:
        pairs = [
            (attention, gradient.expand_as(attention))
            for attention, gradient in zip(live, gradients, strict=True)
            if gradient is not None
        ]
        names = leaves.named()
        outputs, values = zip(*pairs, strict=True)
        found = torch.autograd.grad(outputs, list(names.values()), values, materialize_grads=True)
        return Correlations(**dict(zip(names, found, strict=True)))

    return tuple(attention.detach() for attention in live), backward
