"""Augmentations of small images, and every other random draw of a training step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer, require_real
from vitdyn.seeds import stream


def generator(seed: int, purpose: str, step: int) -> torch.Generator:
    """Return torch's generator of one seed, purpose and step: a function of these three alone."""
    return torch.Generator().manual_seed(int(stream(seed, purpose, step).integers(2**63)))


def minibatch(seed: int, step: int, size: int, among: int) -> Int[Tensor, " sample"]:
    """Return which of ``among`` images a step sees, each at most once. Raises where there are not so many."""
    require_integer("batch_size", size, at_least=1, at_most=among)
    # a fresh permutation for each step: no state of an epoch needs to be kept
    return torch.randperm(among, generator=generator(seed, "minibatches", step))[:size]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random views of images whose values run from 0 to 1, and so do theirs.

    Each image is moved by up to ``shift`` of its side along each axis, scaled by a factor from 1 − ``scale`` to
    1 + ``scale``, turned by up to ``turn`` radians (pixels that come from outside repeat the edge), mirrored with
    probability 1/2 if ``mirror``; then its contrast is multiplied and its brightness moved by up to ``contrast``, and
    Gaussian noise of standard deviation ``noise`` is added.
    """

    shift: float = 0.1
    scale: float = 0.15
    turn: float = 0.2
    contrast: float = 0.1
    noise: float = 0.05
    mirror: bool = False

    def __post_init__(self) -> None:
        for name in ("shift", "scale", "contrast", "noise"):
            require_real(name, getattr(self, name), low=0, high=1, open_high=True)
        require_real("turn", self.turn, low=0, high=3.2)
        if not isinstance(self.mirror, bool):
            raise invalid_value("mirror", self.mirror, "must be True or False")

    def __call__(
        self, images: Float[Tensor, "image channel side side"], draw: torch.Generator
    ) -> Float[Tensor, "image channel side side"]:
        """Return one random view of each image; numbers are drawn on the CPU, whatever the images' device."""
        count = len(images)
        moved = _sample(images, self._maps(count, draw).to(images))
        # the order of draws is part of the numbers: maps, gains, noise
        gain, offset = self.contrast * _uniform(draw, 2, count, 1, 1, 1).to(images)
        noise = torch.randn(images.shape, generator=draw).to(images)
        # contrast is scaled about the mean of each image, which brightness then moves
        middle = moved.mean((1, 2, 3), keepdim=True)
        return (middle + (1 + gain) * (moved - middle) + offset + self.noise * noise).clamp(0, 1)

    def _maps(self, count: int, draw: torch.Generator) -> Float[Tensor, "image 2 3"]:
        """Return the affine maps from places in the view to places in the image, both from −1 to 1."""
        down, across, zoom, turn, side = _uniform(draw, 5, count)
        size, angle = 1 + self.scale * zoom, self.turn * turn
        # the fifth number is drawn whether images are mirrored or not, so the others stay
        flip = torch.where(side < 0, -1.0, 1.0) if self.mirror else torch.ones(count)
        first = torch.stack([size * angle.cos() * flip, -size * angle.sin(), 2 * self.shift * across], 1)
        second = torch.stack([size * angle.sin() * flip, size * angle.cos(), 2 * self.shift * down], 1)
        return torch.stack([first, second], 1)


def _sample(images: Tensor, maps: Tensor) -> Tensor:
    """Read images at mapped places, bilinearly."""
    # align_corners=False: −1 and 1 are the outer edges of the outermost pixels
    places = torch.nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, places, padding_mode="border", align_corners=False)


def _uniform(draw: torch.Generator, *shape: int) -> Tensor:
    """Draw numbers from −1 to 1."""
    return 2 * torch.rand(*shape, generator=draw) - 1
