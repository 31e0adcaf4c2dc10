"""The protocol of an objective: its views, its loss, what is known of that loss, and the state that it carries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.models import Parameters
from vitdyn.objectives.closed_form import ClosedForm, Reduction
from vitdyn.objectives.forms import Pieces, holds, pieces_of_forms, require_effective_fields
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.masking import DrawnViews, Masking
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.seeds import Streams

FAMILIES = ("contrastive", "decorrelation", "generative", "clustering", "self-distillation", "hybrid")


class Objective(ABC):
    """A self-supervised loss as a function of a model's outputs. A subclass must give its ``loss``.

    ``forward``, which its methods are given, is a ``vitdyn.objectives.ForwardPass``: views, outputs, patches, state.

    Declared by the class: ``name``, by which the command line and JSON call it; ``family``, its place in the survey's
    taxonomy; ``view_count``, how many views of a sample it takes; and ``batchable_fields``, which its formulas read by
    ``hyperparameter`` alone, so that cells of a grid that differ in them train in one batch. ``mask_ratio`` is γ of
    its ``masking``, ``weight_decay`` the λ of the term (λ/2)‖Q‖² that training adds to its loss.

    ``closed_form``, ``lower_bound`` and ``reduction`` speak of the loss with which they were written: in a class that
    overrides ``loss``, or anything that may serve it, the inherited ones are passed over, and autograd gives the
    gradient. Ask for them as ``contract`` does.

    >>> class FourthPower(vd.Objective):
    ...     name, family = "fourth-power", "generative"
    ...     def loss(self, forward):
    ...         error = (forward.outputs() - forward.patches()) * ~forward.views[0][..., None]
    ...         return error.pow(4).sum((1, 2, 3)) / forward.batch.count
    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> adam = vd.Adam(learning_rate=0.05)
    >>> training = vd.Training(generator=generator, objective=FourthPower(), optimizer=adam, steps=20, seeds=2)
    >>> loss = vd.simulate(training)["loss"]
    >>> bool((loss[-1] < loss[0]).all())
    True
    """

    name: ClassVar[str]
    family: ClassVar[str]
    view_count: ClassVar[int] = 1
    batchable_fields: ClassVar[tuple[str, ...]] = ()
    written_with: ClassVar[dict[str, Pieces]] = {}
    mask_ratio: float = 0.5
    weight_decay: float = 0.0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        require_effective_fields(cls)
        cls.written_with = pieces_of_forms(cls, Objective)  # now, before anybody assigns to the class

    def holds(self, form: str) -> bool:
        """Return whether a closed form, by its name, is the one of the loss that this object has."""
        return holds(self, form, Objective)

    @abstractmethod
    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the loss, one value per seed, differentiable in the outputs of ``forward``; no weight decay."""

    def check(self, layout: PatchLayout, samples: int) -> None:
        """Raise ``ValueError`` where the objective cannot be evaluated on such batches."""
        self._checked_masking().masked(layout.patches)

    def masking(self) -> Masking:
        """Return how the masks of its views are drawn."""
        return Masking(ratio=self.mask_ratio)

    def draw_views(self, generator: np.random.Generator | Streams, samples: int, patches: int) -> DrawnViews:
        """Draw which patches each view of each sample shows, as ``masking`` says; of ``Streams`` for all seeds at once.

        One that overrides this is given the numpy generator of one seed after the other.
        """
        return self._checked_masking().draw(generator, samples, patches, self.view_count)

    def _checked_masking(self) -> Masking:
        found = self.masking()
        if not isinstance(found, Masking):
            raise invalid_value(f"{type(self).__name__}.masking", type(found).__name__, "must be a Masking")
        return found

    def loss_queries(self, forward: ForwardPass) -> Bool[Tensor, "seed sample query"]:
        """Return which queries of the first view the loss trains, so that records speak of these; all by default."""
        return torch.ones_like(forward.views[0])

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return a learning rate of plain gradient descent that works for layouts of this size."""
        kind = type(self).__name__
        raise invalid_value(
            "optimizer",
            None,
            f"{kind} has no default_learning_rate: give an optimizer with its learning rate",
        )

    def closed_form(self, batch: PatchBatch) -> ClosedForm | None:
        """Return ∂L/∂A as a value on this batch, None where it has no such form: autograd differentiates the loss."""
        return None

    def lower_bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return a lower bound of the loss on this very batch, over all models (each file says how tight)."""
        raise NotImplementedError

    def reduction(self) -> Reduction | None:
        """Return the loss as a sum of those for which order parameters close, None where it is no such sum."""
        return None

    def decay(self, correlations: Parameters) -> Float[Tensor, " seed"]:
        """Return (λ/2)‖Q‖², the term of weight decay, one value per seed; training follows its gradient."""
        norm = correlations.squared_norm()
        return hyperparameter(self, lambda one: 0.5 * one.weight_decay, norm) * norm

    def initial_state(self, correlations: Parameters, streams: Streams) -> State:
        """Return what the objective carries before the first step, by name: a teacher, a queue, a predictor.

        What is random in it comes from ``streams``, one of numpy's generators for each seed (``streams.each()``).
        It is copied, so it may hold the model's own blocks; what is new has their precision and device by
        ``.to(correlations.like)``. ``vitdyn.objectives.parts`` makes teachers, unit vectors and identity
        maps.
        """
        return {}

    def optimizers(self) -> Mapping[str, Any]:
        """Return the optimizers of those parts of the state, by name, that are trained with the model by the loss.

        ``update_state`` need not return such a part.
        """
        return {}

    def update_state(self, forward: ForwardPass, correlations: Parameters) -> State:
        """Return the state after a step that left the model at ``correlations``; it is copied, as in ``initial_state``.

        ``forward`` is the forward pass of that step, from before the model moved, with the state that the step had.
        """
        return forward.state
