"""Self-distillation: BYOL, SimSiam, DINO, data2vec, I-JEPA."""

from math import sqrt

import torch
from cases_generative import masked
from literal import Case

from vitdyn.objectives import IJEPA, Data2Vec


def layer_norm(vector):
    """A vector less its mean, over √(variance + 1e-5)."""
    deviation = vector - sum(vector) / len(vector)
    return deviation / torch.sqrt(sum(deviation**2) / len(vector) + 1e-5)


def smooth(gap, beta):
    return sum(0.5 * x**2 / beta if x < beta else x - beta / 2 for x in abs(gap))


def to_teacher(seen):
    """Mean over masked p of the smooth L1 of β = 0.2 to the layer-normalised teacher, over √D."""
    student, teacher = seen.outputs(0), seen.outputs(None, True)
    errors = [smooth(student[at] - layer_norm(teacher[at]), 0.2) for at in masked(seen)]
    return sum(errors) / len(errors) / sqrt(student.shape[-1])


def predicted_teacher(seen):
    """Mean over masked p and coordinates of the smooth L1 of W F_p to the layer-normalised teacher."""
    student, teacher = seen.outputs(0), seen.outputs(None, True)
    gaps = [student[at] @ seen.state["predictor"] - layer_norm(teacher[at]) for at in masked(seen)]
    return sum(smooth(gap, 1.0) for gap in gaps) / len(gaps) / student.shape[-1]


CASES = [
    Case(
        Data2Vec(momentum=0.9, beta=0.2, target="layer"),
        to_teacher,
        momentum=lambda step: 0.9,
    ),
    Case(
        IJEPA(momentum=0.8, predictor_rate=0.3),
        predicted_teacher,
        momentum=lambda step: 0.8,
    ),
]
