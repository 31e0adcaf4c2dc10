"""What losses of single patches share: means over masked patches, normalised targets, a smooth distance."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitdyn._errors import invalid_value, require_choice, require_real

Mask = Bool[Tensor, "*lead sample patch"] | Float[Tensor, "*lead sample patch"]
"""Which patches count: true or 1 where a patch is masked."""

Patches = Float[Tensor, "*lead sample patch dimension"]

NORMALISATIONS = ("none", "pixel", "layer", "instance")


def masked_mean(values: Float[Tensor, "*lead sample patch"], masked: Mask) -> Float[Tensor, "*lead"]:
    """Return the mean of ``values`` over all masked patches of all samples together; NaN where none is masked."""
    # a mask that samples share counts for each of them
    values, masked = torch.broadcast_tensors(values, masked)
    return (values * masked).sum((-2, -1)) / masked.sum((-2, -1))


def normalised(target: Patches, kind: str) -> Patches:
    """Return targets less their mean, over √(variance + ε), as ``kind`` says.

    "pixel": over the dimensions of each patch, variance with denominator D − 1, ε = 1e-6 (MAE's code); "layer": over
    the same, denominator D, ε = 1e-5 (layer normalisation); "instance": over the patches of each sample, dimension by
    dimension, denominator P, ε = 1e-5; "none": as they are.
    """
    require_choice("normalise", kind, NORMALISATIONS)
    if kind == "none":
        return target
    axis = -2 if kind == "instance" else -1
    unbiased, epsilon = (True, 1e-6) if kind == "pixel" else (False, 1e-5)
    if unbiased and target.shape[axis] < 2:
        raise invalid_value("normalise", kind, "needs patches of two dimensions or more: one has no variance")
    deviation = target - target.mean(axis, keepdim=True)
    return deviation / (target.var(axis, unbiased=unbiased, keepdim=True) + epsilon).sqrt()


def distance(predicted: Tensor, target: Tensor, beta: float) -> Tensor:
    """Return (ŷ − y)² at β = 0, else the smooth L1: (ŷ − y)²/2β where |ŷ − y| < β, |ŷ − y| − β/2 elsewhere."""
    require_real("beta", beta, low=0.0, high=1e6)
    if beta == 0:
        return (predicted - target).square()
    return nn.functional.smooth_l1_loss(predicted, target.expand_as(predicted), reduction="none", beta=beta)
