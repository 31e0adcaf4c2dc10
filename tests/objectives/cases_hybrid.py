"""Hybrids: the mixture, RC-MAE, iBOT, CMAE."""

from math import cos, pi

import torch
import transcriptions as literal
from cases_contrastive import info_nce
from cases_generative import masked, reconstruction_error
from literal import Case

from vitdyn.objectives import CMAE, IBOT, RCMAE, MeanPooled, Mixture, Residual


def mixture(seen):
    count = round(0.5 * seen.patches.shape[1])
    return 0.7 * reconstruction_error(seen) / count + 0.3 * info_nce(seen, 0.7)


def consistent(seen, weight, of=0):
    """½ mean over masked p of ‖F_p − X_p‖² + γ_c ‖F_p − teacher's F_p‖², which saw the sample ``of`` places on."""
    student, teacher, total = seen.outputs(0), seen.outputs(0, True), 0.0
    for sample, patch in masked(seen):
        own = student[sample, patch]
        total = total + sum((own - seen.patches[sample, patch]) ** 2)
        total = total + weight * sum((own - teacher[(sample + of) % len(teacher), patch]) ** 2)
    return total / (2 * len(masked(seen)))


def contrasted(seen, weight, temperature):
    """½ mean over masked p of ‖F_p − X_p‖², and λ 2τ InfoNCE of cosines of W F and the teacher's F of all patches."""
    unit = [vector / vector.norm() for vector in seen.pooled(None, True)]
    total = 0.0
    for b, query in enumerate(vector @ seen.state["predictor"] for vector in seen.pooled(0)):
        logits = [query @ key / (query.norm() * temperature) for key in unit]
        total = total - (logits[b] - torch.log(sum(map(torch.exp, logits)))) / len(unit)
    rebuilt = reconstruction_error(seen) * len(unit) / len(masked(seen))
    return rebuilt + weight * 2 * temperature * total


def ibot(seen):
    patches, taught = [seen.outputs(0), seen.outputs(1)], seen.outputs(None, True)
    pooled, whole = [seen.pooled(0), seen.pooled(1)], [seen.pooled(None, True)] * 2
    centres = seen.state["centre"], seen.state["patch_centre"]
    masked = [~view for view in seen.views]
    return literal.ibot((pooled, whole), (patches, [taught] * 2), masked, centres, 0.2, 0.1, 0.7)


def recentred(seen):
    """Four fifths of each centre, and one of the mean of the teacher's outputs, over samples and their patches."""
    mean = seen.outputs(None, True).mean((0, 1))
    return {name: 0.8 * seen.state[name] + 0.2 * mean for name in ("centre", "patch_centre")}


CASES = [
    Case(
        Mixture(weight=0.3, temperature=0.7),
        mixture,
        frozenset({Residual, MeanPooled}),
        {"weight": 0.9, "mask_ratio": 0.3, "temperature": 2.0},
    ),
    Case(
        RCMAE(weight=0.7, momentum=0.8, momentum_steps=9, epoch_steps=4),
        lambda seen: consistent(seen, 0.7),
        momentum=lambda step: 1 - 0.2 * (1 + cos(pi * (step % 4) / 9)) / 2,
    ),
    Case(
        CMAE(weight=0.8, temperature=0.2, momentum=0.9),
        lambda seen: contrasted(seen, 0.8, 0.2),
        momentum=lambda step: 0.9,
    ),
    Case(
        IBOT(weight=0.7, momentum=0.9, centre_momentum=0.8, student_temperature=0.2, teacher_temperature=0.1),
        ibot,
        other={
            "mask_ratio": 0.3,
            "weight": 0.2,
            "momentum": 0.5,
            "centre_momentum": 0.9,
            "student_temperature": 0.4,
            "teacher_temperature": 0.3,
        },
        momentum=lambda step: 0.9,
        update=recentred,
    ),
]
