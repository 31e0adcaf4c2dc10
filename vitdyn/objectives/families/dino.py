"""DINO: a view's distribution over coordinates follows that of a centred, sharpened teacher on the other view."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_real
from vitdyn.data import PatchLayout
from vitdyn.losses import dino, next_centre
from vitdyn.models import Parameters
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.parts import embedding_size, teacher_of
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.teacher import WithTeacher
from vitdyn.objectives.two_views import TwoViews
from vitdyn.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class DINO(TwoViews, WithTeacher):
    """DINO: cross-entropy between the softmax of a view's pooled output and the teacher's of the other view.

        L = ½ Σ_{u ≠ v} E_b[ −P̄_v · log P_u ],   P_u = softmax(F_u/τ_s),   P̄_v = sg softmax((F̄_v − c)/τ_t)

    The K N coordinates of pooled outputs F themselves are the logits: no projector, no prototypes. F̄ is the teacher's,
    a moving average of momentum ``momentum`` that rises to 1 by cosine over ``momentum_steps`` steps (0: stays). The
    centre is at first 0 and after each step c ← m_c c + (1 − m_c) mean of F̄, m_c = ``centre_momentum`` (1: no centre).
    τ_s = ``student_temperature``, τ_t = ``teacher_temperature`` ; γ = ``mask_ratio`` in each of two ``views``. Source:
    Caron et al. (2021), whose momentum is 0.996 to 1 and whose τ_t rises at first.

    >>> vd.objectives.DINO(centre_momentum=1.0).teacher_temperature
    0.04
    """

    name: ClassVar[str] = "dino"
    family: ClassVar[str] = "self-distillation"
    batchable_fields: ClassVar[tuple[str, ...]] = (
        "mask_ratio", "momentum", "centre_momentum", "student_temperature", "teacher_temperature",
    )  # fmt: skip
    least_samples: ClassVar[int] = 1

    centre_momentum: float = field(default=0.9, metadata={"help": "m_c of the centre; 1: no centre."})
    student_temperature: float = field(default=0.1, metadata={"help": "τ_s of the student's softmax."})
    teacher_temperature: float = field(default=0.04, metadata={"help": "τ_t of the teacher's softmax."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_momentum()
        require_real("centre_momentum", self.centre_momentum, low=0.0, high=1.0)
        for name in ("student_temperature", "teacher_temperature"):
            require_real(name, getattr(self, name), low=0.0, high=1e6, open_low=True)

    def initial_state(self, correlations: Parameters, streams: Streams) -> State:
        """Return the teacher, the model itself, and the centre, 0."""
        centre = torch.zeros(len(streams.seeds), embedding_size(correlations))
        return {
            **super().initial_state(correlations, streams),
            "centre": centre.to(correlations.like),
        }

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        students = [forward.embeddings(view) for view in (0, 1)]
        return dino(
            students,
            self._taught(forward),
            forward.state["centre"],
            student_temperature=hyperparameter(self, lambda one: one.student_temperature, students[0]),
            teacher_temperature=hyperparameter(self, lambda one: one.teacher_temperature, students[0]),
        )

    def update_state(self, forward: ForwardPass, correlations: Parameters) -> State:
        """Return the teacher, a step nearer to the model, and the centre, a step nearer to this batch's mean."""
        centre = forward.state["centre"]
        momentum = hyperparameter(self, lambda one: one.centre_momentum, centre)
        moved = next_centre(centre, self._taught(forward), momentum=momentum)
        return {**super().update_state(forward, correlations), "centre": moved}

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 1.0 * layout.patches * layout.clusters

    def _taught(self, forward: ForwardPass) -> list[Tensor]:
        teacher = teacher_of(forward.state)
        return [forward.embeddings(view, teacher) for view in (0, 1)]
