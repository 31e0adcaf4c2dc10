"""RC-MAE's correction along a run of the theory's layer: the gradient of its second term beside the teacher's lag."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan, sqrt

import torch
from torch import Tensor

from vitdyn._errors import require_choice, require_real
from vitdyn.landscape import Correction, Tensors, teacher_correction
from vitdyn.models import Correlations, area_attention
from vitdyn.objectives import RCMAE
from vitdyn.objectives.masked import masked_patches
from vitdyn.objectives.parts import TEACHER, teacher_of
from vitdyn.observables.state import ModelState

NUMBERS = ("cosine", "strength", "nonlinearity", "taken_back")
_UNSEEN = "unseen_position"


@dataclass(frozen=True, kw_only=True)
class TeacherCorrection:
    """A number of the correction on inputs of a given ``similarity`` to all that training saw.

    Its samples have the features s v_j + √(1 − s²) u_j in place of v_j, s being the similarity; u_j are orthogonal to
    all v and occur in no training step, so that an input has the inner product s with one that was seen. What the
    model knows of u_j, a block of Q of its own, is 0. Positions are the same: Υ, of no content, is shared.

    ``number`` is "cosine", "strength" or "nonlinearity", as ``vitdyn.landscape.Correction`` has them, or "taken_back",
    ⟨∇L_c, θ − θ̄⟩ over the same of the linear formula at similarity 1. NaN without a teacher of RC-MAE, and where it is
    the student.
    """

    number: str = "cosine"
    similarity: float = 1.0

    def __post_init__(self) -> None:
        require_choice("TeacherCorrection.number", self.number, NUMBERS)
        require_real("TeacherCorrection.similarity", self.similarity, low=0.0, high=1.0)

    def __call__(self, state: ModelState) -> Tensor:
        """Return the number of a state of one seed."""
        return state.loss.new_tensor([self._of(state)])

    def _of(self, state: ModelState) -> float:
        if not isinstance(state.objective, RCMAE) or state.parameters.content_queries:
            return nan
        found = correction_of(state, self.similarity)
        if self.number != "taken_back":
            return float(getattr(found, self.number))
        same = found if self.similarity == 1 else correction_of(state, 1.0)
        most = same.linear @ same.lag
        return float(found.gradient @ found.lag / most) if most else nan


def correction_of(state: ModelState, similarity: float = 1.0) -> Correction:
    """Return the correction of a state of one seed, trained by RC-MAE, on inputs of a given similarity."""
    objective, forward = state.objective, state.forward
    assert isinstance(objective, RCMAE)
    rest = sqrt(1 - similarity**2)
    count = float(masked_patches(forward)[0])

    def blended(tensors: Tensors) -> Correlations:
        mixed = similarity * tensors["feature_position"] + rest * tensors[_UNSEEN]
        return Correlations(mixed, tensors["position_position"])

    def reconstructed(student: Correlations, teacher: Correlations) -> tuple[Tensor, Tensor]:
        attention = (area_attention(student, forward.batch, forward.views[0]),)
        taught = {f"{TEACHER}{name}": block for name, block in teacher.named().items()}
        seen = replace(forward, attention=attention, state={**forward.state, **taught})
        both = objective.reconstructed(seen)
        # ½‖·‖² of these is the second term, a mean over masked patches
        return tuple(each[~forward.views[0]] / sqrt(count) for each in both)  # type: ignore[return-value]

    def with_unseen(model: Correlations) -> Tensors:
        return {**model.named(), _UNSEEN: torch.zeros_like(model.feature_position)}

    teacher = teacher_of(forward.state)
    assert isinstance(teacher, Correlations)
    student, teacher_tensors = with_unseen(state.correlations), with_unseen(teacher)
    behind = blended(teacher_tensors)
    with torch.no_grad():
        target = reconstructed(behind, behind)[1]
    return teacher_correction(
        lambda at: reconstructed(blended(at), behind)[0], student, teacher_tensors, target
    )
