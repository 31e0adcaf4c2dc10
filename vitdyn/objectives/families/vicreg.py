"""VICReg: views agree, every coordinate varies over samples, no two vary together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

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
class VICReg(TwoViews):
    """VICReg: variance, invariance, covariance of the mean-pooled outputs of two masked views of a sample.

        L = λ s(x, y) + μ [v(x) + v(y)] + ν [c(x) + c(y)],   weights λ, μ, ν = 25, 25, 1
        s = E_b ‖x_b − y_b‖²,  v = (1/d) Σ_i max(0, γ − √(Var_i + 1e-4)),  c = (1/d) Σ_{i≠j} Cov_ij²

    The d = K N coordinates are those of pooled outputs along the features of all clusters; γ = ``target``. The "code"
    ``convention`` divides s by d and halves v, as the authors' program does. No expander. Source: Bardes et al. (2022).

    >>> vd.objectives.VICReg(covariance=0.0).target
    1.0
    """

    name: ClassVar[str] = "vicreg"
    family: ClassVar[str] = "decorrelation"
    batchable_fields: ClassVar[tuple[str, ...]] = (
        "mask_ratio",
        "invariance",
        "variance",
        "covariance",
        "target",
    )

    invariance: float = field(default=25.0, metadata={"help": "λ, the weight of the distance of two views."})
    variance: float = field(default=25.0, metadata={"help": "μ, the weight of the variance term."})
    covariance: float = field(default=1.0, metadata={"help": "ν, the weight of the covariance term."})
    target: float = field(
        default=1.0, metadata={"help": "γ, the deviation that each coordinate should have."}
    )
    convention: str = field(default="paper", metadata={"help": "Whose factors: those of the paper or code."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("invariance", "variance", "covariance"):
            require_real(name, getattr(self, name), low=0.0, high=1e6)
        require_real("target", self.target, low=0.0, high=1e6, open_low=True)
        require_choice("convention", self.convention, CONVENTIONS)

    def pooled_loss(self, first: Tensor, second: Tensor) -> Float[Tensor, " seed"]:
        """Return VICReg of the embeddings of both views."""
        weights: dict[str, Any] = {
            "invariance": hyperparameter(self, lambda one: one.invariance, first),
            "variance": hyperparameter(self, lambda one: one.variance, first),
            "covariance": hyperparameter(self, lambda one: one.covariance, first),
            "target": hyperparameter(self, lambda one: one.target, first),
        }
        return losses.vicreg(first, second, convention=self.convention, **weights)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return VICReg over the samples of a batch."""
        return self.pooled_loss(forward.embeddings(0), forward.embeddings(1))

    def closed_form(self, batch: PatchBatch) -> MeanPooled:
        """Return ∂L/∂Ā of both views."""
        return pooled_form(batch, self.pooled_loss)

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return P K/5: mean pooling divides the gradient of one position by P; the weights are of the order of 10."""
        return 0.2 * layout.patches * layout.clusters
