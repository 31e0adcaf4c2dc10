"""What an observable is given: a model at one step, read through one batch, each quantity made once and shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.models import LAYER, Correlations, Model, Parameters
from vitdyn.models.model import CORRELATIONS
from vitdyn.objectives import Objective
from vitdyn.objectives.contract import decay_of, loss_of
from vitdyn.objectives.forward import ForwardPass, Lazily, kept, layer_attender
from vitdyn.objectives.model_pass import model_pass

Made = TypeVar("Made")


@dataclass(frozen=True)
class ModelState:
    """A model at one step of its training, and the batch through which it is observed.

    At a frame the batch is an evaluation batch, which no training step sees; at each step, that step's own. Every
    tensor has a leading axis of seeds. Attributes are computed when they are first asked for, then shared by all
    observables of the state: change none in place.

    ``owners`` has the generator and the objective of each seed; ``objective`` stands for those of all.
    """

    parameters: Parameters
    objective: Objective
    forward: ForwardPass
    step: int
    find_gradient: Callable[[], Parameters] = field(repr=False)
    owners: tuple[tuple[PatchGenerator, Objective], ...] = field(repr=False)
    model: Model = LAYER
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

    @property
    def correlations(self) -> Correlations:
        """The blocks of Q. Raises ``ValueError`` for a model without them: declare ``needs="correlations"``."""
        if CORRELATIONS not in self.model.offers:
            raise invalid_value(
                "model", self.model.name, "has no correlations Φ and Υ: read state.parameters"
            )
        return Correlations.of(self.parameters)

    @cached_property
    def loss(self) -> Float[Tensor, " seed"]:
        """The objective on this batch, with its weight decay."""
        decay = decay_of(self.objective, self.parameters, self.forward)
        return loss_of(self.objective, self.forward) + decay

    @cached_property
    def gradient(self) -> Parameters:
        """∂loss/∂Q, or in whatever parameters the model has, on this batch, block by block."""
        return self.find_gradient()

    def maps(self, samples: slice, view: int = 0) -> Float[Tensor, "seed sample query key"]:
        """Return attention maps of some samples: of the last layer, mean over its heads.

        Memory: seeds · samples · P · P numbers, times layers and heads; take a few.
        """
        return self.head_maps(samples, view)[:, :, -1].mean(2)

    def head_maps(self, samples: slice, view: int = 0) -> Float[Tensor, "seed sample layer head query key"]:
        """Return the attention maps of every layer and head of some samples."""
        return self.model.attention_maps(
            self.parameters, self.batch.part(samples), self.views[view][:, samples]
        )

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
        batch = self.batch.map(own, seeds=seed)
        views = tuple(own(view) for view in self.views)
        if not forward.has_closed_forms:
            carried = {name: own(value) for name, value in forward.state.items()}
            return self._seen_again(
                row, model_pass(self.model, self.parameters.map(own), batch, views, carried)
            )

        seen = ForwardPass(
            batch,
            views,
            # cut when asked for: on a fused path even the whole attention is not made before that
            Lazily(len(views), lambda view: own(forward.attention[view])),
            {name: own(value) for name, value in forward.state.items()},
            kept(layer_attender(batch, views)),
        )
        return self._seen_again(row, seen)

    def _seen_again(self, row: int, seen: ForwardPass) -> ModelState:
        """Return the state of one seed, by what it is seen through."""

        def own(tensor: Tensor) -> Tensor:
            return tensor[row : row + 1].clone()

        return ModelState(
            self.parameters.map(own),
            self.owners[row][1],
            seen,
            self.step,
            lambda: self.gradient.map(own),
            (self.owners[row],),
            self.model,
        )
