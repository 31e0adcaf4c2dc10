"""RC-MAE: masked reconstruction that keeps to what a teacher reconstructs from the same mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_choice, require_integer, require_real
from vitdyn.losses import rc_mae
from vitdyn.losses.hybrid import TEACHER_SEES
from vitdyn.models import Parameters
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.masked import MaskedPatches, masked_patches, unreachable
from vitdyn.objectives.parts import next_teacher, teacher_of
from vitdyn.objectives.teacher import WithTeacher

Patches = Float[Tensor, "seed sample query feature"]


@dataclass(frozen=True, kw_only=True)
class RCMAE(MaskedPatches, WithTeacher):
    """RC-MAE: half the squared error at masked patches, plus half the squared distance to a teacher's output there.

        L = ½ mean over masked p of ( ‖F_p − X_p‖² + γ_c ‖F_p − sg F̄_p‖² )

    F̄ is the teacher's output on the same mask, γ_c = ``weight``, γ = ``mask_ratio``. The teacher is the moving average
    of momentum ``momentum``, which rises to 1 by cosine over ``momentum_steps`` steps (0: stays). The released code
    starts this schedule anew at every epoch, so that it hardly rises: ``epoch_steps`` is the length of one (0: the
    schedule goes through the whole run). ``teacher_sees`` "permuted" is a control: F̄ is of another sample of the batch
    and of its mask. Source: Lee et al. (2023), ``losses.rc_mae`` times half the dimensions.
    """

    name: ClassVar[str] = "rc-mae"
    family: ClassVar[str] = "hybrid"

    weight: float = field(default=1.0, metadata={"help": "γ_c, the weight of the distance to the teacher."})
    momentum: float = field(default=0.996, metadata={"help": "m of the teacher, a moving average."})
    epoch_steps: int = field(
        default=0, metadata={"help": "Steps after which that schedule starts anew, as in the code; 0: never."}
    )
    teacher_sees: str = field(
        default="same", metadata={"help": "What the teacher is shown: same, or permuted (another sample)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("weight", self.weight, low=0.0, high=1e6)
        self.require_momentum()
        require_integer("epoch_steps", self.epoch_steps, at_least=0)
        require_choice("teacher_sees", self.teacher_sees, TEACHER_SEES)
        if self.epoch_steps and not self.momentum_steps:
            words = "must be positive where epoch_steps starts the momentum's schedule anew"
            raise invalid_value("momentum_steps", self.momentum_steps, words)

    def reconstructed(self, forward: ForwardPass) -> tuple[Patches, Patches]:
        """Return what model and teacher make of every patch, in coordinates in which the two compare."""
        student, teacher = forward.outputs(), forward.outputs(0, teacher_of(forward.state))
        if self.teacher_sees == "same":
            return student, teacher
        if forward.batch.count < 2:
            words = "needs two samples or more in a batch: take a larger batch_size"
            raise invalid_value("teacher_sees", self.teacher_sees, words)
        # samples of different clusters have different features: they compare in the coordinates of all
        student, teacher = map(forward.in_all_clusters, (student, teacher))
        return student, teacher.roll(1, 1)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L."""
        student, teacher = self.reconstructed(forward)
        patches, masked = forward.patches(), ~forward.views[0]
        if self.teacher_sees == "permuted":
            patches = forward.in_all_clusters(patches)
        both = rc_mae(student, teacher, patches, masked, weight=self.weight, normalise=False)
        return both * (student.shape[-1] / 2)

    def lower_bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return that of masked reconstruction: the second term is not negative."""
        return 0.5 * unreachable(forward, 2) / masked_patches(forward)

    def update_state(self, forward: ForwardPass, correlations: Parameters) -> State:
        """Return the teacher, a step nearer to the model."""
        schedule = {"steps": self.momentum_steps, "period": self.epoch_steps}
        return next_teacher(forward.state, correlations, momentum=self.momentum, **schedule)
