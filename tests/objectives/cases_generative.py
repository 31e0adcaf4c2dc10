"""Generative: MAE, SimMIM, BEiT, U-MAE."""

import torch
from literal import Case

from vitdyn.objectives import UMAE, BEiT, MaskedReconstruction, MeanPooled, Residual, SimMIM


def masked(seen):
    """Every masked patch, (sample, patch)."""
    return [(b, p) for b in seen.samples for p, shown in enumerate(seen.views[0][b]) if not shown]


def reconstruction_error(seen):
    """½ Σ over samples, masked p and coordinates of (F_p − X_p)², over the number of samples."""
    outputs, total = seen.outputs(0), 0.0
    for b, p in masked(seen):
        total = total + 0.5 * sum((outputs[b, p] - seen.patches[b, p]) ** 2)
    return total / len(outputs)


def absolute_error(seen):
    """Mean over masked p of Σ_i |F_pi − X_pi|."""
    outputs = seen.outputs(0)
    errors = [sum(abs(outputs[b, p] - seen.patches[b, p])) for b, p in masked(seen)]
    return sum(errors) / len(errors)


def surprise(seen, temperature):
    """Mean over masked p of −log( e^{F_pa/τ} / Σ_i e^{F_pi/τ} ), i over the features that clusters have."""
    outputs, features = seen.outputs(0), seen.features
    total = 0.0
    for b, p in masked(seen):
        weights = [torch.exp(outputs[b, p, i] / temperature) for i in features]
        total = total + torch.log(sum(weights)) - outputs[b, p, seen.area[b, p]] / temperature
    return total / len(masked(seen))


def similarity(vectors):
    """Mean over all pairs of ⟨f_b, f_c⟩² of vectors made unit, one of length 0 left as it is."""
    units = [vector / vector.norm() if vector.any() else vector for vector in vectors]
    return sum((first @ second) ** 2 for first in units for second in units) / len(units) ** 2


def separated(seen, weight, ratio):
    """Reconstruction error over the number of masked patches, plus λ times the similarity of pooled outputs."""
    count = round(ratio * seen.patches.shape[1])
    return reconstruction_error(seen) / count + weight * similarity(seen.pooled(0))


CASES = [
    Case(MaskedReconstruction(), reconstruction_error, frozenset({Residual}), {"mask_ratio": 0.3}),
    Case(SimMIM(), absolute_error),
    Case(
        BEiT(temperature=0.3),
        lambda seen: surprise(seen, 0.3),
    ),
    Case(
        UMAE(weight=0.5),
        lambda seen: separated(seen, 0.5, 0.5),
        frozenset({Residual, MeanPooled}),
        {"weight": 2.0, "mask_ratio": 0.3},
    ),
]
