"""The protocol of an objective: views, loss, adjoint, and whatever it remembers from step to step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn.attention import Correlations, Workspace
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.objectives.joined import per_seed

FAMILIES = ("contrastive", "generative", "clustering", "self-distillation", "hybrid")

Memory = Mapping[str, Tensor]
"""What an objective carries from step to step (teachers, centres, queues); a leading seed axis throughout."""


class Adjoint(NamedTuple):
    """∂L/∂A of one view, as ``weight`` · ``value``; a query axis of 1 in ``value`` stands for all queries."""

    value: Float[Tensor, "seed sample area #query"]
    weight: Float[Tensor, "seed sample query"] | None = None


PooledAdjoint = Callable[
    [Sequence[Float[Tensor, "seed sample area"]]], Sequence[Float[Tensor, "seed sample area"] | None]
]
"""From the means over queries of each view's attention to the derivatives of the loss, None behind a stop-gradient."""


@dataclass(frozen=True)
class ForwardPass:
    """One batch seen through the model: its views and the area attention of the model on each view.

    ``attend(correlations, view)`` gives the area attention of any other correlations (a teacher's, say)
    on one of the views.
    """

    batch: PatchBatch
    views: tuple[Bool[Tensor, "seed sample patch"], ...]
    attention: Sequence[Float[Tensor, "seed sample area query"]]
    memory: Memory
    attend: Callable[[Correlations, int], Tensor]


class Objective(ABC):
    """A self-supervised loss as a function of area attention.

    ``name`` is how the command line calls it, ``family`` its place in the survey's taxonomy,
    ``weight_decay`` the λ of the term (λ/2)‖Q‖² that training adds to its loss.

    A kind that names in ``varies`` the fields that its formulas read by ``per_seed`` alone lets cells of a grid that
    differ in these train in one batch; ``drawn_by`` names the fields that decide its views. A subclass names its own.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    varies: ClassVar[tuple[str, ...]] = ()
    drawn_by: ClassVar[tuple[str, ...]] = ()
    weight_decay: float = 0.0

    @abstractmethod
    def check(self, layout: PatchLayout, samples: int) -> None:
        """Raise ``ValueError`` where the objective cannot be evaluated on such batches."""

    @abstractmethod
    def draw_views(
        self, generator: np.random.Generator, samples: int, patches: int
    ) -> tuple[Bool[np.ndarray, "sample patch"], ...]:
        """Draw which patches each view of each sample shows, for one seed."""

    @abstractmethod
    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the loss, one value per seed, differentiable in ``forward.attention``; no weight decay."""

    @abstractmethod
    def bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return a lower bound of the loss on this very batch, over all correlations (each file says how tight)."""

    @abstractmethod
    def counted_queries(self, forward: ForwardPass) -> Bool[Tensor, "seed sample query"]:
        """Return which queries of the first view the objective trains, so that records speak of these."""

    @abstractmethod
    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return a learning rate of plain gradient descent that works for layouts of this size."""

    def adjoint(self, forward: ForwardPass, work: Workspace) -> tuple[Adjoint | None, ...]:
        """Return ∂L/∂A for each view, None for a view behind a stop-gradient. By autograd unless overridden."""
        return autograd_adjoint(self, forward)

    def residual_scale(self, batch: PatchBatch) -> float | Float[Tensor, " seed"] | None:
        """Return c where ∂L/∂A_{p→j} = c z_j² (A_{p→j} − 1{j = a(p)}) at masked queries of the first view.

        A number, or one for each seed. At visible queries, and in other views, it is 0; or else it is what
        ``pooled_adjoint`` says, to which this is then added. Such a gradient needs no attention in memory. None, the
        default, where the adjoint has no such part.
        """
        return None

    def pooled_adjoint(self, batch: PatchBatch) -> PooledAdjoint | None:
        """Return ∂L/∂Ā as a function of Ā_j = (1/P) Σ_p A_{p→j}, of each view, where L depends on A through it alone.

        But for what ``residual_scale`` says. Such a gradient needs no attention in memory either. None, the default,
        where the adjoint has no such part.
        """
        return None

    def decay(self, correlations: Correlations) -> Float[Tensor, " seed"]:
        """Return (λ/2)‖Q‖², the term of weight decay, one value per seed."""
        norm = correlations.squared_norm()
        return per_seed(self, lambda one: 0.5 * one.weight_decay, norm) * norm

    def init(self, correlations: Correlations) -> Memory:
        """Return what the objective remembers before the first step: tensors of its own, not the model's blocks."""
        return {}

    def after_step(self, forward: ForwardPass, correlations: Correlations) -> Memory:
        """Return what it remembers after a step that left the model at ``correlations``: tensors of its own."""
        return forward.memory


def autograd_adjoint(objective: Objective, forward: ForwardPass) -> tuple[Adjoint | None, ...]:
    """Return ∂L/∂A for each view by differentiating ``objective.loss``; None where it does not depend on one."""
    leaves = tuple(attention.detach().clone().requires_grad_() for attention in forward.attention)
    with torch.enable_grad():
        total = objective.loss(replace(forward, attention=leaves)).sum()
    gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    return tuple(None if gradient is None else Adjoint(gradient) for gradient in gradients)
