"""Clustering: SwAV, MSN, DeepCluster-v2."""

import torch
import transcriptions as literal
from literal import Case

from vitdyn.objectives import MSN, DeepCluster, SwAV


def swav(seen):
    return literal.swav(seen.pooled(0), seen.pooled(1), seen.state["prototypes"], 0.2, 0.1, 2)


def msn(seen):
    return literal.msn(seen.pooled(0), seen.pooled(None, True), seen.state["prototypes"], 0.2, 0.5, 0.7)


def deepcluster(seen):
    """Each view against the clusters of the other."""
    views, centroids = (seen.pooled(0), seen.pooled(1)), seen.state["centroids"]
    return 0.5 * sum(
        literal.deepcluster(mine, centroids, literal.nearest(other, centroids), 0.2)
        for mine, other in (views, views[::-1])
    )


def recluster(seen):
    """The memory, and every second step k-means from its entries at the starts."""
    memory = torch.stack([*seen.pooled(0), *seen.state["memory"]][: len(seen.state["memory"])])
    steps, centroids = seen.state["steps"] + 1, seen.state["centroids"]
    if steps % 2 == 0:
        centroids = torch.stack(literal.k_means(memory, [memory[at] for at in seen.state["starts"]], 3))
    return {"memory": memory, "centroids": centroids, "steps": steps}


CASES = [
    Case(
        SwAV(prototypes=3, temperature=0.2, epsilon=0.1, iterations=2, prototype_rate=0.3),
        swav,
        other={"mask_ratio": 0.3, "temperature": 0.5, "epsilon": 0.3, "prototype_rate": 0.1},
    ),
    Case(
        MSN(prototypes=3, temperature=0.2, sharpening=0.5, weight=0.7, momentum=0.9, prototype_rate=0.0),
        msn,
        other={
            "mask_ratio": 0.3,
            "prototype_rate": 0.2,
            "momentum": 0.5,
            "temperature": 0.5,
            "sharpening": 0.3,
            "weight": 2.0,
        },
        momentum=lambda step: 0.9,
    ),
    Case(
        DeepCluster(prototypes=3, memory=10, period=2, iterations=3, temperature=0.2),
        deepcluster,
        other={"mask_ratio": 0.3, "temperature": 0.5},
        update=recluster,
    ),
]
