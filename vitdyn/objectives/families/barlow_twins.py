"""Barlow Twins: the coordinates of two views correlate each with itself and with no other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn import losses
from vitdyn._errors import require_choice, require_real
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.losses.decorrelation import CONVENTIONS
from vitdyn.objectives.closed_form import MeanPooled
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.pooled import pooled_form
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class BarlowTwins(TwoViews):
    """Barlow Twins: the correlation matrix of the mean-pooled outputs of two masked views is drawn to the identity.

        L = Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij²,   C_ij = corr_b(x_bi, y_bj)

    x, y are the pooled outputs along the K N features of all clusters; the correlation is over the batch. λ =
    ``weight``: 0.005 in the paper, 0.0051 in the authors' program, whose ``convention`` "code" adds 1e-5 to each
    variance. A coordinate that does not vary correlates with none. No projector. Source: Zbontar et al. (2021).

    >>> vd.objectives.BarlowTwins(convention="code", weight=0.0051).family
    'decorrelation'
    """

    name: ClassVar[str] = "barlow-twins"
    family: ClassVar[str] = "decorrelation"
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio", "weight")

    weight: float = field(
        default=0.005, metadata={"help": "λ, the weight of correlations between coordinates."}
    )
    convention: str = field(
        default="paper", metadata={"help": "Whether variances are exact (paper) or 1e-5 more (code)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("weight", self.weight, low=0.0, high=1e6)
        require_choice("convention", self.convention, CONVENTIONS)

    def pooled_loss(self, first: Tensor, second: Tensor) -> Float[Tensor, " seed"]:
        """Return the loss of the embeddings of both views."""
        weight = hyperparameter(self, lambda one: one.weight, first)
        return losses.barlow_twins(first, second, weight=weight, convention=self.convention)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the loss over the samples of a batch."""
        return self.pooled_loss(forward.embeddings(0), forward.embeddings(1))

    def closed_form(self, batch: PatchBatch) -> MeanPooled:
        """Return ∂L/∂Ā of both views."""
        return pooled_form(batch, self.pooled_loss)

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 1.0 * layout.patches * layout.clusters
