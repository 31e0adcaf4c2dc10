"""Losses of generative methods: a network fills in the patches that it did not see.

Axes are (..., sample, patch, dimension), masks (..., sample, patch); means are over the masked patches of all samples.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import require_integer, require_real
from vitdyn.losses.masked import Mask, Patches, masked_mean, normalised
from vitdyn.losses.vectors import unit_vectors


def mae(
    predicted: Patches, target: Patches, masked: Mask, *, normalise: bool = False
) -> Float[Tensor, "*lead"]:
    """Return the mean over masked patches of the mean over dimensions of (ŷ − y)².

    With ``normalise`` targets are (y − mean)/√(variance + 1e-6) of each patch, variance with denominator D − 1.
    Source: He et al. (2022), their code.

    >>> predicted, target = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)
    >>> float(mae(predicted, target, torch.tensor([[True, False]])))
    1.0
    """
    target = normalised(target, "pixel" if normalise else "none")
    return masked_mean((predicted - target).square().mean(-1), masked)


def simmim(
    predicted: Patches, target: Patches, masked: Mask, *, channels: int = 3, epsilon: float = 1e-5
) -> Float[Tensor, "*lead"]:
    """Return Σ |ŷ − y| over the dimensions of masked patches / (their pixels + ε) / ``channels``.

    A patch of D dimensions has D/``channels`` pixels; ε = ``epsilon``, which no average needs, is that of the code.
    Source: Xie et al. (2022), their code.
    """
    require_integer("channels", channels, at_least=1, at_most=predicted.shape[-1])
    require_real("epsilon", epsilon, low=0.0, high=1.0)
    errors, masked = torch.broadcast_tensors((predicted - target).abs().sum(-1), masked)
    total = (errors * masked).sum((-2, -1))
    # a whole number times a plain one would be in single precision
    pixels = masked.to(total).sum((-2, -1)) * (predicted.shape[-1] / channels)
    return total / (pixels + epsilon) / channels


def beit(
    logits: Float[Tensor, "*lead sample patch token"],
    token: Int[Tensor, "*lead sample patch"],
    masked: Mask,
) -> Float[Tensor, "*lead"]:
    """Return the mean over masked patches of −log softmax(logits) at the patch's token of a vocabulary.

    Source: Bao et al. (2022).
    """
    log_likelihood = torch.log_softmax(logits, -1).gather(-1, token[..., None])[..., 0]
    return -masked_mean(log_likelihood, masked)


def u_mae_uniformity(
    features: Float[Tensor, "*lead sample dimension"], *, normalise: bool = True
) -> Float[Tensor, "*lead"]:
    """Return the mean over all pairs of samples, each with itself too, of ⟨f_b, f_c⟩².

    ``normalise`` makes features unit vectors first, as the code does; the paper's formula does not. U-MAE adds 0.01 of
    this to ``mae``. Source: Zhang et al. (2022).
    """
    if normalise:
        features = unit_vectors(features)
    return (features @ features.mT).square().mean((-2, -1))
