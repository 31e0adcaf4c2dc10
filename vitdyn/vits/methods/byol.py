"""BYOL: each view predicts what a teacher makes of the other; no negatives."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vitdyn.losses import byol
from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.method import Method, mlp_head
from vitdyn.vits.small_vit import SmallViT


@dataclass(frozen=True, kw_only=True)
class BYOL(Method):
    """BYOL: 2 − 2 cos of a view's prediction and the teacher's projection of the other, in both directions.

    Projector and predictor have ``projection`` outputs; the teacher keeps the share ``momentum``, rising to 1, of
    itself. Source: Grill et al. (2020).
    """

    name = "byol"
    reads = "image"
    taught = ("projector",)

    momentum: float = 0.97
    projection: int = 64

    def heads(self, vit: SmallViT, images: ImageSet, seed: int) -> dict[str, nn.Module]:
        """Return projector and predictor."""
        # the predictor alone tells student from teacher: without it both would agree on a constant
        hidden = 4 * vit.width
        projector = mlp_head(vit.width, hidden, self.projection, normed=False)
        return {
            "projector": projector,
            "predictor": mlp_head(self.projection, hidden, self.projection, normed=False),
        }

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the sum over both directions."""
        learner.move_teacher(batch.momentum(self.momentum))
        return byol(learner.embed(batch, "projector", "predictor"), learner.targets(batch, "projector"))
