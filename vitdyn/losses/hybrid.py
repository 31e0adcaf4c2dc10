"""Losses that add methods of two families."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from vitdyn.losses.contrastive import moco_v3
from vitdyn.losses.generative import mae
from vitdyn.losses.masked import Mask, Patches

TEACHER_SEES = ("same", "permuted")
"""What the teacher of RC-MAE is shown: what its student is, or, as a control, another sample of the batch."""


def rc_mae(
    student: Patches,
    teacher: Patches,
    target: Patches,
    masked: Mask,
    *,
    weight: Any = 1.0,
    normalise: bool = True,
) -> Float[Tensor, "*lead"]:
    """Return ``mae`` plus ``weight`` times the mean over masked patches and dimensions of (ŷ − sg ŷ_teacher)².

    The teacher saw the same mask. Only the patches of the first term are normalised. Source: Lee et al. (2023), their
    code.
    """
    return mae(student, target, masked, normalise=normalise) + weight * mae(student, teacher.detach(), masked)


def cmae(
    predicted: Patches,
    target: Patches,
    masked: Mask,
    query: Float[Tensor, "*lead sample dimension"],
    key: Float[Tensor, "*lead sample dimension"],
    *,
    weight: Any = 1.0,
    temperature: Any = 0.07,
    normalise: bool = True,
) -> Float[Tensor, "*lead"]:
    """Return ``mae`` plus ``weight`` times 2τ InfoNCE of unit vectors, ``moco_v3`` in one direction.

    ``query`` is the predictor of the mean over patches of the student's features, ``key`` the teacher's of the whole
    image, which takes no gradient. Source: Huang et al. (2023).
    """
    contrast = moco_v3(query, key, temperature=temperature)
    return mae(predicted, target, masked, normalise=normalise) + weight * contrast
