"""Masked reconstruction (MAE): pixels of masked patches, from those that are visible."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from vitdyn._errors import invalid_value, require_boolean
from vitdyn.losses import mae
from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.method import Method, Work
from vitdyn.vits.small_vit import PREFIX, SmallViT, build, encode_masked, patches_of, visible_patches


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Method):
    """Masked reconstruction: mean over the masked share ``mask`` of patches of the mean squared error of pixels.

    Visible patches alone go through the encoder, and a small decoder fills in the others. ``normalised_targets`` are
    (y − mean)/√(variance + 1e-6) of each patch. Source: He et al. (2022).
    """

    name = "reconstruction"
    reads = "patches"
    view_count = 0

    mask: float = 0.5
    normalised_targets: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_boolean("normalised_targets", self.normalised_targets)

    def check(self, vit: SmallViT, side: int) -> None:
        """Raise ``ValueError`` where no patch is masked or none is left."""
        require_mask(self.mask, vit, side)

    def heads(self, vit: SmallViT, images: ImageSet, seed: int) -> dict[str, nn.Module]:
        """Return the decoder."""
        # drawn after the encoder, from the same stream
        return {"decoder": build(vit, images.side, seed)[1]}

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the error of the pixels of plain images."""
        images, shape = batch.plain, learner.shape
        noise = batch.noise(shape.patches)
        encoded = encode_masked(learner.encoder.weights, shape, images, noise=noise, mask=self.mask)
        predicted, target = learner.heads["decoder"](encoded), patches_of(images, shape.patch)
        return mae(predicted, target, encoded.masked, normalise=self.normalised_targets)

    def work(self, vit: SmallViT, side: int) -> Work:
        """Return what a step costs: a part of the patches through the encoder, all through the decoder."""
        encoder, decoder = vit.encoder(side), vit.decoder(side)
        products = encoder.products(PREFIX + visible_patches(encoder, self.mask)) + decoder.products(
            decoder.tokens
        )
        return Work(3 * products, encoder.depth + decoder.depth, 0)


def require_mask(mask: float, vit: SmallViT, side: int) -> None:
    """Raise ``ValueError`` where a share of patches is none of them or all."""
    shape = vit.encoder(side)
    if not 0 < visible_patches(shape, mask) < shape.patches:
        words = f"must mask at least one of {shape.patches} patches and leave one"
        raise invalid_value("mask", mask, words)
