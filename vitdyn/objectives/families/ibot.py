"""iBOT: DINO of pooled outputs across views, and the same cross-entropy at each masked patch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_real
from vitdyn.data import PatchLayout
from vitdyn.losses import ibot, next_centre
from vitdyn.models import Parameters
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.parts import embedding_size, teacher_of
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.teacher import WithTeacher
from vitdyn.objectives.two_views import TwoViews
from vitdyn.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class IBOT(TwoViews, WithTeacher):
    """iBOT: cross-entropy to a centred, sharpened teacher that sees all patches, of pooled outputs and masked patches.

        L = ½ Σ_v E_b[ −P̄ · log P_v ] + λ ½ Σ_v E_b mean over masked p of [ −P̄_p · log P_{v,p} ]

    P_v = softmax(F_v/τ_s) of the pooled output of a masked view, P_{v,p} that of its output F_{v,p} at patch p; P̄ and
    P̄_p are the same of the teacher's outputs on the sample without masks, less a centre, over τ_t, without gradient.
    The K N coordinates themselves are the logits. Pooled outputs and patches have centres of their own, c ← m_c c +
    (1 − m_c) mean after each step, m_c = ``centre_momentum`` (1: none). The teacher is a moving average of momentum
    ``momentum``, which rises to 1 by cosine over ``momentum_steps`` steps (0: stays). λ = ``weight``,
    τ_s = ``student_temperature``, τ_t = ``teacher_temperature``, γ = ``mask_ratio``. Source: Zhou et al. (2022), whose
    two crops differ in more than masks; here the whole sample is one, so both views have the same teacher's outputs.

    >>> vd.objectives.IBOT(weight=0.5).centre_momentum
    0.9
    """

    name: ClassVar[str] = "ibot"
    family: ClassVar[str] = "hybrid"
    batchable_fields: ClassVar[tuple[str, ...]] = (
        "mask_ratio", "weight", "momentum", "centre_momentum", "student_temperature", "teacher_temperature",
    )  # fmt: skip
    least_samples: ClassVar[int] = 1

    weight: float = field(default=1.0, metadata={"help": "λ of the term of masked patches."})
    centre_momentum: float = field(default=0.9, metadata={"help": "m_c of both centres; 1: no centres."})
    student_temperature: float = field(default=0.1, metadata={"help": "τ_s of the student's softmax."})
    teacher_temperature: float = field(default=0.04, metadata={"help": "τ_t of the teacher's softmax."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_momentum()
        require_real("weight", self.weight, low=0.0, high=1e6)
        require_real("centre_momentum", self.centre_momentum, low=0.0, high=1.0)
        for name in ("student_temperature", "teacher_temperature"):
            require_real(name, getattr(self, name), low=0.0, high=1e6, open_low=True)

    def initial_state(self, correlations: Parameters, streams: Streams) -> State:
        """Return the teacher, the model itself, and both centres, 0."""
        zero = torch.zeros(len(streams.seeds), embedding_size(correlations)).to(correlations.like)
        return {**super().initial_state(correlations, streams), "centre": zero, "patch_centre": zero}

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        students = [forward.patch_embeddings(view) for view in (0, 1)]
        taught, state = self._taught(forward), forward.state
        return ibot(
            ([each.mean(2) for each in students], [taught.mean(2)] * 2),
            (students, [taught] * 2),
            [~view for view in forward.views],
            (state["centre"], state["patch_centre"]),
            student_temperature=hyperparameter(
                self, lambda one: one.student_temperature, state["centre"][:, None]
            ),
            teacher_temperature=hyperparameter(
                self, lambda one: one.teacher_temperature, state["centre"][:, None]
            ),
            weight=hyperparameter(self, lambda one: one.weight, state["centre"][:, None]),
        )

    def update_state(self, forward: ForwardPass, correlations: Parameters) -> State:
        """Return the teacher, a step nearer to the model, and the centres, a step nearer to this batch's means."""
        taught, state = self._taught(forward), dict(super().update_state(forward, correlations))
        momentum = hyperparameter(self, lambda one: one.centre_momentum, forward.state["centre"])
        for name, rows in (("centre", taught.mean(2)), ("patch_centre", taught)):
            state[name] = next_centre(forward.state[name], [rows], momentum=momentum)
        return state

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 1.0 * layout.patches * layout.clusters

    def _taught(self, forward: ForwardPass) -> Float[Tensor, "seed sample patch embedding"]:
        return forward.patch_embeddings(None, teacher_of(forward.state))
