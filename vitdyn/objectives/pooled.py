"""Closed forms of losses of pooled outputs alone: autograd of a few small arrays in place of all of attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vitdyn.data import PatchBatch
from vitdyn.objectives.closed_form import MeanPooled, Means


def pooled_form(batch: PatchBatch, loss: Callable[..., Tensor]) -> MeanPooled:
    """Return ∂L/∂Ā of a loss of the ``embeddings`` of each view, and of nothing else that the model moves.

    ``loss`` takes the embeddings (seed, sample, embedding) of the views, one argument each, and returns one value for
    each seed. A view that it detaches has no gradient.
    """

    def gradient(means: Means) -> list[Tensor | None]:
        leaves = [mean.detach().requires_grad_() for mean in means]
        with torch.enable_grad():
            total = loss(*(batch.in_all_clusters(leaf * batch.latents) for leaf in leaves)).sum()
        return list(torch.autograd.grad(total, leaves, allow_unused=True))

    return MeanPooled(gradient)
