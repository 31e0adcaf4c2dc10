"""Contrast (MoCo v3): two views of an image against all other images of the batch, keys from a moving average."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vitdyn.losses import moco_v3
from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.method import Method, mlp_head
from vitdyn.vits.small_vit import SmallViT


@dataclass(frozen=True, kw_only=True)
class Contrast(Method):
    """Contrast: cross entropy of each view against the other's key among all keys, in both directions, times 2τ.

    τ = ``temperature``; projector and predictor have ``projection`` outputs; keys come from a teacher that keeps the
    share ``momentum``, rising to 1, of itself, and that moves before they are taken. Source: Chen, Xie and He (2021).
    """

    name = "contrast"
    reads = "image"
    taught = ("projector",)
    # a projection of patches that is trained makes contrast unstable (MoCo v3)
    freezes_patches = True

    temperature: float = 0.2
    momentum: float = 0.9
    projection: int = 64

    def heads(self, vit: SmallViT, images: ImageSet, seed: int) -> dict[str, nn.Module]:
        """Return projector and predictor."""
        hidden = 4 * vit.width
        projector = mlp_head(vit.width, hidden, hidden, self.projection, normed=True)
        return {
            "projector": projector,
            "predictor": mlp_head(self.projection, hidden, self.projection, normed=True),
        }

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the sum over both directions."""
        learner.move_teacher(batch.momentum(self.momentum))
        first, second = learner.embed(batch, "projector", "predictor")
        keys = learner.targets(batch, "projector")
        pairs = (first, keys[1]), (second, keys[0])
        forward, back = (moco_v3(*pair, temperature=self.temperature) for pair in pairs)
        return forward + back
