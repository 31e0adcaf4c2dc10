"""What is trained: the encoder with the parts that a method adds, and the loss of one step."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitdyn.vits.augmentation import generator, minibatch
from vitdyn.vits.functional_vit import run_vit
from vitdyn.vits.image_sets import Images
from vitdyn.vits.pretraining import Pretraining
from vitdyn.vits.pretraining_losses import (
    classification_loss,
    contrast_loss,
    move_average,
    patches_of,
    reconstruction_loss,
)
from vitdyn.vits.small_vit import PREFIX, build, decode, encode_masked


@dataclass(frozen=True)
class Batch:
    """The images of one step and its other draws, each a function of seed and step."""

    spec: Pretraining
    images: Images
    step: int
    chosen: Int[Tensor, " image"]

    @classmethod
    def draw(cls, spec: Pretraining, images: Images, step: int) -> Batch:
        """Draw the images of a step."""
        return cls(spec, images, step, minibatch(spec.seed, step, spec.batch_size, len(images.train)))

    @property
    def plain(self) -> Float[Tensor, "image channel side side"]:
        """The images, standardised."""
        return self.images.standardised(self.images.train[self.chosen])

    @property
    def labels(self) -> Int[Tensor, " image"]:
        """Their labels."""
        return self.images.train_labels[self.chosen]

    def view(self, index: int) -> Float[Tensor, "image channel side side"]:
        """View 0 or 1 of the images, standardised."""
        draw = generator(self.spec.seed, "user", 2 * self.step + index)
        return self.images.standardised(self.spec.augmentation(self.images.train[self.chosen], draw))

    def noise(self, patches: int) -> Float[Tensor, "image patch"]:
        """The numbers that decide which patches are masked, the largest first."""
        drawn = torch.rand(len(self.chosen), patches, generator=generator(self.spec.seed, "masks", self.step))
        return drawn.to(self.images.train.device)


class Learner(nn.Module):
    """The encoder with its decoder, and heads for contrast or labels where the method has them."""

    def __init__(self, spec: Pretraining) -> None:
        super().__init__()
        self.spec = spec
        side, width = spec.images.side, spec.vit.width
        self.shape, self.decoder_shape = spec.vit.encoder(side), spec.vit.decoder(side)
        self.encoder, self.decoder = build(spec.vit, side, spec.seed)
        with torch.random.fork_rng(devices=[]):  # torch's own layers draw from the global generator
            torch.manual_seed(spec.seed)
            if spec.method in ("contrast", "mixture"):
                self.projector = mlp_head(width, 4 * width, 4 * width, spec.projection)
                self.predictor = mlp_head(spec.projection, 4 * width, spec.projection)
                self.teacher = deepcopy(nn.ModuleList([self.encoder, self.projector])).requires_grad_(False)
                # MoCo v3: a projection of patches that is trained makes contrast unstable
                self.encoder.get_submodule("patch").requires_grad_(False)
            if spec.method == "supervised":
                self.head = nn.Linear(width, spec.images.classes)
        if spec.method in ("contrast", "supervised"):
            self.decoder.requires_grad_(False)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of a step; where there is contrast, the moving average moves first."""
        return _LOSSES[self.spec.method](self, batch)

    def reconstruction(self, batch: Batch) -> Float[Tensor, ""]:
        """Masked reconstruction of plain images."""
        spec, images = self.spec, batch.plain
        # the decoder sees which patches were masked, not their pixels
        noise = batch.noise(self.shape.patches)
        encoded = encode_masked(self.encoder.weights, self.shape, images, noise=noise, mask=spec.mask)
        predicted = decode(self.decoder.weights, self.decoder_shape, encoded)
        target = patches_of(images, spec.vit.patch)
        return reconstruction_loss(predicted, target, encoded.masked, normalised=spec.normalised_targets)

    def contrast(self, batch: Batch) -> Float[Tensor, ""]:
        """Contrast of two views, either as query against the other as key: the sum of both losses."""
        student = nn.ModuleList([self.encoder, self.projector])
        # before the keys are taken, as MoCo v3 does: the other order gives another loss
        move_average(self.teacher, student, self.spec.momentum_at(batch.step))
        views = torch.cat([batch.view(0), batch.view(1)])
        # read together, then cut: a batch norm takes its mean over one view
        first, second = (self.predictor(self.projector(each)) for each in self.read(views).chunk(2))
        with torch.no_grad():
            encoder, projector = self.teacher
            keys = [projector(each) for each in self.read(views, encoder).chunk(2)]
        temperature = self.spec.temperature
        return contrast_loss(first, keys[1], temperature) + contrast_loss(second, keys[0], temperature)

    def mixture(self, batch: Batch) -> Float[Tensor, ""]:
        """(1 − weight) · reconstruction + weight · contrast."""
        share = self.spec.weight
        return (1 - share) * self.reconstruction(batch) + share * self.contrast(batch)

    def supervised(self, batch: Batch) -> Float[Tensor, ""]:
        """Labels of one view."""
        return classification_loss(self.head(self.read(batch.view(0))), batch.labels)

    def read(self, images: Tensor, encoder: Any = None) -> Float[Tensor, "image width"]:
        """Return one vector for each image, as the specification's ``readout`` says."""
        weights = (encoder or self.encoder).weights
        tokens = run_vit(weights, self.shape, images, keep_residual=False).final
        return tokens[:, 0] if self.spec.readout == "class" else tokens[:, PREFIX:].mean(1)


_LOSSES: dict[str, Callable[[Learner, Batch], Tensor]] = {
    "reconstruction": Learner.reconstruction,
    "contrast": Learner.contrast,
    "mixture": Learner.mixture,
    "supervised": Learner.supervised,
}


def mlp_head(*widths: int) -> nn.Sequential:
    """Return linear maps without offsets, each followed by a batch norm and all but the last by a ReLU."""
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs, affine=not last)]
        layers += [] if last else [nn.ReLU()]
    return nn.Sequential(*layers)
