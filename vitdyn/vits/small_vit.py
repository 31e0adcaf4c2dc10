"""The small Vision Transformer that is trained here: its sizes, its first weights, its masked encoder and its decoder.

The encoder is the functional ViT that also runs published models (:mod:`vitdyn.vits.functional_vit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from vitdyn._errors import invalid_value, require_integer
from vitdyn.vits.architecture import Architecture, Shapes, block_shapes
from vitdyn.vits.augmentation import generator
from vitdyn.vits.families import sine_positions
from vitdyn.vits.functional_vit import Weights, norm, run_block, run_vit

PREFIX = 1
"""Tokens before the patches: the class token."""


@dataclass(frozen=True, kw_only=True)
class SmallViT:
    """A small Vision Transformer: patches of ``patch`` x ``patch`` pixels, ``depth`` blocks of ``heads`` heads.

    Position codes are sines and cosines and stay fixed; the hidden layer of a block's MLP is ``expansion`` times as
    wide. The decoder of masked reconstruction is ``decoder_width`` wide.
    """

    patch: int = 2
    width: int = 32
    depth: int = 3
    heads: int = 4
    expansion: int = 2
    decoder_width: int = 16
    decoder_depth: int = 1
    decoder_heads: int = 4

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            require_integer(name, getattr(self, name), at_least=1)
        for width, heads in (("width", "heads"), ("decoder_width", "decoder_heads")):
            if getattr(self, width) % 4 or getattr(self, width) % getattr(self, heads):
                raise invalid_value(width, getattr(self, width), f"must be a multiple of 4 and of {heads}")

    def grid(self, side: int) -> int:
        """Return how many patches an image has along each axis."""
        if side % self.patch or side < 2 * self.patch:
            raise invalid_value("patch", self.patch, f"must divide the image's side, {side}, at least twice")
        return side // self.patch

    def encoder(self, side: int) -> Architecture:
        """Return the architecture of the encoder for grey images of ``side`` pixels."""
        grid = self.grid(side)
        return Architecture(
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            patch=self.patch,
            rows=grid,
            columns=grid,
            channels=1,
            hidden=self.expansion * self.width,
            prefix=PREFIX,
        )

    def decoder(self, side: int) -> Architecture:
        """Return the sizes of the decoder, whose own tensors ``decoder_shapes`` lists."""
        width = self.decoder_width
        sizes = {"width": width, "depth": self.decoder_depth, "heads": self.decoder_heads}
        return replace(self.encoder(side), **sizes, hidden=self.expansion * width)

    def decoder_shapes(self, side: int) -> Shapes:
        """Return the shape of every tensor of the decoder, in the order in which they are drawn."""
        shape = self.decoder(side)
        return {
            "mask_token": (1, 1, shape.width),
            "positions": (1, shape.tokens, shape.width),
            "embed.weight": (shape.width, self.width),
            "embed.bias": (shape.width,),
            **dict(block_shapes(shape.width, shape.hidden, shape.depth)),
            "norm.weight": (shape.width,),
            "norm.bias": (shape.width,),
            "pixels.weight": (self.patch**2, shape.width),
            "pixels.bias": (self.patch**2,),
        }


class Parameters(nn.Module):
    """Tensors by dotted names as parameters of nested modules: what torch keeps, moves and names is kept by it."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            # position codes are weights that are never trained
            module.register_parameter(last, nn.Parameter(tensor, requires_grad=last != "positions"))

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The parameters by their dotted names."""
        return dict(self.named_parameters())


def visible_patches(shape: Architecture, mask: float) -> int:
    """Return how many patches are left when the share ``mask`` is masked: rounded down, as in MAE."""
    return int(shape.patches * (1 - mask))


class Encoded(NamedTuple):
    """Tokens after the final norm, which patches were masked (1) and how to put all back in order."""

    tokens: Float[Tensor, "image token width"]
    masked: Float[Tensor, "image patch"]
    order: Int[Tensor, "image patch"]


class Decoder(Parameters):
    """The decoder of masked reconstruction, of sizes ``shape``."""

    def __init__(self, tensors: Mapping[str, Tensor], shape: Architecture) -> None:
        super().__init__(tensors)
        self.shape = shape

    def forward(self, encoded: Encoded) -> Float[Tensor, "image patch pixel"]:
        """Return the pixels of every patch, from visible tokens and mask tokens in the order of the image.

        It sees which patches were masked, not their pixels.
        """
        weights, shape = self.weights, self.shape
        tokens = linear(encoded.tokens, weights["embed.weight"], weights["embed.bias"])
        lacking = shape.tokens - tokens.shape[1]
        # one learned token stands for every masked patch; positions tell them apart
        masks = weights["mask_token"].expand(len(tokens), lacking, -1)
        shuffled = torch.cat([tokens[:, PREFIX:], masks], 1)
        patches = shuffled.gather(1, encoded.order[..., None].expand(-1, -1, shape.width))
        stream = torch.cat([tokens[:, :PREFIX], patches], 1) + weights["positions"]
        for number in range(shape.depth):
            _, stream = run_block(weights, f"blocks.{number}", shape, stream)
        stream = norm(weights, "norm", stream, shape.epsilon)
        return linear(stream, weights["pixels.weight"], weights["pixels.bias"])[:, PREFIX:]


def build(spec: SmallViT, side: int, seed: int) -> tuple[Parameters, Decoder]:
    """Return an untrained encoder and its decoder, all weights drawn from one stream of the seed."""
    # one stream for all weights: the order of tensors is part of the numbers
    draw, grid = generator(seed, "basis", 0), spec.grid(side)

    def drawn(shapes: Shapes, width: int) -> dict[str, Tensor]:
        return {
            name: position_codes(grid, width) if name == "positions" else first_weight(name, shape, draw)
            for name, shape in shapes.items()
        }

    shapes = spec.encoder(side).shapes()
    del shapes["distillation_token"]
    encoder = Parameters(drawn(shapes, spec.width))
    return encoder, Decoder(drawn(spec.decoder_shapes(side), spec.decoder_width), spec.decoder(side))


def first_weight(name: str, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    """Return a first weight: matrices Xavier-uniform, class and mask tokens normal (0.02), norms 1, biases 0."""
    if name.endswith("bias"):
        return torch.zeros(shape)
    if name.endswith("_token"):
        return torch.empty(shape).normal_(std=0.02, generator=draw)
    if len(shape) == 1:
        return torch.ones(shape)
    values = torch.empty(shape)
    outputs, inputs = values.flatten(1).shape
    # a kernel of patches counts as the matrix that it is
    bound = (6 / (inputs + outputs)) ** 0.5
    return values.uniform_(-bound, bound, generator=draw)


def position_codes(grid: int, width: int) -> Float[Tensor, "1 token width"]:
    """Return fixed codes as MAE's, of the base 2 grid; 0 for the class token.

    The usual base, 10000, would leave most of the codes nearly the same over a grid of a few patches.
    """
    codes = sine_positions((grid, grid), width, base=2.0 * grid, dtype=torch.float32)
    assert codes is not None  # widths are multiples of 4
    return torch.cat([torch.zeros(1, width), codes])[None]


def patches_of(
    images: Float[Tensor, "image channel side side"], patch: int
) -> Float[Tensor, "image patch pixel"]:
    """Cut images into patches, row by row; within a patch by row, column, then channel."""
    count, channels, side, _ = images.shape
    grid = side // patch
    # (image, channel, row, pixel row, column, pixel column)
    cut = images.reshape(count, channels, grid, patch, grid, patch).permute(0, 2, 4, 3, 5, 1)
    return cut.reshape(count, grid * grid, patch * patch * channels)


def encode_masked(
    weights: Weights,
    shape: Architecture,
    images: Float[Tensor, "image channel side side"],
    *,
    noise: Float[Tensor, "image patch"],
    mask: float,
) -> Encoded:
    """Return the tokens of images, the share ``mask`` of whose patches, those of largest ``noise``, is left out."""
    visible = visible_patches(shape, mask)
    # patches in rising order of noise: the first are visible (MAE)
    shuffled = noise.argsort(1)
    order = shuffled.argsort(1)  # of each patch, its place among the shuffled: the inverse permutation
    tokens = run_vit(weights, shape, images, visible=shuffled[:, :visible], keep_residual=False).final
    return Encoded(tokens, (order >= visible).to(noise), order)
