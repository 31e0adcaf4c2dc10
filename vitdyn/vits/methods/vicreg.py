"""VICReg: two views agree, each coordinate varies over the batch, and no two vary together."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vitdyn.losses import vicreg
from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.method import Method, mlp_head
from vitdyn.vits.small_vit import SmallViT


@dataclass(frozen=True, kw_only=True)
class VICReg(Method):
    """VICReg: weights of ``invariance``, ``variance`` and ``covariance`` of an expander's ``projection`` outputs.

    The formula is that of the authors' code. Source: Bardes, Ponce and LeCun (2022).
    """

    name = "vicreg"
    reads = "image"

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    projection: int = 64

    def heads(self, vit: SmallViT, images: ImageSet, seed: int) -> dict[str, nn.Module]:
        """Return the expander."""
        hidden = 4 * vit.width
        # without a norm at the end, which would fix the variance that the loss asks for
        return {"projector": mlp_head(vit.width, hidden, hidden, self.projection, normed=False)}

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the weighted sum of the three terms."""
        weights = {each: getattr(self, each) for each in ("invariance", "variance", "covariance")}
        return vicreg(*learner.embed(batch, "projector"), **weights, convention="code")
