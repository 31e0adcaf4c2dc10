"""Contrast: InfoNCE as in the theory, SimCLR, MoCo, the spectral loss, alignment and uniformity."""

import torch
from literal import Case

from vitdyn.objectives import AlignmentUniformity, Contrastive, MeanPooled, MoCo, SimCLR, Spectral


def cross_entropy(anchor, own, others, temperature):
    """−log( e^{⟨a, own⟩/τ} / Σ e^{⟨a, ·⟩/τ} ) over its own and the others."""
    logits = [anchor @ own / temperature, *(anchor @ other / temperature for other in others)]
    return torch.log(sum(map(torch.exp, logits))) - logits[0]


def info_nce(seen, temperature):
    """−mean_b log( e^{s_bb/τ} / Σ_c e^{s_bc/τ} ), the second view behind a stop-gradient."""
    anchors, targets = seen.pooled(0), [target.detach() for target in seen.pooled(1)]
    return one_direction(anchors, targets, temperature)


def one_direction(anchors, targets, temperature):
    total = 0.0
    for b, anchor in enumerate(anchors):
        others = [target for c, target in enumerate(targets) if c != b]
        total = total + cross_entropy(anchor, targets[b], others, temperature)
    return total / len(anchors)


def unit(vectors):
    """Vectors of length 1; where a view shows nothing, one of length 0 stays."""
    return [vector / (vector @ vector).sqrt() if vector.any() else vector for vector in vectors]


def simclr(seen, temperature):
    views = unit([*seen.pooled(0), *seen.pooled(1)])
    count, total = len(views) // 2, 0.0
    for i, anchor in enumerate(views):
        partner = (i + count) % (2 * count)
        others = [view for j, view in enumerate(views) if j not in (i, partner)]
        total = total + cross_entropy(anchor, views[partner], others, temperature)
    return total / (2 * count)


def moco(seen, temperature):
    """Both directions, keys by the teacher, times 2τ."""
    total = 0.0
    for view in (0, 1):
        queries = unit([pooled @ seen.state["predictor"] for pooled in seen.pooled(view)])
        total = total + one_direction(queries, unit(seen.pooled(1 - view, teacher=True)), temperature)
    return 2 * temperature * total


def spectral(seen, mu):
    def cut(vectors):
        return [v if v @ v < mu else mu**0.5 * v / (v @ v).sqrt() for v in vectors]

    first, second = cut(seen.pooled(0)), cut(seen.pooled(1))
    count, total = len(first), 0.0
    for b, x in enumerate(first):
        total = total - 2 * x @ second[b] / count
        for c, y in enumerate(second):
            total = total + (b != c) * (x @ y) ** 2 / (count * (count - 1))
    return total / mu


def alignment_uniformity(seen, temperature, weight):
    views = [unit(seen.pooled(view)) for view in (0, 1)]
    total = sum(((x - y) ** 2).sum() for x, y in zip(*views, strict=True)) / len(views[0])
    for view in views:
        pairs = [((x - y) ** 2).sum() for b, x in enumerate(view) for y in view[:b]]
        potential = sum(torch.exp(-temperature * pair) for pair in pairs) / len(pairs)
        total = total + weight / 2 * torch.log(potential)
    return total


POOLED = frozenset({MeanPooled})

CASES = [
    Case(
        Contrastive(temperature=0.7, weight_decay=0.01),
        lambda seen: info_nce(seen, 0.7),
        POOLED,
        {"mask_ratio": 0.3, "temperature": 2.0, "weight_decay": 0.2},
    ),
    Case(
        SimCLR(temperature=0.3),
        lambda seen: simclr(seen, 0.3),
        POOLED,
        {"mask_ratio": 0.3, "temperature": 2.0},
    ),
    Case(
        MoCo(temperature=0.4, momentum=0.8, predictor=True),
        lambda seen: moco(seen, 0.4),
        other={"mask_ratio": 0.3, "temperature": 2.0, "momentum": 0.5, "predictor_rate": 0.3},
        momentum=lambda step: 0.8,
    ),
    Case(Spectral(mu=0.1), lambda seen: spectral(seen, 0.1), POOLED, {"mask_ratio": 0.3, "mu": 2.0}),
    Case(
        AlignmentUniformity(weight=0.6),
        lambda seen: alignment_uniformity(seen, 2.0, 0.6),
        POOLED,
        {"mask_ratio": 0.3, "power": 3.0, "temperature": 0.5, "weight": 2.0},
    ),
]
