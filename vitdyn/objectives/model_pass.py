"""One batch seen through any model: outputs in coordinates of feature space, made when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn.data import PatchBatch
from vitdyn.models import Model, Parameters
from vitdyn.models.checked import checked_area_attention, checked_outputs
from vitdyn.objectives.forward import ForwardPass, Lazily, State, kept, shown_in

Views = tuple[Bool[Tensor, "seed sample patch"], ...]


@dataclass(frozen=True)
class ModelPass(ForwardPass):
    """A batch seen through a model other than the theory's layer.

    ``outputs`` and ``patches`` have the F coordinates of ``batch.contents()``, so that those of samples of all clusters
    compare. ``attention`` is the model's area attention. All are differentiable in the parameters
    of the pass.
    """

    has_closed_forms: ClassVar[bool] = False

    see: Callable[[Parameters | None, int | None], Tensor] = field(kw_only=True)

    def outputs(
        self, view: int | None = 0, teacher: Parameters | None = None
    ) -> Float[Tensor, "seed sample query feature"]:
        """Return F_p of the model, or of a teacher, in the coordinates of feature space."""
        self._require_view(view, teacher)
        return self.see(teacher, view)

    def mean_outputs(
        self, view: int | None = 0, teacher: Parameters | None = None
    ) -> Float[Tensor, "seed sample feature"]:
        """Return F = (1/P) Σ_p F_p."""
        return self.outputs(view, teacher).mean(2)

    def in_all_clusters(self, values: Tensor) -> Tensor:
        """Return the values: their coordinates are those of all clusters."""
        return values

    def similarity(
        self, one: Float[Tensor, "seed sample feature"], other: Float[Tensor, "seed sample feature"]
    ) -> Float[Tensor, "seed sample sample"]:
        """Return ⟨F_b, F'_c⟩ of two sets of ``mean_outputs``."""
        return torch.bmm(one, other.transpose(1, 2))

    def first_view(self) -> ForwardPass:
        """Return the same forward pass as an objective of one view sees it."""
        return replace(self, views=self.views[:1], attention=Lazily(1, lambda _: self.attention[0]))

    @cached_property
    def squared_errors(self) -> Float[Tensor, "seed sample query"]:
        """‖F_p − X_p‖² of every query on the first view, masked or not, over all coordinates."""
        return (self.outputs() - self.patches()).square().sum(-1)

    def detached(self) -> ModelPass:
        """Return the pass with the outputs that were asked for so far, and no way back to the parameters.

        What was not asked for is made again without one.
        """
        seen = dict[int, Tensor]()

        def see(teacher: Parameters | None, view: int | None) -> Tensor:
            with torch.no_grad():
                if teacher is not None or view is None:
                    return self.see(teacher, view)
                return seen.setdefault(view, self.see(None, view).detach())

        def attention(view: int) -> Tensor:
            with torch.no_grad():
                return self.attention[view].detach()

        return ModelPass(
            self.batch, self.views, Lazily(len(self.views), attention), self.state, self.attend, see=see
        )

    def patches(self) -> Float[Tensor, "seed sample patch feature"]:
        """Return the patches X_p themselves, masked or not."""
        return self.batch.contents()


def model_pass(
    model: Model, parameters: Parameters, batch: PatchBatch, views: Views, state: State
) -> ModelPass:
    """Return a batch seen through a model; outputs and attention are made once, when they are asked for."""

    def outputs(own: Parameters, view: int | None) -> Tensor:
        return checked_outputs(model, own, batch, shown_in(views, view))

    def attend(own: Parameters, view: int | None) -> Tensor:
        return checked_area_attention(model, own, batch, shown_in(views, view))

    made, of_teacher = Lazily(len(views), lambda view: outputs(parameters, view)), kept(outputs)

    def see(teacher: Parameters | None, view: int | None) -> Tensor:
        return made[view] if teacher is None else of_teacher(teacher, view)

    attention = Lazily(len(views), lambda view: attend(parameters, view))
    return ModelPass(batch, views, attention, state, kept(attend), see=see)
