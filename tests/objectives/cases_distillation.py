"""Self-distillation: BYOL, SimSiam, DINO, data2vec, I-JEPA."""

from math import cos, pi, sqrt

import torch
import transcriptions as literal
from cases_generative import masked
from literal import Case

from vitdyn.objectives import BYOL, DINO, IJEPA, Data2Vec, SimSiam


def predicted(seen):
    return [[f @ seen.state["predictor"] for f in seen.pooled(view)] for view in (0, 1)]


def taught(seen):
    return [seen.pooled(0, True), seen.pooled(1, True)]


def byol(seen):
    return literal.byol(predicted(seen), taught(seen))


def simsiam(seen):
    return literal.simsiam(predicted(seen), [seen.pooled(0), seen.pooled(1)])


def dino(seen):
    return literal.dino([seen.pooled(0), seen.pooled(1)], taught(seen), seen.state["centre"], 0.2, 0.1)


def recentred(seen):
    """Four fifths of the centre, and one of the mean of the teacher's outputs on both views."""
    first, second = map(literal.mean, taught(seen))
    return {"centre": 0.8 * seen.state["centre"] + 0.2 * (first + second) / 2}


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
        BYOL(momentum=0.9, momentum_steps=9, predictor_rate=0.3),
        byol,
        other={"mask_ratio": 0.3, "momentum": 0.5, "predictor_rate": 0.1},
        momentum=lambda step: 1 - 0.1 * (1 + cos(pi * min(step / 9, 1))) / 2,
    ),
    Case(SimSiam(predictor_rate=0.3), simsiam, other={"mask_ratio": 0.3, "predictor_rate": 0.1}),
    Case(
        DINO(momentum=0.9, centre_momentum=0.8, student_temperature=0.2, teacher_temperature=0.1),
        dino,
        other={
            "mask_ratio": 0.3,
            "momentum": 0.5,
            "centre_momentum": 0.9,
            "student_temperature": 0.4,
            "teacher_temperature": 0.3,
        },
        momentum=lambda step: 0.9,
        update=recentred,
    ),
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
