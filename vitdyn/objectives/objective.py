"""The protocol of an objective: views, loss, adjoint, and whatever it remembers from step to step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import wrong
from vitdyn.attention import Correlations, Workspace
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.objectives.forms import behaviour, holds, require_effective_fields
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

    A subclass must give its ``loss``. The closed forms ``adjoint``, ``residual_scale``, ``pooled_adjoint`` and
    ``bound`` speak of the loss with which they were written: in a class that overrides ``loss``, or anything that may
    serve it, the inherited ones are passed over, and autograd gives the gradient. Ask for them as ``contract`` does.

    A kind of ``OBJECTIVES`` that names in ``varies`` the fields that its formulas read by ``per_seed`` alone lets
    cells of a grid that differ in these train in one batch; ``drawn_by`` names the fields that decide its views.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    varies: ClassVar[tuple[str, ...]] = ()
    drawn_by: ClassVar[tuple[str, ...]] = ()
    weight_decay: float = 0.0
    written_with: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        require_effective_fields(cls)
        cls.written_with = behaviour(cls, Objective)

    def holds(self, form: str) -> bool:
        """Return whether a closed form, by its name, is the one of the loss that this object has."""
        return holds(self, form, Objective)

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
        """Return (λ/2)‖Q‖², the term of weight decay, one value per seed; training follows its gradient."""
        norm = correlations.squared_norm()
        return per_seed(self, lambda one: 0.5 * one.weight_decay, norm) * norm

    def init(self, correlations: Correlations) -> Memory:
        """Return what the objective remembers before the first step. It is copied: the model's blocks may be named."""
        return {}

    def after_step(self, forward: ForwardPass, correlations: Correlations) -> Memory:
        """Return what it remembers after a step that left the model at ``correlations``, copied like ``init``'s."""
        return forward.memory


def autograd_adjoint(objective: Objective, forward: ForwardPass) -> tuple[Adjoint | None, ...]:
    """Return ∂L/∂A for each view by differentiating ``objective.loss``; None where it does not depend on one."""
    leaves = tuple(attention.detach().clone().requires_grad_() for attention in forward.attention)
    with torch.enable_grad(), unchanged(objective, "loss", replace(forward, attention=leaves)) as seen:
        values = seed_values(objective, "loss", objective.loss(seen), forward)
    gradients: tuple[Tensor | None, ...] = ()
    if values.requires_grad:
        gradients = torch.autograd.grad(values.sum(), leaves, allow_unused=True)
    if not any(gradient is not None for gradient in gradients):
        raise wrong(
            f"{type(objective).__name__}.loss",
            "a constant",
            "must be a differentiable function of forward.attention",
        )
    return tuple(None if gradient is None else Adjoint(gradient) for gradient in gradients)


@contextmanager
def unchanged(objective: Objective, field: str, forward: ForwardPass) -> Iterator[ForwardPass]:
    """Lend a forward pass to a method. Raises ``ValueError`` where it changes it in place: others read it next."""
    batch = forward.batch
    given = {
        "batch.latents": batch.latents,
        "batch.cluster": batch.cluster,
        "batch.membership": batch.membership,
    }
    given |= {f"views[{index}]": view for index, view in enumerate(forward.views)}
    if isinstance(forward.attention, tuple):
        given |= {f"attention[{index}]": part for index, part in enumerate(forward.attention)}
    versions = {name: part._version for name, part in given.items()}
    yield forward
    for name, part in given.items():
        if part._version != versions[name]:
            kind = type(objective).__name__
            raise wrong(f"{kind}.{field}", f"forward.{name} changed in place", "must copy what it changes")


def seed_values(objective: Objective, field: str, found: Any, forward: ForwardPass) -> Float[Tensor, " seed"]:
    """Return ``found``, what a method ``field`` gave. Raises ``ValueError`` unless it is one real for each seed."""
    seeds = len(forward.batch.seeds)
    return require_tensor(f"{type(objective).__name__}.{field}", found, (seeds,), "one value for each seed")


def require_tensor(field: str, found: Any, shape: tuple[int, ...], meaning: str) -> Tensor:
    """Return ``found``. Raises ``ValueError`` unless it is a tensor of floating-point numbers of this shape."""
    if not isinstance(found, Tensor) or tuple(found.shape) != shape or not found.is_floating_point():
        raise wrong(
            field, shown_shape(found), f"must be a tensor of real numbers of shape {shape}: {meaning}"
        )
    return found


def shown_shape(found: Any) -> str:
    """Return how an error names an array: its shape and type, or what it is in place of one."""
    shape = getattr(found, "shape", None)
    return type(found).__name__ if shape is None else f"{tuple(shape)} {found.dtype}"
