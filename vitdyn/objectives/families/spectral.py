"""Spectral contrast: a low-rank approximation of the graph of views, as a loss of pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_boolean, require_real
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.losses import spectral_contrastive
from vitdyn.objectives.closed_form import MeanPooled
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.pooled import pooled_form
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class Spectral(TwoViews):
    """Spectral contrast between the mean-pooled outputs of two masked views of a sample.

        L = −2 E_b ⟨F_b⁺, F_b⁺⁺⟩ + E_{b≠c} ⟨F_b⁺, F_c⁺⁺⟩²,   F = Σ_j z_j Ā_j v_{k,j}

    With ``clip``, as in the authors' code, an output longer than √μ is taken at the length √μ and L is divided by μ =
    ``mu``; without, L is the formula of their paper. No temperature, no cosines. Source: HaoChen et al. (2021).

    >>> vd.objectives.Spectral().mu
    1.0
    """

    name: ClassVar[str] = "spectral"
    family: ClassVar[str] = "contrastive"
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio", "mu")

    mu: float = field(default=1.0, metadata={"help": "μ, the squared length from which outputs are cut."})
    clip: bool = field(
        default=True, metadata={"help": "Whether outputs are cut at √μ and the loss divided by μ."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("mu", self.mu, low=0.0, high=1e6, open_low=True)
        require_boolean("clip", self.clip)

    def pooled_loss(self, first: Tensor, second: Tensor) -> Float[Tensor, " seed"]:
        """Return the loss of the embeddings of both views."""
        mu = hyperparameter(self, lambda one: one.mu, first) if self.clip else None
        return spectral_contrastive(first, second, mu=mu)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the loss, averaged over pairs."""
        return self.pooled_loss(forward.embeddings(0), forward.embeddings(1))

    def closed_form(self, batch: PatchBatch) -> MeanPooled:
        """Return ∂L/∂Ā of both views."""
        return pooled_form(batch, self.pooled_loss)

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 1.0 * layout.patches * layout.clusters
