"""What the losses share: unit vectors, and refusals of what no loss can be of."""

from __future__ import annotations

from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_real


def unit_vectors(vectors: Float[Tensor, "*batch dimension"]) -> Float[Tensor, "*batch dimension"]:
    """Return vectors of length 1; a vector of length 0 stays."""
    # divided by the largest entry first, so that squares neither overflow nor vanish; it cancels, and so is no
    # stop-gradient, which detach() would be to who looks for one
    with torch.no_grad():
        largest = vectors.abs().amax(-1, keepdim=True)
    vectors = vectors / torch.where(largest == 0, 1.0, largest)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(length == 0, 1.0, length)


def require_positive(field: str, value: float | Tensor) -> None:
    """Raise unless a hyperparameter is above 0; one that lies on a GPU is not read, which would wait for it."""
    if not isinstance(value, Tensor):
        require_real(field, value, low=0.0, high=inf, open_low=True)
    elif not value.is_cuda and not bool((value > 0).all()):
        raise invalid_value(field, value.tolist(), "must be positive")


def require_pairs(field: str, first: Tensor, second: Tensor, *, at_least: int = 2) -> None:
    """Raise unless two arrays (..., sample, dimension) hold as many samples, and enough of them."""
    if first.ndim < 2:
        raise invalid_value("batch", tuple(first.shape), "must have axes for sample and dimension")
    if first.shape[-2:] != second.shape[-2:]:
        words = f"must hold a pair for each row of the first, {tuple(first.shape)}"
        raise invalid_value(field, tuple(second.shape), words)
    require_samples(first, at_least)


def require_samples(embeddings: Tensor, at_least: int = 2) -> None:
    """Raise unless there are enough samples to compare them with each other."""
    if embeddings.ndim < 2:
        raise invalid_value("batch", tuple(embeddings.shape), "must have axes for sample and dimension")
    if embeddings.shape[-2] < at_least:
        words = f"compares the samples of a batch: at least {at_least}"
        raise invalid_value("batch", embeddings.shape[-2], words)
