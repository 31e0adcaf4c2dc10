"""Contrast: views of one sample attract, those of different samples repel."""

from __future__ import annotations

from math import log, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.losses.vectors import require_pairs, require_positive, require_samples, unit_vectors

Embeddings = Float[Tensor, "*batch sample dimension"]
Values = Float[Tensor, "*batch"]


def diagonal_cross_entropy(
    logits: Float[Tensor, "*batch sample key"], *, positive_in_denominator: bool = True
) -> Float[Tensor, "*batch sample"]:
    """Return −log( e^{s_bb} / Σ_c e^{s_bc} ) of each row b; without the positive in the denominator c ≠ b."""
    if positive_in_denominator:
        return -torch.log_softmax(logits, -1).diagonal(dim1=-2, dim2=-1)
    positive = logits.diagonal(dim1=-2, dim2=-1)
    others = logits.masked_fill(_diagonal(logits), -torch.inf)
    return torch.logsumexp(others, -1) - positive


def info_nce(
    anchors: Embeddings,
    keys: Embeddings,
    *,
    temperature: float | Tensor,
    positive_in_denominator: bool = True,
) -> Values:
    """Return InfoNCE in one direction, −E_b log( e^{s_bb/τ} / Σ_c e^{s_bc/τ} ), s_bc = ⟨anchor_b, key_c⟩.

    Vectors are taken as they are; key b is the positive of anchor b, all other keys are its negatives. Gradients reach
    keys unless these are detached. Without the positive in the denominator (Yeh et al. 2022) the loss has no lower
    bound. Source: van den Oord et al. (2018).

    >>> import torch
    >>> round(float(vd.losses.info_nce(torch.eye(2), torch.eye(2), temperature=1.0)), 4)  # log(1 + 1/e)
    0.3133
    """
    require_positive("temperature", temperature)
    require_pairs("keys", anchors, keys)
    logits = anchors @ keys.mT / temperature
    return diagonal_cross_entropy(logits, positive_in_denominator=positive_in_denominator).mean(-1)


def nt_xent(
    first: Embeddings,
    second: Embeddings,
    *,
    temperature: float | Tensor,
    positive_in_denominator: bool = True,
    normalise: bool = True,
) -> Values:
    """Return NT-Xent over 2B views: −E_i log( e^{s_{i,i⁺}/τ} / Σ_{j≠i} e^{s_ij/τ} ), s the cosine.

    Each of the B samples has two views, each the positive i⁺ of the other; the mean is over all 2B. With
    ``normalise`` false s is the inner product. Source: Chen et al. (2020).
    """
    require_positive("temperature", temperature)
    require_pairs("second", first, second)
    if normalise:
        first, second = unit_vectors(first), unit_vectors(second)
    # columns in the order of the positives, which then lie on the diagonal
    logits = torch.cat([first, second], -2) @ torch.cat([second, first], -2).mT / temperature
    itself = _diagonal(logits).roll(first.shape[-2], 1)
    logits = logits.masked_fill(itself, -torch.inf)
    return diagonal_cross_entropy(logits, positive_in_denominator=positive_in_denominator).mean(-1)


def moco_v3(
    queries: Embeddings,
    keys: Embeddings,
    *,
    temperature: float | Tensor,
    scaled: bool = True,
    normalise: bool = True,
) -> Values:
    """Return one direction of MoCo v3: 2τ times InfoNCE of cosines, keys without gradient.

    The method adds it for both directions, ctr(q_1, k_2) + ctr(q_2, k_1). The factor 2τ, left out where ``scaled`` is
    false, keeps the size of the gradient independent of τ. Negatives are the other keys of the batch. Source: Chen,
    Xie and He (2021).
    """
    require_positive("temperature", temperature)
    require_pairs("keys", queries, keys)
    if normalise:
        queries, keys = unit_vectors(queries), unit_vectors(keys)
    each = diagonal_cross_entropy(queries @ keys.detach().mT / temperature)[..., None]
    return (2 * temperature * each if scaled else each).mean((-2, -1))


