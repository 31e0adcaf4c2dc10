"""I-JEPA: a predictor makes of the model's output what the teacher makes of the whole sample, at target patches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_boolean, require_choice
from vitdyn.data import PatchLayout
from vitdyn.losses import i_jepa
from vitdyn.losses.distillation import JEPA_CONVENTIONS
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.masked import MaskedPatches
from vitdyn.objectives.parts import teacher_of
from vitdyn.objectives.teacher import WithPredictor, WithTeacher


@dataclass(frozen=True, kw_only=True)
class IJEPA(MaskedPatches, WithPredictor, WithTeacher):
    """I-JEPA: distance of predictions at masked patches to the teacher's outputs, which sees all patches.

        L = mean over masked p of d( W F_p, sg LN(F̄_p) )

    over all D = K N coordinates. Target patches are all masked ones, the context all others (the source has four target
    blocks and one context block). W, the predictor, is linear, starts at the identity and is trained by plain descent
    at ``predictor_rate``; F̄ is the teacher's output on the sample without masks, layer-normalised with ``normalise``.
    "code": d is the smooth L1 of β = 1, mean over coordinates; "paper": d = ‖·‖² (``convention``). The teacher is the
    moving average of momentum ``momentum``, which rises to 1 by cosine over ``momentum_steps`` steps (0: stays).
    γ = ``mask_ratio``. Source: Assran et al. (2023), whose momentum is 0.996 to 1, linearly.
    """

    name: ClassVar[str] = "i-jepa"
    family: ClassVar[str] = "self-distillation"

    normalise: bool = field(default=True, metadata={"help": "Whether targets are layer-normalised."})
    convention: str = field(default="code", metadata={"help": "The distance, as in the code or the paper."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_momentum()
        self.require_rate()
        require_boolean("normalise", self.normalise)
        require_choice("convention", self.convention, JEPA_CONVENTIONS)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L."""
        predicted = self.predict(forward, forward.patch_embeddings())
        teacher = forward.patch_embeddings(None, teacher_of(forward.state))
        masked, convention = ~forward.views[0], self.convention
        return i_jepa(predicted, teacher, masked, normalise=self.normalise, convention=convention)

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 4 P K D for the mean over D coordinates, 2 P K for the sum of squares."""
        each = super().default_learning_rate(layout)
        return each * (layout.clusters * layout.areas if self.convention == "code" else 0.5)
