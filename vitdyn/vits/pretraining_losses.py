"""The losses, as functions of what the networks return."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def patches_of(
    images: Float[Tensor, "image channel side side"], patch: int
) -> Float[Tensor, "image patch pixel"]:
    """Cut images into patches, row by row; within a patch by row, column, then channel."""
    count, channels, side, _ = images.shape
    grid = side // patch
    # (image, channel, row, pixel row, column, pixel column)
    cut = images.reshape(count, channels, grid, patch, grid, patch).permute(0, 2, 4, 3, 5, 1)
    return cut.reshape(count, grid * grid, patch * patch * channels)


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


def classification_loss(
    scores: Float[Tensor, "image label"], labels: Int[Tensor, " image"]
) -> Float[Tensor, ""]:
    """Mean of −log softmax at the label."""
    return nn.functional.cross_entropy(scores, labels)


@torch.no_grad()
def move_average(average: nn.Module, towards: nn.Module, momentum: float) -> None:
    """Move each parameter θ' of a moving average to momentum · θ' + (1 − momentum) · θ."""
    old: list[Tensor] = list(average.parameters())
    new: list[Tensor] = list(towards.parameters())
    # one call for all parameters, most of which are small
    torch._foreach_lerp_(old, new, 1 - momentum)
