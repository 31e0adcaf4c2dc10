"""What training and records ask of an objective: every answer is checked once, here, and none is a parent's by mistake.

An objective's methods may be anybody's. Closed forms are taken where they are those of its loss (``forms``), shapes are
compared with what they must be, and its state is copied, so that no teacher is the student itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.models import Parameters
from vitdyn.objectives.closed_form import ClosedForm, MeanPooled, Means, Reduction, Residual
from vitdyn.objectives.forward import ForwardPass, State, unchanged
from vitdyn.objectives.objective import Objective
from vitdyn.objectives.stacked import add_scaled, hyperparameter, unstack
from vitdyn.objectives.trained import optimizer_states, train_state
from vitdyn.seeds import Streams

Weights = TypeVar("Weights", bound=Parameters)


def loss_of(objective: Objective, forward: ForwardPass) -> Float[Tensor, " seed"]:
    """Return the loss without weight decay."""
    field = _named(objective, "loss")
    with unchanged(field, forward) as lent:
        return _require_values(field, objective.loss(lent), forward)


def lower_bound_of(objective: Objective, forward: ForwardPass) -> Float[Tensor, " seed"]:
    """Return the lower bound of the loss; NaN where none is known of the loss or of the model."""
    if not (forward.has_closed_forms and objective.holds("lower_bound")):
        return torch.full_like(forward.batch.latents[:, 0, 0], torch.nan)
    field = _named(objective, "lower_bound")
    with unchanged(field, forward) as lent:
        return _require_values(field, objective.lower_bound(lent), forward)


def decay_of(objective: Objective, correlations: Parameters, forward: ForwardPass) -> Float[Tensor, " seed"]:
    """Return the term of weight decay."""
    if not has_decay(objective):  # ‖Q‖² goes through all of Q
        return torch.zeros_like(forward.batch.latents[:, 0, 0])
    return _require_values(_named(objective, "decay"), objective.decay(correlations), forward)


def loss_queries_of(objective: Objective, forward: ForwardPass) -> Bool[Tensor, "seed sample query"]:
    """Return which queries the loss trains, over which records take their means."""
    field, shape = _named(objective, "loss_queries"), tuple(forward.views[0].shape)
    with unchanged(field, forward) as lent:
        found = objective.loss_queries(lent)
    if not isinstance(found, Tensor) or tuple(found.shape) != shape or found.dtype != torch.bool:
        raise invalid_value(field, _shown(found), f"must be truth values of shape {shape}")
    return found


def attention_gradient(objective: Objective, forward: ForwardPass) -> tuple[Tensor | None, ...]:
    """Return ∂L/∂A for each view by differentiating the loss; None where it does not depend on a view."""
    # copies: attention lies in scratch, and a loss may keep what it is given
    leaves = tuple(attention.detach().clone().requires_grad_() for attention in forward.attention)
    with torch.enable_grad():
        # the sum too: observables ask for gradients where none are recorded
        total = loss_of(objective, replace(forward, attention=leaves)).sum()
    gradients: tuple[Tensor | None, ...] = ()
    if total.requires_grad:
        gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    if not any(gradient is not None for gradient in gradients):
        raise invalid_value(
            _named(objective, "loss"),
            "a constant",
            "must be a differentiable function of the model's outputs",
        )
    return gradients


def closed_form_of(objective: Objective, batch: PatchBatch) -> tuple[ClosedForm, ...]:
    """Return the terms of the objective's closed form where that is its loss's; none where it has none."""
    found = objective.closed_form(batch) if objective.holds("closed_form") else None
    if found is None:
        return ()
    terms = found.terms if isinstance(found, ClosedForm) else (found,)
    field = _named(objective, "closed_form")
    for term in terms:
        if not isinstance(term, Residual | MeanPooled):
            raise invalid_value(
                field, type(term).__name__, "must be a Residual, a MeanPooled, a sum of such, or None"
            )
        if isinstance(term, Residual) and not isinstance(term.scale, float | int):
            _require_tensor(field, term.scale, (len(batch.seeds),), "a scale for each seed")
    return terms


def closed_form_kinds(objective: Objective, layout: PatchLayout) -> frozenset[type[ClosedForm]]:
    """Return of which kinds the terms of the objective's closed form are, before there is a batch."""
    # which form a loss has may depend on the batch; one sample without signal is the cheapest one to ask about
    latents = torch.zeros(1, 1, layout.areas)
    return frozenset(
        map(type, closed_form_of(objective, PatchBatch(layout, (0,), latents[..., 0].long(), latents)))
    )


def mean_gradient_of(
    objective: Objective, terms: Sequence[MeanPooled], means: Means
) -> tuple[Tensor | None, ...]:
    """Return ∂L/∂Ā of each view, the sum of what the mean-pooled terms of the objective's closed form give."""
    total: list[Tensor | None] = [None] * len(means)
    for term in terms:
        found, field = tuple(term.gradient(means)), _named(objective, "closed_form")
        if len(found) != len(means):
            raise invalid_value(
                field, f"{len(found)} gradients", f"must give {len(means)}, one for each view"
            )
        for view, part in enumerate(found):
            if part is not None:
                _require_tensor(field, part, tuple(means[view].shape), "∂L/∂Ā of a view")
                before = total[view]
                total[view] = part if before is None else before + part
    return tuple(total)


