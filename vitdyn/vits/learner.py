"""What trains: an encoder with the heads that a method adds, the teacher that follows both, and the batch of a step."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from math import cos, pi

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitdyn.vits.architecture import Architecture
from vitdyn.vits.augmentation import Augmentation, generator
from vitdyn.vits.functional_vit import Weights, run_vit
from vitdyn.vits.image_sets import Images
from vitdyn.vits.small_vit import PREFIX, Parameters

Embeddings = Float[Tensor, "image dimension"]


@dataclass(frozen=True)
class Batch:
    """The images of step ``step`` of ``steps``, by their places among the training ``images``.

    What else the step draws is a function of seed and step too, and is drawn when it is asked for.
    """

    images: Images
    chosen: Int[Tensor, " image"]
    augmentation: Augmentation
    seed: int
    step: int
    steps: int

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
        draw = generator(self.seed, "user", 2 * self.step + index)
        return self.images.standardised(self.augmentation(self.images.train[self.chosen], draw))

    @cached_property
    def views(self) -> Float[Tensor, "image channel side side"]:
        """Both views, one after the other: student and teacher see the same."""
        return torch.cat([self.view(0), self.view(1)])

    def noise(self, patches: int) -> Float[Tensor, "image patch"]:
        """The numbers that decide which patches are masked, the largest first."""
        drawn = torch.rand(len(self.chosen), patches, generator=generator(self.seed, "masks", self.step))
        return drawn.to(self.images.train.device)

    def momentum(self, first: float, period: int = 0) -> float:
        """How much of itself a teacher keeps: m_t = 1 − (1 − m)(1 + cos(πt/T))/2, m = ``first``.

        t is the step, which with a ``period`` counts from 0 again after so many, and T all steps.
        """
        counted = self.step % period if period else self.step
        return 1 - (1 - first) * 0.5 * (1 + cos(pi * counted / self.steps))


class Learner(nn.Module):
    """The encoder and a method's ``heads``; where some are ``taught``, a teacher that averages them and the encoder.

    ``readout`` is what stands for an image: the mean of its patches' tokens, or its class token.
    """

    def __init__(
        self,
        shape: Architecture,
        encoder: Parameters,
        heads: Mapping[str, nn.Module],
        *,
        taught: tuple[str, ...] | None = None,
        readout: str = "mean",
    ) -> None:
        super().__init__()
        self.shape, self.readout = shape, readout
        self.encoder, self.heads = encoder, nn.ModuleDict(heads)
        if taught is not None:
            # a dictionary and no module: a parameter is listed and trained once
            self.student = {"encoder": encoder, **{name: heads[name] for name in taught}}
            self.teacher = nn.ModuleDict(deepcopy(self.student)).requires_grad_(False)

    def embed(self, batch: Batch, *heads: str) -> tuple[Embeddings, Embeddings]:
        """Return both views as the encoder and then these heads embed them."""
        return self._embed(batch, self.encoder.weights, [self.heads[name] for name in heads])

    @torch.no_grad()
    def targets(self, batch: Batch, *heads: str) -> tuple[Embeddings, Embeddings]:
        """Return both views as the teacher embeds them: targets, which take no gradient."""
        return self._embed(batch, self.teacher_weights, [self.teacher[name] for name in heads])

    def _embed(self, batch: Batch, weights: Weights, heads: list[nn.Module]) -> tuple[Tensor, Tensor]:
        # read together, then cut: a batch norm takes its mean over one view
        first, second = self.read(batch.views, weights).chunk(2)
        for head in heads:
            first, second = head(first), head(second)
        return first, second

    @property
    def teacher_weights(self) -> dict[str, Tensor]:
        """The weights of the teacher's encoder."""
        return dict(self.teacher["encoder"].named_parameters())

    def read(self, images: Tensor, weights: Weights | None = None) -> Float[Tensor, "image width"]:
        """Return one vector for each image, as ``readout`` says."""
        weights = self.encoder.weights if weights is None else weights
        tokens = run_vit(weights, self.shape, images, keep_residual=False).final
        return tokens[:, 0] if self.readout == "class" else tokens[:, PREFIX:].mean(1)

    @torch.no_grad()
    def move_teacher(self, momentum: float) -> None:
        """Move each parameter θ̄ of the teacher to momentum · θ̄ + (1 − momentum) · θ.

        Called before the teacher is read: of the student after the last step, as if that step had ended with it.
        """
        old: list[Tensor] = list(self.teacher.parameters())
        new: list[Tensor] = [each for part in self.student.values() for each in part.parameters()]
        # one call for all parameters, most of which are small
        torch._foreach_lerp_(old, new, 1 - momentum)
