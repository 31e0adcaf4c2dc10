"""RC-MAE: masked reconstruction that keeps to what a teacher reconstructs from the same mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_choice, require_integer
from vitdyn.losses import rc_mae
from vitdyn.losses.hybrid import TEACHER_SEES
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.method import Work
from vitdyn.vits.methods.reconstruction import Reconstruction
from vitdyn.vits.small_vit import SmallViT, patches_of


@dataclass(frozen=True, kw_only=True)
class RCMAE(Reconstruction):
    """RC-MAE: reconstruction, plus ``consistency`` times the mean squared distance to a teacher's pixels, where masked.

    The teacher, encoder and decoder, sees the same images without the same patches; of the second term pixels are as
    the decoders have them, never normalised. It keeps the share ``momentum`` of itself, rising to 1 over the run by a
    cosine. The released code starts this schedule anew at each epoch, so that it hardly rises: ``epoch_steps`` is the
    length of one (0: never). ``teacher_sees`` "permuted" is a control: the teacher is shown another image of the
    batch. Source: Lee et al. (2023).
    """

    name = "rc-mae"
    reads = "patches"
    taught = ("decoder",)

    consistency: float = 1.0
    momentum: float = 0.996
    epoch_steps: int = 0
    teacher_sees: str = "same"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("epoch_steps", self.epoch_steps, at_least=0)
        require_choice("teacher_sees", self.teacher_sees, TEACHER_SEES)

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return both terms on plain images."""
        learner.move_teacher(batch.momentum(self.momentum, self.epoch_steps))
        images, shape = batch.plain, learner.shape
        noise, target = batch.noise(shape.patches), patches_of(images, shape.patch)
        student = self.reconstruct(learner.encoder.weights, learner.heads["decoder"], shape, images, noise)
        with torch.no_grad():
            # images of a batch are drawn at random: the next one is as good as any other
            shown = images if self.teacher_sees == "same" else images.roll(1, 0)
            teacher = self.reconstruct(
                learner.teacher_weights, learner.teacher["decoder"], shape, shown, noise
            )
        return rc_mae(
            student.pixels,
            teacher.pixels,
            target,
            student.masked,
            weight=self.consistency,
            normalise=self.normalised_targets,
        )

    def work(self, vit: SmallViT, side: int) -> Work:
        """Return what a step costs: reconstruction's, and once more forward."""
        student = super().work(vit, side)
        return Work(student.products * 4 // 3, 2 * student.blocks, 0)
