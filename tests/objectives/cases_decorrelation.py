"""Decorrelation: VICReg, Barlow Twins."""

import torch
from literal import Case

from vitdyn.objectives import BarlowTwins, MeanPooled, VICReg


def centred(vectors):
    mean = sum(vectors) / len(vectors)
    return [vector - mean for vector in vectors]


def vicreg(seen):
    """Weights 25, 25, 1; target 1; the paper's factors."""
    views = [seen.pooled(view) for view in (0, 1)]
    total = 25 * sum(((x - y) ** 2).sum() for x, y in zip(*views, strict=True)) / len(views[0])
    for view in map(centred, views):
        covariance = sum(torch.outer(x, x) for x in view) / (len(view) - 1)
        size = len(covariance)
        for i in range(size):
            total = total + 25 * torch.relu(1 - torch.sqrt(covariance[i, i] + 1e-4)) / size
            for j in range(size):
                total = total + (i != j) * covariance[i, j] ** 2 / size
    return total


def barlow_twins(seen, weight):
    """With the code's 1e-5: without it, round-off in a coordinate that does not vary is correlated too."""
    views, total = [centred(seen.pooled(view)) for view in (0, 1)], 0.0
    for i in range(len(views[0][0])):
        for j in range(len(views[0][0])):
            x, y = [one[i] for one in views[0]], [one[j] for one in views[1]]
            variances = [sum(a * a for a in each) / len(each) + 1e-5 for each in (x, y)]
            products = sum(a * b for a, b in zip(x, y, strict=True)) / len(x)
            correlation = products / torch.sqrt(variances[0] * variances[1])
            total = total + ((1 - correlation) ** 2 if i == j else weight * correlation**2)
    return total


POOLED = frozenset({MeanPooled})

CASES = [
    Case(
        VICReg(),
        vicreg,
        POOLED,
        {"mask_ratio": 0.3, "invariance": 5.0, "variance": 50.0, "covariance": 9.0, "target": 0.05},
    ),
    Case(
        BarlowTwins(weight=0.1, convention="code"),
        lambda seen: barlow_twins(seen, 0.1),
        POOLED,
        {"mask_ratio": 0.3, "weight": 2.0},
    ),
]
