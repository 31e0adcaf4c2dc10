"""Alignment and uniformity: views of a sample lie close together, samples spread over the sphere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_boolean, require_real
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.losses import alignment, uniformity
from vitdyn.objectives.closed_form import MeanPooled
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.pooled import pooled_form
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class AlignmentUniformity(TwoViews):
    """Alignment plus uniformity of the mean-pooled outputs of two masked views of a sample.

        L = E_b ‖x_b − y_b‖^α + (w/2) [u(x) + u(y)],   u(x) = log E_{b≠c} e^{−t ‖x_b − x_c‖²}

    x, y are the pooled outputs of the views, made unit vectors unless ``normalise`` is false. α = ``power``, t =
    ``temperature``, w = ``weight``, at the values of the source. Source: Wang and Isola (2020).

    >>> vd.objectives.AlignmentUniformity(weight=0.5).power
    2.0
    """

    name: ClassVar[str] = "alignment-uniformity"
    family: ClassVar[str] = "contrastive"
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio", "power", "temperature", "weight")

    power: float = field(default=2.0, metadata={"help": "α, the power of the distance of two views."})
    temperature: float = field(
        default=2.0, metadata={"help": "t, the inverse width of the Gaussian potential."}
    )
    weight: float = field(default=1.0, metadata={"help": "w, the weight of uniformity."})
    normalise: bool = field(default=True, metadata={"help": "Whether outputs are made unit vectors."})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("power", self.power, low=0.0, high=100.0, open_low=True)
        require_real("temperature", self.temperature, low=0.0, high=1e6, open_low=True)
        require_real("weight", self.weight, low=0.0, high=1e6)
        require_boolean("normalise", self.normalise)

    def pooled_loss(self, first: Tensor, second: Tensor) -> Float[Tensor, " seed"]:
        """Return the loss of the embeddings of both views."""
        power = hyperparameter(self, lambda one: one.power, first)
        temperature = hyperparameter(self, lambda one: one.temperature, first)
        spread = sum(
            uniformity(each, temperature=temperature, normalise=self.normalise) for each in (first, second)
        )
        apart = alignment(first, second, power=power, normalise=self.normalise)
        return apart + hyperparameter(self, lambda one: 0.5 * one.weight, apart) * spread

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the loss, averaged over samples and pairs."""
        return self.pooled_loss(forward.embeddings(0), forward.embeddings(1))

    def closed_form(self, batch: PatchBatch) -> MeanPooled:
        """Return ∂L/∂Ā of both views."""
        return pooled_form(batch, self.pooled_loss)

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 1.0 * layout.patches * layout.clusters
