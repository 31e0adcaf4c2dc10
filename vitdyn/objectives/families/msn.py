"""MSN: a masked view is assigned to prototypes as a teacher assigns the whole sample, and all prototypes are used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_real
from vitdyn.data import PatchLayout
from vitdyn.losses import msn
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.parts import teacher_of
from vitdyn.objectives.prototypes import WithPrototypes
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.teacher import WithTeacher


@dataclass(frozen=True, kw_only=True)
class MSN(WithPrototypes, WithTeacher):
    """MSN: cross-entropy between a teacher's sharpened assignment of the whole sample and that of a masked view.

        L = E_b[ −p⁺_b · log p_b ] + λ (log K_p − H(p̄)),   p = softmax_k(cos(F, c_k)/τ),   p̄ = E_b p_b

    p⁺ ∝ (softmax_k(cos(F̄, c_k)/τ))^{1/T} without gradient, F̄ the teacher's output on the sample without masks; the
    last term (me-max) is 0 where the batch uses all K_p = ``prototypes`` evenly. The teacher is a moving average of
    momentum ``momentum``, which rises to 1 by cosine over ``momentum_steps`` steps (0: stays). Prototypes c_k are at
    first random unit vectors, of each seed its own, and trained by plain descent at ``prototype_rate`` (0: fixed).
    τ = ``temperature``, T = ``sharpening``, λ = ``weight``, γ = ``mask_ratio`` of one view. Source: Assran et al.
    (2022), who have several views and a projector.

    >>> vd.objectives.MSN(weight=5.0).sharpening
    0.25
    """

    name: ClassVar[str] = "msn"
    family: ClassVar[str] = "clustering"
    batchable_fields: ClassVar[tuple[str, ...]] = (
        "mask_ratio", "prototype_rate", "momentum", "temperature", "sharpening", "weight",
    )  # fmt: skip

    mask_ratio: float = field(default=0.5, metadata={"help": "γ, the share of patches that are masked."})
    temperature: float = field(default=0.1, metadata={"help": "τ of both softmaxes over clusters."})
    sharpening: float = field(default=0.25, metadata={"help": "T: targets are raised to the power 1/T."})
    weight: float = field(default=1.0, metadata={"help": "λ of the term that has all clusters used."})

    def __post_init__(self) -> None:
        require_real("mask_ratio", self.mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
        self.require_prototypes()
        self.require_momentum()
        for name in ("temperature", "sharpening"):
            require_real(name, getattr(self, name), low=0.0, high=1e6, open_low=True)
        require_real("weight", self.weight, low=0.0, high=1e6)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        anchors, targets = forward.embeddings(), forward.embeddings(None, teacher_of(forward.state))
        return msn(
            anchors,
            targets,
            forward.state["prototypes"],
            temperature=hyperparameter(self, lambda one: one.temperature, anchors),
            sharpening=hyperparameter(self, lambda one: one.sharpening, anchors),
            weight=hyperparameter(self, lambda one: one.weight, anchors),
        )

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 1.0 * layout.patches * layout.clusters
