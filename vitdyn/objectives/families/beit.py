"""BEiT: the token of each masked patch is classified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_real
from vitdyn.data import PatchLayout
from vitdyn.losses import beit
from vitdyn.losses.masked import masked_mean
from vitdyn.objectives.closed_form import unless_signed
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.masked import MaskedPatches


@dataclass(frozen=True, kw_only=True)
class BEiT(MaskedPatches):
    """BEiT: cross-entropy of the class of each patch that the model does not see; each feature v_{k,j} is a class.

        L = −mean over masked p of log softmax(F_p/τ) at the feature of p

    Outputs are coordinates (k, j) in all clusters' features, D classes in all, and serve as logits themselves. With
    ℓ_j = z_j A_{p→j}/τ and class probabilities π the gradient is ∂L/∂A_j = (z_j/τ)(π_j − 1{j = a(p)}): it vanishes once
    the class is certain, whatever attention is by then. γ = ``mask_ratio``, τ = ``temperature``. Source: Bao et al.
    (2022); the tokens of its dVAE are the features here, its head the identity.
    """

    name: ClassVar[str] = "beit"
    family: ClassVar[str] = "generative"

    temperature: float = field(default=1.0, metadata={"help": "τ, by which outputs are divided."})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("temperature", self.temperature, low=0.0, high=1e6, open_low=True)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L."""
        batch, outputs = forward.batch, forward.patch_embeddings()
        logits = batch.along_features(outputs) / self.temperature
        # no class for a feature that a cluster lacks
        logits = logits.masked_fill(~batch.shown_features, -torch.inf)
        return beit(logits, batch.patch_feature, ~forward.views[0])

    def lower_bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the infimum of L: the own logit at z_a/τ, all others at 0; all at 0 where the area is wholly masked.

        It is approached by attention to the own area alone, or to masked patches, of every masked patch. NaN where
        latents have signs: one below 0 takes its class from what it is attended to.
        """
        batch, visible = forward.batch, forward.views[0]
        own = batch.patch_latent * batch.own_area_visible(visible) / self.temperature
        others = batch.shown_features.sum() - 1
        return unless_signed(batch, masked_mean(torch.log1p(others * torch.exp(-own)), ~visible))

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 4 P K τ: the gradient has a factor 1/τ."""
        return super().default_learning_rate(layout) * self.temperature
