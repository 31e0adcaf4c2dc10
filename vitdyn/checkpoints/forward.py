"""The forward pass of a plain Vision Transformer, written out: attention of every head, the residual stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm, linear

from vitdyn._errors import wrong
from vitdyn.checkpoints.checkpoint import Checkpoint

Reduce = Callable[[Tensor], Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Forward:
    """What a forward pass went through.

    ``attention`` has, for each block, the softmax (image, head, query, key) with rows that sum to 1, or what it was
    reduced to. ``residual`` has the stream after the embedding and after each block, (image, token, width), or
    nothing where it was not kept. ``final`` is the last of them after the final norm.
    """

    attention: tuple[Any, ...]
    residual: tuple[Float[Tensor, "image token width"], ...]
    final: Float[Tensor, "image token width"]


@torch.no_grad()
def forward(
    checkpoint: Checkpoint,
    images: Float[Tensor, "image channel height width"],
    *,
    reduce: Reduce | None = None,
    keep_residual: bool = True,
) -> Forward:
    """Run preprocessed images through a checkpoint, in its precision.

    x₀ = (class token, patches W_p + b_p) + positions; with h = norm(x), in each head
    A = softmax(q kᵀ/√d), q = W_q h + b_q and k, v alike, d = width/heads;
    x ← x + W_o (A v) + b_o; x ← x + W_2 gelu(W_1 norm(x) + b_1) + b_2; in the end norm(x). GELU is the exact one.

    ``reduce`` is called with the attention of each block, (image, head, query, key), and what it returns is kept
    in place of it: maps of twelve blocks of a ViT-B/16 take 22 MB an image. Raises ``ValueError`` for images of
    another size, and for numbers in them that are not finite.
    """
    shape = checkpoint.architecture
    wanted = (shape.channels, *shape.image_size)
    if not isinstance(images, Tensor):
        raise wrong("images", type(images).__name__, "must be a tensor, as load_images returns")
    if images.ndim != 4 or tuple(images.shape[1:]) != wanted:
        raise wrong(
            "shape of images", tuple(images.shape), f"must be (image, channel, height, width) with {wanted}"
        )
    if not bool(images.isfinite().all()):
        raise wrong("images", tuple(images.shape), "hold numbers that are not finite")
    stream = _embedded(checkpoint, images)
    residual, attention = [stream], []
    for number in range(shape.depth):
        block = _Block(checkpoint, number)
        maps = block.attention(stream)
        stream = block.after(stream, maps)
        attention.append(maps if reduce is None else reduce(maps))
        if keep_residual:
            residual.append(stream)
        del maps
    return Forward(
        attention=tuple(attention),
        residual=tuple(residual) if keep_residual else (),
        final=_normalised(checkpoint, "norm", stream),
    )


def _embedded(checkpoint: Checkpoint, images: Tensor) -> Tensor:
    weights = checkpoint.weights
    kernel = weights["patch.weight"]
    patches = conv2d(images.to(kernel), kernel, weights["patch.bias"], stride=checkpoint.architecture.patch)
    before = [weights[name] for name in ("class_token", "distillation_token") if name in weights]
    tokens = [token.expand(len(images), -1, -1) for token in before]
    return torch.cat([*tokens, patches.flatten(2).transpose(1, 2)], 1) + weights["positions"]


def _normalised(checkpoint: Checkpoint, name: str, values: Tensor) -> Tensor:
    """Return LayerNorm over the width; the identity where a model has no such norm."""
    weights, shape = checkpoint.weights, checkpoint.architecture
    if f"{name}.weight" not in weights:
        return values
    return layer_norm(
        values, (shape.width,), weights[f"{name}.weight"], weights[f"{name}.bias"], shape.epsilon
    )


class _Block:
    """One block of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint, number: int) -> None:
        self._checkpoint, self._at = checkpoint, f"blocks.{number}."

    def attention(self, stream: Tensor) -> Float[Tensor, "image head query key"]:
        values = self._norm("norm_attention", stream)
        queries, keys = (self._by_head(self._map(part, values)) for part in ("query", "key"))
        return (queries @ keys.mT * queries.shape[-1] ** -0.5).softmax(-1)

    def after(self, stream: Tensor, attention: Tensor) -> Float[Tensor, "image token width"]:
        values = self._by_head(self._map("value", self._norm("norm_attention", stream)))
        stream = stream + self._map("merge", (attention @ values).transpose(1, 2).flatten(2))
        wide = gelu(self._map("widen", self._norm("norm_mlp", stream)))
        return stream + self._map("narrow", wide)

    def _map(self, name: str, values: Tensor) -> Tensor:
        weights = self._checkpoint.weights
        return linear(values, weights[f"{self._at}{name}.weight"], weights.get(f"{self._at}{name}.bias"))

    def _norm(self, name: str, values: Tensor) -> Tensor:
        return _normalised(self._checkpoint, f"{self._at}{name}", values)

    def _by_head(self, values: Tensor) -> Float[Tensor, "image head token dimension"]:
        return values.unflatten(-1, (self._checkpoint.architecture.heads, -1)).transpose(1, 2)
