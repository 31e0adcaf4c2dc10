"""BYOL: from one view the model predicts what a slow teacher makes of the other; nothing repels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchLayout
from vitdyn.losses import byol
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.parts import teacher_of
from vitdyn.objectives.teacher import WithPredictor, WithTeacher
from vitdyn.objectives.two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class BYOL(TwoViews, WithPredictor, WithTeacher):
    """BYOL: the cosine of a view's predicted pooled output with the teacher's pooled output of the other view.

        L = E_b [ 2 − 2 cos(W F⁺_b, sg F̄⁺⁺_b) ] + E_b [ 2 − 2 cos(W F⁺⁺_b, sg F̄⁺_b) ]

    F = Σ_j z_j Ā_j v_{k,j} is the model's, F̄ the teacher's, a moving average of momentum ``momentum`` that rises to 1
    by cosine over ``momentum_steps`` steps (0: stays). W, the predictor, is linear, starts at the identity and is
    trained by plain descent at ``predictor_rate`` (0: stays). No projector; γ = ``mask_ratio`` in each of two
    ``views``. Source: Grill et al. (2020), whose predictor has two layers and whose momentum is 0.996 to 1.

    >>> vd.objectives.BYOL(momentum=0.996, momentum_steps=1000).predictor_rate
    0.1
    """

    name: ClassVar[str] = "byol"
    family: ClassVar[str] = "self-distillation"
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio", "momentum", "predictor_rate")
    least_samples: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_momentum()
        self.require_rate()

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        teacher = teacher_of(forward.state)
        predicted = [self.predict(forward, forward.embeddings(view)) for view in (0, 1)]
        return byol(predicted, [forward.embeddings(view, teacher) for view in (0, 1)])

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 1.0 * layout.patches * layout.clusters
