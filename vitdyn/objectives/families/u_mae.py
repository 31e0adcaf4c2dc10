"""U-MAE: masked reconstruction with a term that pushes the samples' features apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_boolean, require_real
from vitdyn.data import PatchBatch
from vitdyn.data.masking import masked_count
from vitdyn.losses import u_mae_uniformity
from vitdyn.objectives.closed_form import ClosedForm, Residual
from vitdyn.objectives.contract import lower_bound_of
from vitdyn.objectives.families.masked_reconstruction import MaskedReconstruction
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.masked import MaskedPatches
from vitdyn.objectives.pooled import pooled_form
from vitdyn.objectives.stacked import hyperparameter, map_spec


@dataclass(frozen=True, kw_only=True)
class UMAE(MaskedPatches):
    """U-MAE: masked reconstruction plus the mean squared similarity of all pairs of samples.

        L = L_MAE/m + λ mean over b, c of ⟨f_b, f_c⟩²,   f_b = F(X_b)/‖F(X_b)‖,   m = γP masked patches

    L_MAE is ``MaskedReconstruction``, F = mean_p F_p the pooled output; pairs of a sample with itself count, and give a
    constant to unit vectors. ``normalise`` false takes f_b = F(X_b), as the paper writes it and its code does not.
    λ = ``weight``, 0.01 in the source, whose first term is a mean over pixels and not half a sum over coordinates.
    Source: Zhang et al. (2022).
    """

    name: ClassVar[str] = "u-mae"
    family: ClassVar[str] = "generative"
    batchable_fields: ClassVar[tuple[str, ...]] = ("weight", "mask_ratio")

    weight: float = field(default=0.01, metadata={"help": "λ, the weight of the pairs' similarity."})
    normalise: bool = field(default=True, metadata={"help": "Whether pooled outputs are made unit vectors."})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("weight", self.weight, low=0.0, high=1e6)
        require_boolean("normalise", self.normalise)

    @cached_property
    def reconstruction(self) -> MaskedReconstruction:
        """The first term, before it is divided by m."""
        return map_spec(self, lambda one: MaskedReconstruction(mask_ratio=one.mask_ratio))

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        rebuilt = self.reconstruction.loss(forward)
        return rebuilt * self._rate(forward.batch, rebuilt) + self._pairs(forward.embeddings())

    def closed_form(self, batch: PatchBatch) -> ClosedForm:
        """Return 1/m of the residual plus the gradient of the pairs' similarity, a loss of pooled outputs."""
        # made in one go: a seed alone must have the bits that it has in a stack
        patches, column = batch.layout.patches, batch.latents[:, 0, 0]
        scale = hyperparameter(
            self, lambda one: 1 / (batch.count * masked_count(patches, one.mask_ratio)), column
        )
        return Residual(scale) + pooled_form(batch, self._pairs)

    def lower_bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return that of masked reconstruction: the second term is not negative."""
        least = lower_bound_of(self.reconstruction, forward)
        return least * self._rate(forward.batch, least)

    def _pairs(self, features: Float[Tensor, "seed sample embedding"]) -> Float[Tensor, " seed"]:
        similarity = u_mae_uniformity(features, normalise=self.normalise)
        return similarity * hyperparameter(self, lambda one: one.weight, similarity)

    def _rate(self, batch: PatchBatch, like: Tensor) -> float | Tensor:
        patches = batch.layout.patches
        return hyperparameter(self, lambda one: 1 / masked_count(patches, one.mask_ratio), like)
