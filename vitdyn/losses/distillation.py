"""Losses of self-distillation: a student predicts what its teacher, which takes no gradient, makes of the sample."""

from __future__ import annotations

from math import sqrt

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_choice, require_real
from vitdyn.losses.masked import Mask, Patches, distance, masked_mean, normalised

JEPA_CONVENTIONS = ("code", "paper")


def data2vec(
    student: Patches,
    teacher: Patches,
    masked: Mask,
    *,
    beta: float = 0.0,
    scale: float | None = None,
    normalise: str = "none",
) -> Float[Tensor, "*lead"]:
    """Return ``scale`` · the mean over masked patches of the sum over dimensions of a distance to sg(teacher).

    The distance is the smooth L1 of β = ``beta``, at β = 0 the square; ``scale`` is 1/√D unless it is given. The
    teacher's output is the average over its last blocks, each normalised before as ``normalise`` would: "layer",
    "instance" or "none". Source: Baevski et al. (2022), their code.

    >>> import torch
    >>> float(data2vec(torch.zeros(1, 1, 4), torch.ones(1, 1, 4), torch.ones(1, 1)))
    2.0
    """
    factor = 1 / sqrt(student.shape[-1]) if scale is None else scale
    require_real("scale", factor, low=0.0, high=1e6, open_low=True)
    target = normalised(teacher.detach(), normalise)
    return factor * masked_mean(distance(student, target, beta).sum(-1), masked)


def i_jepa(
    predicted: Patches, teacher: Patches, masked: Mask, *, normalise: bool = True, convention: str = "code"
) -> Float[Tensor, "*lead"]:
    """Return the distance of predictions to sg(teacher) at target patches, ``masked``.

    Targets are layer-normalised with ``normalise``. "code": the smooth L1 of β = 1, mean over target patches and
    dimensions; "paper": the squared distance ‖ŷ − y‖², mean over target patches (it divides by the number of blocks,
    so each of its blocks counts by its size here). Source: Assran et al. (2023).
    """
    require_choice("convention", convention, JEPA_CONVENTIONS)
    target = normalised(teacher.detach(), "layer" if normalise else "none")
    if convention == "code":
        return masked_mean(distance(predicted, target, 1.0).mean(-1), masked)
    return masked_mean(distance(predicted, target, 0.0).sum(-1), masked)
