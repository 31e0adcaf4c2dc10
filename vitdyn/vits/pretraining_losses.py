"""The losses, as functions of what the networks return."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def reconstruction_loss(
    predicted: Float[Tensor, "image patch pixel"],
    target: Float[Tensor, "image patch pixel"],
    masked: Float[Tensor, "image patch"],
    *,
    normalised: bool,
) -> Float[Tensor, ""]:
    """Mean over masked patches of the mean over pixels of (ŷ − y)².

    ``normalised`` targets are (y − mean)/√(variance + 1e-6) of each patch, variance with denominator n − 1. Source: He
    et al. (2022).
    """
    if normalised:
        # denominator n − 1, as in MAE's code
        variance = target.var(-1, keepdim=True)
        target = (target - target.mean(-1, keepdim=True)) / torch.sqrt(variance + 1e-6)
    return ((predicted - target).square().mean(-1) * masked).sum() / masked.sum()


def contrast_loss(
    queries: Float[Tensor, "image dimension"], keys: Float[Tensor, "image dimension"], temperature: float
) -> Float[Tensor, ""]:
    """2τ times the mean of −log softmax_j(q_i · k_j/τ) at j = i, vectors made unit.

    The factor 2τ keeps the size of the gradient independent of τ. Keys take no gradient. Source: Chen, Xie and He
    (2021).
    """
    # keys come from the moving average, which learns from no gradient
    q, k = (nn.functional.normalize(each, dim=-1) for each in (queries, keys.detach()))
    same = torch.arange(len(q), device=q.device)
    return 2 * temperature * nn.functional.cross_entropy(q @ k.mT / temperature, same)
