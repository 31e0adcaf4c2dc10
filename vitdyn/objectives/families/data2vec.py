"""data2vec: at masked patches the model predicts what its teacher makes of the whole sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_choice, require_real
from vitdyn.data import PatchLayout
from vitdyn.losses import data2vec
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.masked import MaskedPatches
from vitdyn.objectives.parts import teacher_of
from vitdyn.objectives.teacher import WithTeacher

TARGETS = ("none", "layer", "instance")


@dataclass(frozen=True, kw_only=True)
class Data2Vec(MaskedPatches, WithTeacher):
    """data2vec: distance of the model's output at masked patches to its teacher's, which sees all patches.

        L = (1/√D) mean over masked p of Σ_i d( F_pi, sg F̄_pi ),   d the square, or the smooth L1 of β > 0

    over all D = K N coordinates; F̄ is the teacher's output on the sample without masks, normalised as ``target`` says:
    "none", "layer" (over the coordinates of each patch) or "instance" (each coordinate over the patches). The teacher
    is the moving average of momentum ``momentum``, which rises to 1 by cosine over ``momentum_steps`` steps (0: stays).
    γ = ``mask_ratio``. Source: Baevski et al. (2022), whose momentum is 0.999 to 0.9999, linearly, and whose target is
    the mean over the last blocks: here there is one.
    """

    name: ClassVar[str] = "data2vec"
    family: ClassVar[str] = "self-distillation"

    beta: float = field(default=0.0, metadata={"help": "β of the smooth L1 distance; 0 is the square."})
    target: str = field(
        default="none", metadata={"help": "How targets are normalised: none, layer, instance."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_momentum()
        require_real("beta", self.beta, low=0.0, high=1e6)
        require_choice("target", self.target, TARGETS)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L."""
        student, teacher = (
            forward.patch_embeddings(),
            forward.patch_embeddings(None, teacher_of(forward.state)),
        )
        return data2vec(student, teacher, ~forward.views[0], beta=self.beta, normalise=self.target)

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 2 P K √D: the square has no factor ½, and the sum over D coordinates is divided by √D."""
        return 0.5 * super().default_learning_rate(layout) * sqrt(layout.clusters * layout.areas)
