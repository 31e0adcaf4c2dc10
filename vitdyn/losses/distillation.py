"""Losses of self-distillation: a student predicts what its teacher, which takes no gradient, makes of the sample."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_choice, require_real
from vitdyn.losses.masked import Mask, Patches, distance, masked_mean, normalised
from vitdyn.losses.vectors import require_pairs, require_positive, unit_vectors

JEPA_CONVENTIONS = ("code", "paper")

Embeddings = Float[Tensor, "*lead sample dimension"]


def mean_cosine(predicted: Embeddings, target: Embeddings) -> Float[Tensor, "*lead"]:
    """Return E_b cos(p_b, sg z_b); 0 of a vector of length 0."""
    require_pairs("target", predicted, target, at_least=1)
    return (unit_vectors(predicted) * unit_vectors(target.detach())).sum(-1).mean(-1)


def byol(predicted: Sequence[Embeddings], targets: Sequence[Embeddings]) -> Float[Tensor, "*lead"]:
    """Return E_b [ 2 − 2 cos(p¹, sg t²) ] + E_b [ 2 − 2 cos(p², sg t¹) ]: both views, p predicted, t the teacher's.

    Source: Grill et al. (2020), their code, which adds the two directions.

    >>> import torch
    >>> first, second = torch.eye(2), torch.eye(2).flip(0)
    >>> float(vd.losses.byol((first, second), (first, second)))  # orthogonal
    4.0
    """
    return 4 - 2 * (mean_cosine(predicted[0], targets[1]) + mean_cosine(predicted[1], targets[0]))


def simsiam(predicted: Sequence[Embeddings], projected: Sequence[Embeddings]) -> Float[Tensor, "*lead"]:
    """Return −½ E_b [ cos(p¹, sg z²) + cos(p², sg z¹) ], z the model's own outputs. Source: Chen and He (2021)."""
    return -0.5 * (mean_cosine(predicted[0], projected[1]) + mean_cosine(predicted[1], projected[0]))


def cross_entropy_to_teacher(
    student: Float[Tensor, "*lead row dimension"],
    teacher: Float[Tensor, "*lead row dimension"],
    centre: Float[Tensor, "*lead dimension"],
    *,
    student_temperature: float | Tensor,
    teacher_temperature: float | Tensor,
) -> Float[Tensor, "*lead row"]:
    """Return −P_t · log P_s of each row: P_t = softmax(sg(g_t − c)/τ_t), P_s = softmax(g_s/τ_s)."""
    require_positive("student_temperature", student_temperature)
    require_positive("teacher_temperature", teacher_temperature)
    require_pairs("teachers", student, teacher, at_least=1)
    aim = torch.softmax((teacher - centre[..., None, :]).detach() / teacher_temperature, -1)
    return -(aim * torch.log_softmax(student / student_temperature, -1)).sum(-1)


def dino(
    students: Sequence[Embeddings],
    teachers: Sequence[Embeddings],
    centre: Float[Tensor, "*lead dimension"],
    *,
    student_temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
) -> Float[Tensor, "*lead"]:
    """Return the mean over pairs of a teacher's view v and a student's view u ≠ v of E_b[ −P_t · log P_s ].

    P_t = softmax((g_t − c)/τ_t), without gradient, and P_s = softmax(g_s/τ_s) over coordinates. Teachers' views are the
    first of the student's. A constant output costs log D, D the number of coordinates, where nothing sharpens it.
    Source: Caron et al. (2021), their code.
    """
    kept = {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}
    terms = [
        cross_entropy_to_teacher(student, teacher, centre, **kept).mean(-1)
        for v, teacher in enumerate(teachers)
        for u, student in enumerate(students)
        if u != v
    ]
    if not terms:
        raise invalid_value(
            "students", len(students), "must be two views or more, or the teacher has no pair"
        )
    return sum(terms[1:], terms[0]) / len(terms)


def ibot(
    pooled: tuple[Sequence[Embeddings], Sequence[Embeddings]],
    patches: tuple[Sequence[Patches], Sequence[Patches]],
    masked: Sequence[Mask],
    centres: tuple[Float[Tensor, "*lead dimension"], Float[Tensor, "*lead dimension"]],
    *,
    student_temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
    weight: float | Tensor = 1.0,
) -> Float[Tensor, "*lead"]:
    """Return ``dino`` of pooled outputs across views, plus ``weight`` times its cross-entropy at masked patches.

    ``pooled`` and ``patches`` hold the student's views and the teacher's, ``centres`` that of pooled outputs and that
    of patches. The second term takes student and teacher of the same view: its mean over the masked patches of a
    sample, over samples and views. Source: Zhou et al. (2022), their code.
    """
    kept: Any = {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}
    rows = [
        _of_patches(student, teacher, centres[1], **kept) * mask
        for student, teacher, mask in zip(*patches, masked, strict=True)
    ]
    # a sample without masked patches counts as 0, as in the code
    means = [row.sum(-1) / mask.sum(-1).clamp(min=1) for row, mask in zip(rows, masked, strict=True)]
    of_patches = torch.stack(means, -1)
    return dino(*pooled, centres[0], **kept) + (weight * of_patches).mean((-2, -1))


def _of_patches(student: Patches, teacher: Patches, centre: Tensor, **temperatures: float | Tensor) -> Tensor:
    """Return the cross-entropy of each patch, samples and patches taken as rows."""
    rows = cross_entropy_to_teacher(student.flatten(-3, -2), teacher.flatten(-3, -2), centre, **temperatures)
    return rows.unflatten(-1, student.shape[-3:-1])


def next_centre(
    centre: Float[Tensor, "*lead dimension"],
    teachers: Sequence[Tensor],
    *,
    momentum: float | Tensor = 0.9,
) -> Float[Tensor, "*lead dimension"]:
    """Return c ← m c + (1 − m) E g_t, over all rows of all of the teacher's views: the centre of the *next* step.

    Views are (..., sample, dimension), or (..., sample, patch, dimension). Source: Caron et al. (2021).
    """
    rows = [view.flatten(centre.ndim - 1, -2).mean(-2) for view in teachers]
    mean = sum(rows[1:], rows[0]) / len(rows)
    return momentum * centre + (1 - momentum) * mean.detach()


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
