"""The checked forward pass of a published Vision Transformer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import wrong
from vitdyn.checkpoints.functional_vit import Forward, run_vit
from vitdyn.checkpoints.published import Checkpoint


@torch.no_grad()
def forward(
    checkpoint: Checkpoint,
    images: Float[Tensor, "image channel height width"],
    *,
    reduce: Callable[[Tensor], Any] | None = None,
    keep_residual: bool = True,
) -> Forward:
    """Run preprocessed images through a checkpoint, in its precision (equations: ``run_vit``).

    ``reduce`` is called with the attention of each block, (image, head, query, key), and what it returns is kept
    in place of it: maps of twelve blocks of a ViT-B/16 take 22 MB an image. Raises ``ValueError`` for images of
    another size, and for numbers in them that are not finite.
    """
    shape = checkpoint.architecture
    wanted = (shape.channels, *shape.image_size)
    if not isinstance(images, Tensor):
        raise wrong("images", type(images).__name__, "must be a tensor, as load_images returns")
    if images.ndim != 4 or tuple(images.shape[1:]) != wanted:
        must = f"must be (image, channel, height, width) with {wanted}"
        raise wrong("shape of images", tuple(images.shape), must)
    if not bool(images.isfinite().all()):
        raise wrong("images", tuple(images.shape), "hold numbers that are not finite")
    return run_vit(checkpoint.weights, shape, images, reduce=reduce, keep_residual=keep_residual)
