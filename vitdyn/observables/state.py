"""What an observable is given: a model at one step, read through one batch, each quantity made once and shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.models import Correlations, area_attention
from vitdyn.models.reference import attend
from vitdyn.objectives import Objective
from vitdyn.objectives.contract import decay_of, loss_of
from vitdyn.objectives.forward import ForwardPass, Lazily

Made = TypeVar("Made")


@dataclass(frozen=True)
class ModelState:
    """A model at one step of its training, and the batch through which it is observed.

    At a frame the batch is an evaluation batch, which no training step sees; at each step, that step's own. Every
    tensor has a leading axis of seeds. Attributes are computed when they are first asked for, then shared by all
    observables of the state: change none in place.

    ``owners`` has the generator and the objective of each seed; ``objective`` stands for those of all.
    """

    parameters: Correlations
    objective: Objective
    forward: ForwardPass
    step: int
    find_gradient: Callable[[], Correlations] = field(repr=False)
    owners: tuple[tuple[PatchGenerator, Objective], ...] = field(repr=False)
    _shared: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def batch(self) -> PatchBatch:
        """The samples: layout, seeds, clusters and latents."""
        return self.forward.batch

    @property
    def views(self) -> tuple[Bool[Tensor, "seed sample patch"], ...]:
        """Which patches each view of a sample shows."""
        return self.forward.views

    @cached_property
    def masks(self) -> tuple[Bool[Tensor, "seed sample patch"], ...]:
        """Which patches each view masks."""
        return tuple(~view for view in self.views)

    @property
    def attention(self) -> Sequence[Float[Tensor, "seed sample area query"]]:
        """The area attention A_{p→j} on each view."""
        return self.forward.attention

    @cached_property
    def outputs(self) -> Sequence[Float[Tensor, "seed sample query feature"]]:
        """The model's outputs F_p on each view, in coordinates along the features of the sample's own cluster."""
        return Lazily(len(self.views), self.forward.outputs)

    @cached_property
    def loss(self) -> Float[Tensor, " seed"]:
        """The objective on this batch, with its weight decay."""
        decay = decay_of(self.objective, self.parameters, self.forward)
        return loss_of(self.objective, self.forward) + decay

    @cached_property
    def gradient(self) -> Correlations:
        """∂loss/∂Q on this batch, block by block."""
        return self.find_gradient()

    def maps(self, samples: slice, view: int = 0) -> Float[Tensor, "seed sample query key"]:
        """Return whole attention maps of some samples. Memory: seeds · samples · P · P numbers; take a few."""
        return attend(self.parameters, self.batch.part(samples), self.views[view][:, samples])

    def shared(self, make: Callable[[ModelState], Made]) -> Made:
        """Return ``make(state)``, computed once for all observables that ask for it."""
        if make not in self._shared:
            self._shared[make] = make(self)
        return self._shared[make]

    @cached_property
    def of_seeds(self) -> tuple[ModelState, ...]:
        """The state of each seed by itself, in tensors of its own.

        They are copies: some sums of torch depend on where in memory an array begins.
        """
        return tuple(self._of_seed(row) for row in range(len(self.owners)))

    def _of_seed(self, row: int) -> ModelState:
        def own(tensor: Tensor) -> Tensor:
            return tensor[row : row + 1].clone()

        forward, seed = self.forward, self.batch.seeds[row : row + 1]
        batch = replace(
            self.batch, seeds=seed, cluster=own(self.batch.cluster), latents=own(self.batch.latents)
        )
        views = tuple(own(view) for view in self.views)

        @torch.no_grad()
        def attend_to(correlations: Correlations, view: int | None) -> Tensor:
            visible = torch.ones_like(views[0]) if view is None else views[view]
            return area_attention(correlations, batch, visible)

        seen = ForwardPass(
            batch,
            views,
            # cut when asked for: on a fused path even the whole attention is not made before that
            Lazily(len(views), lambda view: own(forward.attention[view])),
            {name: own(value) for name, value in forward.state.items()},
            attend_to,
        )
        generator, objective = self.owners[row]
        return ModelState(
            self.parameters.map(own),
            objective,
            seen,
            self.step,
            lambda: self.gradient.map(own),
            ((generator, objective),),
        )
