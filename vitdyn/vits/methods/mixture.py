"""A mixture of reconstruction and contrast on one encoder."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from vitdyn._errors import require_kind
from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.contrast import Contrast
from vitdyn.vits.methods.method import Method, Work
from vitdyn.vits.methods.reconstruction import Reconstruction
from vitdyn.vits.small_vit import SmallViT


@dataclass(frozen=True, kw_only=True)
class Mixture(Method):
    """Mixture: (1 − w) · reconstruction + w · contrast, w = ``weight``. Source: Park et al. (2023)."""

    name = "mixture"
    reads = "both"
    taught = Contrast.taught
    freezes_patches = True

    weight: float = 0.2
    reconstruction: Reconstruction = field(default_factory=Reconstruction)
    contrast: Contrast = field(default_factory=Contrast)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_kind("reconstruction", self.reconstruction, Reconstruction)
        require_kind("contrast", self.contrast, Contrast)

    def check(self, vit: SmallViT, side: int) -> None:
        """Raise ``ValueError`` where no patch is masked or none is left."""
        self.reconstruction.check(vit, side)

    def heads(self, vit: SmallViT, images: ImageSet, seed: int) -> dict[str, nn.Module]:
        """Return the heads of both."""
        return self.reconstruction.heads(vit, images, seed) | self.contrast.heads(vit, images, seed)

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the weighted sum."""
        # contrast alone has a teacher, which therefore moves once a step
        rebuilt, contrasted = self.reconstruction.loss(learner, batch), self.contrast.loss(learner, batch)
        return (1 - self.weight) * rebuilt + self.weight * contrasted

    def work(self, vit: SmallViT, side: int) -> Work:
        """Return the sum of what both cost."""
        parts = self.reconstruction.work(vit, side), self.contrast.work(vit, side)
        return Work(*map(sum, zip(*parts, strict=True)))
