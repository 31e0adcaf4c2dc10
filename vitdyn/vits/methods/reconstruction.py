"""Masked reconstruction (MAE): pixels of masked patches, from those that are visible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from vitdyn._errors import invalid_value, require_boolean
from vitdyn.losses import mae
from vitdyn.vits.architecture import Architecture
from vitdyn.vits.functional_vit import Weights
from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.method import Method, Work
from vitdyn.vits.small_vit import PREFIX, Encoded, SmallViT, build, encode_masked, patches_of, visible_patches


class Reconstructed(NamedTuple):
    """The pixels of every patch, as a decoder has them, and which patches were masked (1)."""

    pixels: Float[Tensor, "image patch pixel"]
    masked: Float[Tensor, "image patch"]


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

    def reconstruct(
        self,
        encoder: Weights,
        decoder: Callable[[Encoded], Tensor],
        shape: Architecture,
        images: Tensor,
        noise: Tensor,
    ) -> Reconstructed:
        """Return the pixels that a decoder makes of images without their patches of largest ``noise``."""
        encoded = encode_masked(encoder, shape, images, noise=noise, mask=self.mask)
        return Reconstructed(decoder(encoded), encoded.masked)

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the error of the pixels of plain images."""
        images, shape, decoder = batch.plain, learner.shape, learner.heads["decoder"]
        noise = batch.noise(shape.patches)
        found = self.reconstruct(learner.encoder.weights, decoder, shape, images, noise)
        target = patches_of(images, shape.patch)
        return mae(found.pixels, target, found.masked, normalise=self.normalised_targets)

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
