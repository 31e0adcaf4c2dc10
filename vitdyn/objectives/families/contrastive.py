"""Contrastive learning (CL): two masked views of one sample attract, views of other samples repel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_real
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.losses import diagonal_cross_entropy
from vitdyn.objectives.closed_form import MeanPooled, Means, Reduction, unless_signed
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class Contrastive(TwoViews):
    """Contrastive learning: InfoNCE between the mean-pooled outputs of two masked views of a sample.

    F(X) = (1/P) Σ_p F_p = Σ_j z_j Ā_j v_{k,j} with Ā_j = mean_p A_{p→j}; the second view is behind a
    stop-gradient. With s_bc = ⟨F(X_b⁺), sg F(X_c⁺⁺)⟩

        L = −E_b log( e^{s_bb/τ} / Σ_c e^{s_bc/τ} ) + (λ/2)‖Q‖²

    The negatives of a sample are the second views of the other samples in the batch, of whatever cluster.
    τ = ``temperature``, λ = ``weight_decay``, γ = ``mask_ratio`` in each of two ``views`` ("independent" or
    "complementary"). No normalisation of features, no factor 2τ, one direction only. Source: Huang et al.
    (2025), the form of the loss; gradients in the notes, ``gradients.md``.

    >>> vd.Contrastive(temperature=0.5, views="complementary").weight_decay
    0.0
    """

    name: ClassVar[str] = "cl"
    family: ClassVar[str] = "contrastive"
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio", "temperature", "weight_decay")

    temperature: float = field(default=1.0, metadata={"help": "τ, the temperature of InfoNCE."})
    weight_decay: float = field(default=0.0, metadata={"help": "λ of the term (λ/2)‖Q‖²."})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("temperature", self.temperature, low=0.0, high=1e6, open_low=True)
        require_real("weight_decay", self.weight_decay, low=0.0, high=1e6)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the InfoNCE term, averaged over the samples."""
        logits = self._logits(forward, forward.mean_outputs(0), forward.mean_outputs(1))
        return diagonal_cross_entropy(logits).mean(1)

    def closed_form(self, batch: PatchBatch) -> MeanPooled:
        """Return −h_j = −(z_j/τ)[(1 − π_b) f⁺⁺_bj − Σ_{c≠b} π_c f⁺⁺_cj], averaged over the samples.

        f = F(X) in the basis of features, π_c the softmax over the negatives.
        """

        def gradient(means: Means) -> tuple[Tensor, None]:
            anchor, target = (batch.latents * each for each in means)
            slope = torch.softmax(self._logits(batch, anchor, target), -1)
            slope.diagonal(dim1=1, dim2=2).sub_(1)  # ∂/∂s_bc of −log softmax: π_c − 1{c = b}
            if batch.layout.clusters > 1:
                slope.mul_(batch.same_cluster)
            own = torch.bmm(slope, target)
            # τ and B divide at the end, in a pass over (sample, area) and not over (sample, sample)
            rate = hyperparameter(self, lambda one: 1 / (one.temperature * batch.count), own)
            return own * batch.latents * rate, None

        return MeanPooled(gradient)

    def reduction(self) -> Reduction:
        """Return the InfoNCE term itself."""
        return Reduction(contrast=1.0, temperature=self.temperature, all_queries=True)

    def lower_bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the mean of log(1 + (B − 1) e^{−max_j z_j² / τ}): all similarity at its bounds.

        Not attained where negatives come from a sample's own cluster, whose similarity is positive. NaN where latents
        have signs, and similarities too.
        """
        strongest = forward.batch.latents.amax(-1).square()
        temperature = hyperparameter(self, lambda one: one.temperature, strongest)
        bound = torch.log1p((forward.batch.count - 1) * torch.exp(-strongest / temperature)).mean(1)
        return unless_signed(forward.batch, bound)

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 4 P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 4.0 * layout.patches * layout.clusters

    def _logits(
        self,
        seen: ForwardPass | PatchBatch,
        anchor: Float[Tensor, "seed sample feature"],
        target: Float[Tensor, "seed sample feature"],
    ) -> Float[Tensor, "seed sample sample"]:
        """Return s_bc/τ."""
        similarity = seen.similarity(anchor, target.detach())  # the stop-gradient
        return similarity / hyperparameter(self, lambda one: one.temperature, similarity)
