"""SimCLR: the two views of a sample attract, all other views of the batch repel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_boolean, require_real
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.losses import nt_xent
from vitdyn.objectives.closed_form import MeanPooled
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.pooled import pooled_form
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class SimCLR(TwoViews):
    """SimCLR: NT-Xent between the mean-pooled outputs of two masked views of a sample, in both directions.

        L = −E_i log( e^{s_{i,i⁺}/τ} / Σ_{j≠i} e^{s_ij/τ} ),   i, j over the 2B views of a batch

    s_ij is the cosine of two pooled outputs F = Σ_j z_j Ā_j v_{k,j}, or their inner product where ``normalise`` is
    false; no view is behind a stop-gradient. No projector. τ = ``temperature`` (0.5 as in the source's appendix).
    Source: Chen et al. (2020).

    >>> vd.objectives.SimCLR(normalise=False).temperature
    0.5
    """

    name: ClassVar[str] = "simclr"
    family: ClassVar[str] = "contrastive"
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio", "temperature")

    temperature: float = field(default=0.5, metadata={"help": "τ, the temperature of NT-Xent."})
    normalise: bool = field(default=True, metadata={"help": "Whether similarities are cosines."})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("temperature", self.temperature, low=0.0, high=1e6, open_low=True)
        require_boolean("normalise", self.normalise)

    def pooled_loss(self, first: Tensor, second: Tensor) -> Float[Tensor, " seed"]:
        """Return NT-Xent of the embeddings of both views."""
        temperature = hyperparameter(self, lambda one: one.temperature, first)
        return nt_xent(first, second, temperature=temperature, normalise=self.normalise)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return NT-Xent, averaged over all views."""
        return self.pooled_loss(forward.embeddings(0), forward.embeddings(1))

    def closed_form(self, batch: PatchBatch) -> MeanPooled:
        """Return ∂L/∂Ā of both views."""
        return pooled_form(batch, self.pooled_loss)

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 8 τ P K: gradients have a factor 1/τ, and 1/P from pooling, 1/K from the draw of a cluster."""
        return 8.0 * self.temperature * layout.patches * layout.clusters
