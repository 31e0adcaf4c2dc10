"""DINO: each view predicts the soft class that a centred and sharpened teacher gives to the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitdyn.losses import dino, next_centre, unit_vectors
from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.method import Method, mlp_head
from vitdyn.vits.small_vit import SmallViT


@dataclass(frozen=True, kw_only=True)
class DINO(Method):
    """DINO: cross entropy of P_s = softmax(g_s/τ_s) of one view with P_t = softmax((g_t − c)/τ_t) of the other.

    g are cosines with ``prototypes`` trained unit vectors. The centre c keeps the share ``centre_momentum`` of itself
    and takes the rest from the teacher's mean, after the loss; the teacher keeps ``momentum``, rising to 1. Two views,
    no crops of parts. Source: Caron et al. (2021).
    """

    name = "dino"
    reads = "image"
    taught = ("head",)

    prototypes: int = 64
    student_temperature: float = 0.1
    teacher_temperature: float = 0.05
    centre_momentum: float = 0.9
    momentum: float = 0.97

    def heads(self, vit: SmallViT, images: ImageSet, seed: int) -> dict[str, nn.Module]:
        """Return the head, and the centre of what the teacher's gives."""
        return {"head": PrototypeHead(vit.width, self.prototypes), "centre": Centre(self.prototypes)}

    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the mean over both directions; the centre moves afterwards."""
        learner.move_teacher(batch.momentum(self.momentum))
        centre, targets = learner.heads["centre"], learner.targets(batch, "head")
        assert isinstance(centre, Centre)
        temperatures = {each: getattr(self, each) for each in ("student_temperature", "teacher_temperature")}
        found = dino(learner.embed(batch, "head"), targets, centre.mean, **temperatures)
        # after the loss, so that a batch is not centred by itself
        centre.mean = next_centre(centre.mean, targets, momentum=self.centre_momentum)
        return found


class PrototypeHead(nn.Module):
    """Three layers, then the cosines of their output with prototypes.

    Hidden layers have batch norms, an option of the source's code: without them the loss soon stood at log K, that of a
    constant output.
    """

    def __init__(self, width: int, prototypes: int) -> None:
        super().__init__()
        self.layers = mlp_head(width, 4 * width, 4 * width, 2 * width, normed=False)
        self.prototypes = nn.Linear(2 * width, prototypes, bias=False)

    def forward(self, values: Float[Tensor, "image width"]) -> Float[Tensor, "image prototype"]:
        """Return the cosines."""
        return unit_vectors(self.layers(values)) @ unit_vectors(self.prototypes.weight).mT


class Centre(nn.Module):
    """The running mean of the teacher's outputs: state that is not trained."""

    mean: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
