"""Contrast: InfoNCE as in the theory, SimCLR, MoCo, the spectral loss, alignment and uniformity."""

import torch
from literal import Case

from vitdyn.objectives import Contrastive, MeanPooled


def info_nce(seen, temperature):
    """−mean_b log( e^{s_bb/τ} / Σ_c e^{s_bc/τ} ), the second view behind a stop-gradient."""
    anchors, targets = seen.pooled(0), [target.detach() for target in seen.pooled(1)]
    total = 0.0
    for b in seen.samples:
        logits = [anchors[b] @ target / temperature for target in targets]
        total = total - (logits[b] - torch.log(sum(map(torch.exp, logits))))
    return total / len(anchors)


CASES = [
    Case(
        Contrastive(temperature=0.7, weight_decay=0.01),
        lambda seen: info_nce(seen, 0.7),
        frozenset({MeanPooled}),
        {"mask_ratio": 0.3, "temperature": 2.0, "weight_decay": 0.2},
    ),
]