def reduction_of(objective: Objective) -> Reduction | None:
    """Return the objective's reduction where that is its loss's, with its views, its decay and its queries."""
    return objective.reduction() if objective.holds("reduction") else None


def require_reduction(objective: Objective) -> Reduction:
    """Return the objective's reduction. Raises ``ValueError`` where its loss, as it is, has none."""
    found = reduction_of(objective) if isinstance(objective, Objective) else None
    if found is None:
        raise invalid_value(
            "objective",
            objective,
            "must be a listed one with its own loss, or give its reduction: simulate any other",
        )
    return found


def draws_views_jointly(objective: Objective) -> bool:
    """Return whether an objective's views are drawn as its ``masking`` says, and so for many seeds at once."""
    return not _overrides(objective, "draw_views")


def has_decay(objective: Objective) -> bool:
    """Return whether training adds a term of weight decay to the loss."""
    return _overrides(objective, "decay") or any(one.weight_decay for one in unstack(objective))


def has_state(objective: Objective) -> bool:
    """Return whether an objective carries anything from step to step."""
    return _overrides(objective, "initial_state") or _overrides(objective, "update_state")


def add_decay(objective: Objective, gradient: Weights, correlations: Weights) -> Weights:
    """Add the gradient of the objective's ``decay``: λQ, or by autograd for a class with a decay of its own."""
    if _overrides(objective, "decay"):
        leaves = correlations.map(lambda block: block.detach().requires_grad_())
        blocks = leaves.named()
        with torch.enable_grad():
            total = objective.decay(leaves).sum()
        if not total.requires_grad:
            return gradient
        found = torch.autograd.grad(total, list(blocks.values()), materialize_grads=True)
        return gradient.map(torch.add, gradient.rebuilt(dict(zip(blocks, found, strict=True))))
    if not has_decay(objective):  # λ = 0 would cost a pass over Q at every step
        return gradient

    def add(part: Tensor, block: Tensor) -> Tensor:
        return add_scaled(part, block, hyperparameter(objective, lambda one: one.weight_decay, part))

    return gradient.map(add, correlations)


def _overrides(objective: Objective, method: str) -> bool:
    """Return whether an objective's class overrides a method, or one was put into the object itself."""
    return getattr(type(objective), method) is not getattr(Objective, method) or method in vars(objective)


def first_state(objective: Objective, correlations: Parameters, seeds: tuple[int, ...]) -> State:
    """Return the objective's state before the first step, in tensors that nothing else writes to."""
    found = objective.initial_state(correlations, Streams(seeds, "objective"))
    state = _owned(objective, "initial_state", found, {}, correlations.seeds)
    return {**state, **optimizer_states(objective, state)}


def next_state(objective: Objective, forward: ForwardPass, correlations: Parameters, step: int) -> State:
    """Return the state after a step, before which ``step`` were done, in tensors that nothing else writes to."""
    found = objective.update_state(forward, correlations)
    state = _owned(objective, "update_state", found, forward.state, correlations.seeds)
    after = {**state, **train_state(objective, forward, step)}
    if lost := sorted(forward.state.keys() - after.keys()):
        remedy = f"must return {', '.join(lost)} too, as initial_state does"
        raise invalid_value(_named(objective, "update_state"), sorted(after), remedy)
    return after


def _owned(objective: Objective, method: str, found: Any, before: State, seeds: int) -> State:
    """Copy what is new: a tensor of the model's, of scratch or of the batch would change behind the objective."""
    field = _named(objective, method)
    if not isinstance(found, Mapping):
        raise invalid_value(field, type(found).__name__, "must be a mapping of names to tensors")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.shape[:1] != (seeds,):
            raise invalid_value(
                f"{field}[{name!r}]",
                _shown(value),
                f"must be a tensor with an axis of {seeds} seeds first",
            )
    # what is kept as it was is ours already: a queue of a million numbers is not copied at every step
    return {
        name: value if name in before and value is before[name] else value.detach().clone()
        for name, value in found.items()
    }


def _named(objective: Objective, method: str) -> str:
    return f"{type(objective).__name__}.{method}"


def _require_values(field: str, found: Any, forward: ForwardPass) -> Float[Tensor, " seed"]:
    """Return what a method gave. Raises ``ValueError`` unless it is one real number for each seed."""
    return _require_tensor(field, found, (len(forward.batch.seeds),), "one value for each seed")


def _require_tensor(field: str, found: Any, shape: tuple[int, ...], meaning: str) -> Tensor:
    """Return ``found``. Raises ``ValueError`` unless it is a tensor of floating-point numbers of this shape."""
    if not isinstance(found, Tensor) or tuple(found.shape) != shape or not found.is_floating_point():
        raise invalid_value(
            field, _shown(found), f"must be a tensor of real numbers of shape {shape}: {meaning}"
        )
    return found


def _shown(found: Any) -> str:
    """Return how an error names an array: its shape and type, or what it is in place of one."""
    shape = getattr(found, "shape", None)
    return type(found).__name__ if shape is None else f"{tuple(shape)} {found.dtype}"
