"""SwAV: a view predicts in which cluster the other view lies, clusters being balanced over the batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_integer, require_real
from vitdyn.data import PatchLayout
from vitdyn.losses import swav
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.prototypes import WithPrototypes
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class SwAV(TwoViews, WithPrototypes):
    """SwAV: cross-entropy between the balanced code of one view and the softmax over clusters of the other.

        L = −½ E_b Σ_k [ q¹_bk log p²_bk + q²_bk log p¹_bk ],   p = softmax_k(s/τ),   s_bk = cos(F_b, c_k)

    The codes q = Sinkhorn(s/ε), ``iterations`` times rows and columns, take no gradient and give each of the
    K_p = ``prototypes`` clusters an equal share of the batch. Prototypes c_k are random unit vectors at first, of each
    seed its own, and trained by plain descent at ``prototype_rate`` (0: fixed). τ = ``temperature``, ε = ``epsilon``,
    γ = ``mask_ratio`` in each of two ``views``; no projector, no queue. Source: Caron et al. (2020), whose prototypes
    stay fixed in the first epoch.

    >>> vd.objectives.SwAV(prototypes=16).epsilon
    0.05
    """

    name: ClassVar[str] = "swav"
    family: ClassVar[str] = "clustering"
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio", "temperature", "epsilon", "prototype_rate")

    temperature: float = field(default=0.1, metadata={"help": "τ of the softmax over clusters."})
    epsilon: float = field(default=0.05, metadata={"help": "ε of Sinkhorn: how soft codes are."})
    iterations: int = field(default=3, metadata={"help": "Iterations of Sinkhorn."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_prototypes()
        require_real("temperature", self.temperature, low=0.0, high=1e6, open_low=True)
        require_real("epsilon", self.epsilon, low=0.0, high=1e6, open_low=True)
        require_integer("iterations", self.iterations, at_least=1, at_most=10_000)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        first, second = (forward.embeddings(view) for view in (0, 1))
        return swav(
            first,
            second,
            forward.state["prototypes"],
            temperature=hyperparameter(self, lambda one: one.temperature, first),
            epsilon=hyperparameter(self, lambda one: one.epsilon, first),
            iterations=self.iterations,
        )

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 1.0 * layout.patches * layout.clusters
