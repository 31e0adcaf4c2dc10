"""SimCLR: two views of an image against all other views of the batch, by one network."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vitdyn.losses import nt_xent
from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.method import Method, mlp_head
from vitdyn.vits.small_vit import SmallViT


@dataclass(frozen=True, kw_only=True)
class SimCLR(Method):
    """SimCLR: NT-Xent of two views at ``temperature``, of a projector's ``projection`` outputs.

    Source: Chen, Kornblith, Norouzi and Hinton (2020); three layers as in Chen, Xie and He (2021).
    """

    name = "simclr"
    reads = "image"

    temperature: float = 0.2
    projection: int = 64

    def heads(self, vit: SmallViT, images: ImageSet, seed: int) -> dict[str, nn.Module]:
        """Return the projector."""
        # both views are anchors and keys of one network: no teacher, and no predictor either
        hidden = 4 * vit.width
        return {"projector": mlp_head(vit.width, hidden, hidden, self.projection, normed=True)}

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the mean over all views."""
        return nt_xent(*learner.embed(batch, "projector"), temperature=self.temperature)
