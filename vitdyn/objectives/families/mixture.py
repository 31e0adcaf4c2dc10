"""A mixture of masked reconstruction and contrast: one loss with a weight between the two."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import require_real
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.data.masking import masked_count
from vitdyn.objectives.closed_form import ClosedForm, MeanPooled, Means, Reduction, Residual
from vitdyn.objectives.contract import closed_form_of, lower_bound_of, reduction_of
from vitdyn.objectives.families.contrastive import Contrastive
from vitdyn.objectives.families.masked_reconstruction import MaskedReconstruction
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.stacked import hyperparameter, map_spec
from vitdyn.objectives.two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class Mixture(TwoViews):
    """Mixture: masked reconstruction of the first of two views, and InfoNCE between the two.

        L = (1 − λ) L_MAE / m + λ L_InfoNCE,   λ = ``weight`` in [0, 1],   m = γP masked patches

    L_MAE = ½ E Σ_{p masked} ‖F_p − X_p‖² on the first view (``MaskedReconstruction``), divided by m: the mean error
    of a masked patch. Both terms are per patch, for the pooling of InfoNCE (``Contrastive``) divides by P.
    One pair of ``views`` ("independent" or "complementary") serves both terms; γ = ``mask_ratio`` of the first,
    τ = ``temperature``. At λ = 0 it is masked reconstruction at 1/m of its rate, at λ = 1 it is contrast without
    weight decay. The gradient is the same sum of the gradients of the two (notes, ``gradients.md``). Source: the
    form is ours, after hybrid methods that add the two losses.

    >>> vd.Mixture(weight=0.7).temperature
    1.0
    """

    name: ClassVar[str] = "mixture"
    family: ClassVar[str] = "hybrid"
    batchable_fields: ClassVar[tuple[str, ...]] = ("weight", "mask_ratio", "temperature")

    weight: float = field(default=0.5, metadata={"help": "λ in [0, 1]: 0 is reconstruction, 1 contrast."})
    temperature: float = field(default=1.0, metadata={"help": "τ, the temperature of InfoNCE."})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("weight", self.weight, low=0.0, high=1.0)
        _ = self.reconstruction, self.contrast  # each validates its own fields

    @cached_property
    def reconstruction(self) -> MaskedReconstruction:
        """The generative part, on the first view."""
        return map_spec(self, lambda one: MaskedReconstruction(mask_ratio=one.mask_ratio))

    @cached_property
    def contrast(self) -> Contrastive:
        """The contrastive part, on both views."""
        return map_spec(
            self,
            lambda one: Contrastive(mask_ratio=one.mask_ratio, temperature=one.temperature, views=one.views),
        )

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        return self._mix(forward, self.reconstruction.loss(forward.first_view()), self.contrast.loss(forward))

    def closed_form(self, batch: PatchBatch) -> ClosedForm | None:
        """Return (1 − λ)/m of the residual plus λ of the gradient of contrast; None where a part has no such form."""
        match closed_form_of(self.reconstruction, batch), closed_form_of(self.contrast, batch):
            case (Residual(float() as scale),), (MeanPooled(gradient),):
                pass
            case _:  # a user's subclass of a part, whose loss has another form or none
                return None
        patches, column = batch.layout.patches, batch.latents[:, 0, 0]

        def weighted(means: Means) -> tuple[Tensor | None, ...]:
            return tuple(None if part is None else part * self._weight(part) for part in gradient(means))

        # One number for each seed, made in one go: a seed alone must have the bits that it has in a stack.
        mean = hyperparameter(
            self, lambda one: scale * (1 - one.weight) / masked_count(patches, one.mask_ratio), column
        )
        return Residual(mean) + MeanPooled(weighted)

    def reduction(self) -> Reduction | None:
        """Return the same sum of the reductions of both parts, None where a part has none."""
        if reduction_of(self.reconstruction) is None or reduction_of(self.contrast) is None:
            return None
        return Reduction(contrast=self.weight, temperature=self.temperature, per_masked_patch=True)

    def lower_bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the mixture of the two bounds: no model attains both where 0 < λ < 1."""
        rebuilt = lower_bound_of(self.reconstruction, forward.first_view())
        return self._mix(forward, rebuilt, lower_bound_of(self.contrast, forward))

    def loss_queries(self, forward: ForwardPass) -> Bool[Tensor, "seed sample query"]:
        """Return the masked patches of the first view: the queries that both terms train."""
        return self.reconstruction.loss_queries(forward.first_view())

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 4 P K: both terms divide the gradient of one position by P, the draw of a cluster by K."""
        return self.contrast.default_learning_rate(layout)

    def _weight(self, like: Tensor) -> float | Tensor:
        return hyperparameter(self, lambda one: one.weight, like)

    def _mix(self, forward: ForwardPass, rebuilt: Tensor, contrasted: Tensor) -> Float[Tensor, " seed"]:
        patches = forward.batch.layout.patches
        masked = hyperparameter(self, lambda one: masked_count(patches, one.mask_ratio), rebuilt)
        return torch.lerp(rebuilt / masked, contrasted, self._weight(rebuilt))
