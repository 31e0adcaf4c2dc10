"""CMAE: masked reconstruction plus contrast of the pooled output with a teacher's of the whole sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_real
from vitdyn.data import PatchLayout
from vitdyn.losses import cmae
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.masked import MaskedPatches, masked_patches, unreachable
from vitdyn.objectives.parts import teacher_of
from vitdyn.objectives.teacher import WithPredictor, WithTeacher


@dataclass(frozen=True, kw_only=True)
class CMAE(MaskedPatches, WithPredictor, WithTeacher):
    """CMAE: masked reconstruction, and contrast of the pooled output with a teacher's of the whole sample.

        L = ½ mean over masked p of ‖F_p − X_p‖² − λ 2τ E_b log softmax_c( cos(W F_b, sg F̄_c)/τ ) at c = b

    F_b = mean_p F_p of the masked sample, W the predictor: linear, the identity at the start, trained by plain descent
    at ``predictor_rate``. F̄_c is the pooled output of the teacher on the sample without masks (the source's is shifted
    by pixels besides); negatives are the other samples. λ = ``weight``, τ = ``temperature``, γ = ``mask_ratio``. The
    teacher is the moving average of momentum ``momentum``, which rises to 1 by cosine over ``momentum_steps`` steps
    (0: stays). Source: Huang et al. (2023), ``losses.cmae`` with its first term times half the dimensions.
    """

    name: ClassVar[str] = "cmae"
    family: ClassVar[str] = "hybrid"

    weight: float = field(default=1.0, metadata={"help": "λ, the weight of contrast."})
    temperature: float = field(default=0.07, metadata={"help": "τ, the temperature of contrast."})
    momentum: float = field(default=0.996, metadata={"help": "m of the teacher, a moving average."})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("weight", self.weight, low=0.0, high=1e6)
        require_real("temperature", self.temperature, low=0.0, high=1e6, open_low=True)
        self.require_momentum()
        self.require_rate()

    def check(self, layout: PatchLayout, samples: int) -> None:
        """Raise ``ValueError`` where the ratio masks no patch or all, or a sample would have no negative."""
        super().check(layout, samples)
        if samples < 2:
            raise invalid_value(
                "batch_size", samples, "contrast takes its negatives from the batch: at least 2"
            )

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L."""
        outputs, target = forward.outputs(), forward.embeddings(None, teacher_of(forward.state))
        query, half = self.predict(forward, forward.embeddings()), outputs.shape[-1] / 2
        patches, masked = forward.patches(), ~forward.views[0]
        return half * cmae(
            outputs, patches, masked, query, target,
            weight=self.weight / half, temperature=self.temperature, normalise=False,
        )  # fmt: skip

    def lower_bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return that of masked reconstruction: the second term is not negative."""
        return 0.5 * unreachable(forward, 2) / masked_patches(forward)
