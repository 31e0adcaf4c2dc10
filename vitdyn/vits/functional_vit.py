"""A plain Vision Transformer as a function of its weights: one for published models and for those trained here.

Weights are tensors by our names (:mod:`vitdyn.vits.key_tables`). Sums and products stand in the order of
transformers' ``eager`` attention, so that the two agree to round-off, and small ones train to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm, linear

from vitdyn.vits.architecture import Architecture

Weights = Mapping[str, Tensor]
Tokens = Float[Tensor, "image token width"]
Maps = Float[Tensor, "image head query key"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Forward:
    """What a forward pass went through.

    ``attention`` has, for each block, the softmax (image, head, query, key) with rows that sum to 1, or what it was
    reduced to. ``residual`` has the stream after the embedding and after each block, (image, token, width), or
    nothing where it was not kept. ``final`` is the last of them after the final norm.
    """

    attention: tuple[Any, ...]
    residual: tuple[Tokens, ...]
    final: Tokens


def run_vit(
    weights: Weights,
    shape: Architecture,
    images: Float[Tensor, "image channel height width"],
    *,
    visible: Int[Tensor, "image visible"] | None = None,
    masked: Bool[Tensor, "image patch"] | None = None,
    reduce: Callable[[Maps], Any] | None = None,
    keep_residual: bool = True,
) -> Forward:
    """Run images through a ViT; ``visible`` names the patches that go in, None for all.

    Where patches are ``masked`` the weights' "mask_token" goes in their place, with their positions.

    x₀ = (class token, patches W_p + b_p) + positions; with h = norm(x), in each head
    A = softmax(q kᵀ/√d), q = W_q h + b_q and k, v alike, d = width/heads;
    x ← x + W_o (A v) + b_o; x ← x + W_2 gelu(W_1 norm(x) + b_1) + b_2; in the end norm(x). GELU is the exact one.

    ``reduce`` is called with the attention of each block, and what it returns is kept in place of it.
    """
    stream = embed(weights, shape, images, visible, masked)
    residual, attention = [stream], []
    for number in range(shape.depth):
        maps, stream = run_block(weights, f"blocks.{number}", shape, stream)
        attention.append(maps if reduce is None else reduce(maps))
        if keep_residual:
            residual.append(stream)
        del maps  # else they would stay in memory until the next block has made its own
    kept = tuple(residual) if keep_residual else ()
    return Forward(
        attention=tuple(attention), residual=kept, final=norm(weights, "norm", stream, shape.epsilon)
    )


def embed(
    weights: Weights, shape: Architecture, images: Tensor, visible: Tensor | None, masked: Tensor | None
) -> Tokens:
    """Return the tokens before the first block: prefix tokens, then the visible patches, all with positions."""
    # a convolution whose stride is its kernel is one linear map of each patch
    kernel, positions = weights["patch.weight"], weights["positions"]
    patches = conv2d(images.to(kernel), kernel, weights["patch.bias"], stride=shape.patch)
    tokens = patches.flatten(2).transpose(1, 2)
    if masked is not None:
        tokens = torch.where(masked[..., None], weights["mask_token"], tokens)
    tokens = tokens + positions[:, shape.prefix :]
    if visible is not None:
        # positions are added before patches are left out: each keeps the one of its place in the image
        tokens = tokens.gather(1, visible[..., None].expand(-1, -1, shape.width))
    # DeiT has a second token before the patches, for its teacher's label
    prefix = [weights[name] for name in ("class_token", "distillation_token") if name in weights]
    before = torch.cat(prefix, 1) + positions[:, : shape.prefix]
    return torch.cat([before.expand(len(images), -1, -1), tokens], 1)


def run_block(weights: Weights, block: str, shape: Architecture, stream: Tokens) -> tuple[Maps, Tokens]:
    """Return the attention maps of a block and the stream after it."""

    def linear_map(name: str, values: Tensor) -> Tensor:
        # published models may lack the offsets of queries, keys and values
        return linear(values, weights[f"{block}.{name}.weight"], weights.get(f"{block}.{name}.bias"))

    normed = norm(weights, f"{block}.norm_attention", stream, shape.epsilon)
    # (image, head, token, dimension): the width is cut into heads
    query, key, value = (
        linear_map(name, normed).unflatten(-1, (shape.heads, -1)).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    # the maps are made in full and not fused away: they are what is measured
    maps = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
    stream = stream + linear_map("proj", (maps @ value).transpose(1, 2).flatten(2))
    hidden = gelu(linear_map("fc1", norm(weights, f"{block}.norm_mlp", stream, shape.epsilon)))
    return maps, stream + linear_map("fc2", hidden)


def norm(weights: Weights, name: str, values: Tensor, epsilon: float) -> Tensor:
    """Return LayerNorm over the width; the identity where a model has no such norm, as those that pool first."""
    if f"{name}.weight" not in weights:
        return values
    weight = weights[f"{name}.weight"]
    return layer_norm(values, weight.shape, weight, weights[f"{name}.bias"], epsilon)
