"""data2vec: the tokens that a teacher makes of the whole image, predicted where patches are masked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitdyn._errors import invalid_value
from vitdyn.losses import data2vec
from vitdyn.losses.masked import normalised
from vitdyn.vits.functional_vit import run_vit
from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.method import Method
from vitdyn.vits.methods.reconstruction import require_mask
from vitdyn.vits.small_vit import PREFIX, Parameters, SmallViT, visible_patches


@dataclass(frozen=True, kw_only=True)
class Data2Vec(Method):
    """data2vec: smooth L1 (``beta``) between a linear map of the student's tokens and the teacher's, where masked.

    Targets are the mean over the teacher's last ``blocks`` blocks, layer-normalised each, of the whole image; a learned
    token stands for each of the share ``mask`` of patches that the student does not see. The teacher keeps the share
    ``momentum``, rising to 1, of itself. Source: Baevski et al. (2022).
    """

    name = "data2vec"
    reads = "patches"
    view_count = 0
    taught = ()

    mask: float = 0.5
    blocks: int = 2
    beta: float = 2.0
    momentum: float = 0.97

    def check(self, vit: SmallViT, side: int) -> None:
        """Raise ``ValueError`` where no patch is masked, none is left, or there are not so many blocks."""
        require_mask(self.mask, vit, side)
        if self.blocks > vit.depth:
            raise invalid_value("blocks", self.blocks, f"must be at most the encoder's depth, {vit.depth}")

    def heads(self, vit: SmallViT, images: ImageSet, seed: int) -> dict[str, nn.Module]:
        """Return the mask token and the linear map."""
        token = Parameters({"mask_token": 0.02 * torch.randn(1, 1, vit.width)})
        return {"token": token, "predictor": nn.Linear(vit.width, vit.width)}

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the distance of the tokens of plain images."""
        learner.move_teacher(batch.momentum(self.momentum))
        images, shape = batch.plain, learner.shape
        # the place of each patch in the order of rising noise: the last ones are masked, as in MAE
        places = batch.noise(shape.patches).argsort(1).argsort(1)
        masked = places >= visible_patches(shape, self.mask)
        with torch.no_grad():
            blocks = run_vit(learner.teacher_weights, shape, images).residual[-self.blocks :]
            target = torch.stack([normalised(each[:, PREFIX:], "layer") for each in blocks]).mean(0)
        # the student sees every place, MAE's encoder only those of visible patches
        weights = {**learner.encoder.weights, **dict(learner.heads["token"].named_parameters())}
        tokens = run_vit(weights, shape, images, masked=masked, keep_residual=False).final[:, PREFIX:]
        return data2vec(learner.heads["predictor"](tokens), target, masked, beta=self.beta)
