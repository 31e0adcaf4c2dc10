"""Supervision: the labels of one view, what the methods without labels are measured against."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.method import Method
from vitdyn.vits.small_vit import SmallViT


@dataclass(frozen=True, kw_only=True)
class Supervised(Method):
    """Labels: mean of −log softmax at the label of one augmented view."""

    name = "supervised"
    reads = "image"
    view_count = 1

    def heads(self, vit: SmallViT, images: ImageSet, seed: int) -> dict[str, nn.Module]:
        """Return the linear map to the labels' scores."""
        return {"classifier": nn.Linear(vit.width, images.classes)}

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the cross entropy."""
        # one view suffices, and it is augmented as those of the other methods are
        scores = learner.heads["classifier"](learner.read(batch.view(0)))
        return nn.functional.cross_entropy(scores, batch.labels)
