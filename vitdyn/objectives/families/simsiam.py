"""SimSiam: from one view the model predicts its own output on the other, which takes no gradient; nothing repels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchLayout
from vitdyn.losses import simsiam
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.teacher import WithPredictor
from vitdyn.objectives.two_views import TwoViews


@dataclass(frozen=True, kw_only=True)
class SimSiam(TwoViews, WithPredictor):
    """SimSiam: the cosine of a view's predicted pooled output with the model's own pooled output of the other view.

        L = −½ E_b [ cos(W F⁺_b, sg F⁺⁺_b) + cos(W F⁺⁺_b, sg F⁺_b) ],   F = Σ_j z_j Ā_j v_{k,j}

    W, the predictor, is linear, starts at the identity and is trained by plain descent at ``predictor_rate`` (0:
    stays). No projector, no teacher; γ = ``mask_ratio`` in each of two ``views``. Source: Chen and He (2021), whose
    predictor has two layers.

    >>> vd.objectives.SimSiam(views="complementary").mask_ratio
    0.5
    """

    name: ClassVar[str] = "simsiam"
    family: ClassVar[str] = "self-distillation"
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio", "predictor_rate")
    least_samples: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_rate()

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        outputs = [forward.embeddings(view) for view in (0, 1)]
        return simsiam([self.predict(forward, each) for each in outputs], outputs)

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 4 P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 4.0 * layout.patches * layout.clusters