def moco_v2(
    queries: Embeddings,
    keys: Embeddings,
    queue: Float[Tensor, "*batch entry dimension"],
    *,
    temperature: float | Tensor,
    normalise: bool = True,
) -> Values:
    """Return MoCo v1 and v2: −E_b log( e^{q_b·k_b/τ} / (e^{q_b·k_b/τ} + Σ_n e^{q_b·κ_n/τ}) ), κ_n the queue.

    Negatives are the entries of the queue alone, keys of earlier batches. Neither these nor keys take a gradient.
    Source: He et al. (2020).
    """
    require_positive("temperature", temperature)
    require_pairs("keys", queries, keys, at_least=1)
    if not queue.shape[-2]:
        raise invalid_value("queue", tuple(queue.shape), "must hold an entry, the only negatives are there")
    if normalise:
        queries, keys, queue = unit_vectors(queries), unit_vectors(keys), unit_vectors(queue)
    positive = (queries * keys.detach()).sum(-1, keepdim=True)
    logits = torch.cat([positive, queries @ queue.detach().mT], -1) / temperature
    return -torch.log_softmax(logits, -1)[..., 0].mean(-1)


def spectral_contrastive(first: Embeddings, second: Embeddings, *, mu: float | Tensor | None = 1.0) -> Values:
    """Return −2 E_b⟨x_b, y_b⟩ + E_{b≠c}⟨x_b, y_c⟩², as the authors' code has it with a number μ.

    The code takes vectors longer than √μ at the length √μ and divides the loss by μ; ``mu`` None is the formula alone,
    that of the paper. Source: HaoChen et al. (2021).
    """
    require_pairs("second", first, second)
    if mu is not None:
        require_positive("mu", mu)
        first, second = _in_ball(first, mu), _in_ball(second, mu)
    products = first @ second.mT
    others = products.square().masked_fill(_diagonal(products), 0.0)
    repelled = others.sum(-1, keepdim=True) / (first.shape[-2] - 1)
    each = repelled - 2 * products.diagonal(dim1=-2, dim2=-1)[..., None]
    return (each if mu is None else each / mu).mean((-2, -1))


def alignment(
    first: Embeddings, second: Embeddings, *, power: float | Tensor = 2.0, normalise: bool = True
) -> Values:
    """Return E_b ‖x_b − y_b‖^α of unit vectors, α = ``power``. Source: Wang and Isola (2020)."""
    require_positive("power", power)
    require_pairs("second", first, second, at_least=1)
    if normalise:
        first, second = unit_vectors(first), unit_vectors(second)
    squares = (first - second).square().sum(-1, keepdim=True)
    # equal vectors pull on neither: there a length has no gradient, and autograd would say NaN
    apart = squares != 0  # so that NaN stays NaN
    return (torch.where(apart, squares, 1.0).pow(power / 2) * apart).mean((-2, -1))


def uniformity(
    embeddings: Embeddings, *, temperature: float | Tensor = 2.0, normalise: bool = True
) -> Values:
    """Return log E_{b≠c} e^{−t ‖x_b − x_c‖²} of unit vectors, t = ``temperature``. Source: Wang and Isola (2020)."""
    require_positive("temperature", temperature)
    require_samples(embeddings)
    # distances are those from the first sample on: far from the origin products would lose them
    rows = unit_vectors(embeddings) if normalise else embeddings - embeddings[..., :1, :].detach()
    squares = rows.square().sum(-1, keepdim=True)
    apart = (squares + squares.mT - 2 * rows @ rows.mT).clamp_min(0)
    potential = (-temperature * apart).masked_fill(_diagonal(apart), -torch.inf)
    pairs = rows.shape[-2] * (rows.shape[-2] - 1)
    return torch.logsumexp(potential, (-2, -1)) - log(pairs)


def _in_ball(vectors: Embeddings, mu: float | Tensor) -> Embeddings:
    """Return vectors, those longer than √μ at the length √μ."""
    radius = mu.sqrt() if isinstance(mu, Tensor) else sqrt(mu)
    inside = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True) <= radius
    return torch.where(inside, vectors, unit_vectors(vectors) * radius)


def _diagonal(square: Float[Tensor, "*batch row row"]) -> Tensor:
    """Return where a square matrix compares a sample with itself."""
    if square.shape[-2] != square.shape[-1]:
        raise invalid_value("logits", tuple(square.shape), "must be square: a key for each sample")
    return torch.eye(square.shape[-1], dtype=torch.bool, device=square.device)
