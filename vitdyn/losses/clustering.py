"""Clustering: the code of a sample, its share in each of a few clusters, is predicted from another view of it.

Vectors and prototypes are normalised first: the score of sample b in cluster k is the cosine s_bk = ẑ_b · ĉ_k.
"""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_choice, require_integer
from vitdyn.losses.vectors import require_pairs, require_positive, unit_vectors

Embeddings = Float[Tensor, "*batch sample dimension"]
Prototypes = Float[Tensor, "*batch cluster dimension"]
Shares = Float[Tensor, "*batch sample cluster"]
Values = Float[Tensor, "*batch"]

ME_MAX_CONVENTIONS = ("code", "paper")


def scores(embeddings: Embeddings, prototypes: Prototypes) -> Shares:
    """Return the cosine of each sample with each prototype. Raises ``ValueError`` for fewer than two of these."""
    if prototypes.shape[-2] < 2:
        raise invalid_value(
            "prototypes", prototypes.shape[-2], "must be at least 2: a code of one says nothing"
        )
    return unit_vectors(embeddings) @ unit_vectors(prototypes).mT


def sinkhorn(values: Shares, *, epsilon: float | Tensor = 0.05, iterations: int = 3) -> Shares:
    """Return codes q, without gradient: e^{s/ε} scaled so that clusters get equal parts and each sample sums to 1.

    One iteration divides by the sum over samples of each cluster (to 1/K), then by the sum over clusters of each
    sample (to 1/B), so samples are exact and clusters as even as the iterations make them; q is B times the result.
    Everything is in logarithms: a small ε overflows nothing. Source: Caron et al. (2020), their code; Cuturi (2013).

    >>> import torch
    >>> vd.losses.sinkhorn(torch.eye(2), epsilon=0.01).round(decimals=2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    require_positive("epsilon", epsilon)
    require_integer("iterations", iterations, at_least=1)
    logits = values.detach() / epsilon
    for _ in range(iterations):
        logits = torch.log_softmax(logits, -2)  # K and B of the sources cancel in the next division
        logits = torch.log_softmax(logits, -1)
    return logits.exp()


def swav(
    first: Embeddings,
    second: Embeddings,
    prototypes: Prototypes,
    *,
    temperature: float | Tensor = 0.1,
    epsilon: float | Tensor = 0.05,
    iterations: int = 3,
) -> Values:
    """Return −½ E_b Σ_k [ q¹_bk log p²_bk + q²_bk log p¹_bk ], p = softmax_k(s/τ), q = ``sinkhorn`` of s.

    Codes take no gradient, prototypes take one through p. Source: Caron et al. (2020).
    """
    require_positive("temperature", temperature)
    require_pairs("second", first, second, at_least=1)
    found = [scores(view, prototypes) for view in (first, second)]
    codes = [sinkhorn(each, epsilon=epsilon, iterations=iterations) for each in found]
    logs = [torch.log_softmax(each / temperature, -1) for each in found]
    return -0.5 * (codes[0] * logs[1] + codes[1] * logs[0]).sum(-1).mean(-1)


def msn(
    anchors: Embeddings,
    targets: Embeddings,
    prototypes: Prototypes,
    *,
    temperature: float | Tensor = 0.1,
    sharpening: float | Tensor = 0.25,
    weight: float | Tensor = 1.0,
    convention: str = "code",
) -> Values:
    """Return −E_b Σ_k p⁺_bk log p_bk + λ (log K − H(p̄)), the last for the mean p̄ = E_b p_b of anchors (me-max).

    p = softmax(s/τ) of anchors; p⁺ ∝ softmax(s/τ)^{1/T} of targets, without gradient; T = ``sharpening``, λ =
    ``weight``. The last term is 0 at its least in the "code"; the "paper" has no log K in it. Source: Assran et al.
    (2022).
    """
    require_positive("temperature", temperature)
    require_positive("sharpening", sharpening)
    require_choice("convention", convention, ME_MAX_CONVENTIONS)
    require_pairs("targets", anchors, targets, at_least=1)
    logs = torch.log_softmax(scores(anchors, prototypes) / temperature, -1)
    # the power of a softmax is the softmax of a multiple
    aim = torch.softmax(scores(targets, prototypes).detach() / temperature / sharpening, -1)
    mean_log = torch.logsumexp(logs, -2, keepdim=True) - log(logs.shape[-2])
    regulariser = (mean_log.exp() * mean_log).sum(-1, keepdim=True)
    if convention == "code":
        regulariser = regulariser + log(logs.shape[-1])
    return (weight * regulariser - (aim * logs).sum(-1, keepdim=True)).mean((-2, -1))


def deepcluster(
    embeddings: Embeddings,
    centroids: Prototypes,
    assignment: Int[Tensor, "*batch sample"],
    *,
    temperature: float | Tensor = 0.1,
) -> Values:
    """Return −E_b log softmax_k(s_bk/τ) at the cluster that each sample is assigned to.

    Source: Caron et al. (2020), the DeepCluster-v2 of their code, whose centroids take no gradient.
    """
    require_positive("temperature", temperature)
    logs = torch.log_softmax(scores(embeddings, centroids) / temperature, -1)
    if assignment.shape != logs.shape[:-1]:
        words = f"must name a cluster for each sample, {tuple(logs.shape[:-1])}"
        raise invalid_value("assignment", tuple(assignment.shape), words)
    return -logs.gather(-1, assignment[..., None])[..., 0].mean(-1)


def nearest(embeddings: Embeddings, centroids: Prototypes) -> Int[Tensor, "*batch sample"]:
    """Return the cluster of largest cosine, the first of equals."""
    return scores(embeddings, centroids).argmax(-1)


def spherical_k_means(embeddings: Embeddings, centroids: Prototypes, *, iterations: int = 10) -> Prototypes:
    """Return unit centroids after so many of Lloyd's iterations from given ones; a cluster without samples stays."""
    require_integer("iterations", iterations, at_least=1)
    vectors, found = unit_vectors(embeddings.detach()), unit_vectors(centroids.detach())
    for _ in range(iterations):
        member = torch.nn.functional.one_hot(nearest(vectors, found), found.shape[-2]).to(vectors)
        held = member.sum(-2)[..., None] > 0
        found = torch.where(held, unit_vectors(member.mT @ vectors), found)
    return found
