"""One encoder for all methods: a small Vision Transformer of the transformers package, built from its configuration.

Its weights are drawn here and not by the package: from a stream of the run's own seed, and because the package (5.23)
leaves the position codes of a masked autoencoder that is built from a configuration at zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitdyn._errors import require_integer, wrong
from vitdyn._extras import from_extra
from vitdyn.practice.augmentation import generator

if TYPE_CHECKING:
    from transformers import ViTMAEForPreTraining

PREFIX = 1
"""Tokens before the patches: the class token."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A Vision Transformer: patches of ``patch`` x ``patch`` pixels, ``layers`` blocks of ``heads`` heads.

    Position codes are sines and cosines and stay fixed; the hidden layer of a block's network is ``expansion`` times as
    wide. The decoder of masked reconstruction is ``decoder_width`` wide.
    """

    patch: int = 2
    width: int = 32
    layers: int = 3
    heads: int = 4
    expansion: int = 2
    decoder_width: int = 16
    decoder_layers: int = 1
    decoder_heads: int = 4

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            require_integer(name, getattr(self, name), at_least=1)
        for width, heads in (("width", "heads"), ("decoder_width", "decoder_heads")):
            if getattr(self, width) % 4 or getattr(self, width) % getattr(self, heads):
                raise wrong(width, getattr(self, width), f"must be a multiple of 4 and of {heads}")

    def grid(self, side: int) -> int:
        """Return how many patches an image has along each axis."""
        if side % self.patch or side < 2 * self.patch:
            raise wrong("patch", self.patch, f"must divide the image's side, {side}, at least twice")
        return side // self.patch


def build(architecture: Architecture, side: int, seed: int) -> ViTMAEForPreTraining:
    """Return an encoder (``.vit``) with a decoder, untrained: Xavier-uniform weights, sine position codes."""
    with from_extra("practice"):
        from transformers import ViTMAEConfig, ViTMAEForPreTraining

    architecture.grid(side)
    spec = architecture
    settings: dict[str, Any] = {
        "image_size": side,
        "patch_size": spec.patch,
        "num_channels": 1,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "intermediate_size": spec.expansion * spec.width,
        "layer_norm_eps": 1e-6,
        "mask_ratio": 0.0,
        "decoder_hidden_size": spec.decoder_width,
        "decoder_num_hidden_layers": spec.decoder_layers,
        "decoder_num_attention_heads": spec.decoder_heads,
        "decoder_intermediate_size": spec.expansion * spec.decoder_width,
        "attn_implementation": "eager",  # the only one that returns its maps
    }
    with torch.random.fork_rng(devices=[]):  # the package draws from the global generator
        model = ViTMAEForPreTraining(ViTMAEConfig(**settings))
    draw = generator(seed, "basis", 0)
    initialise(model.vit, draw)
    initialise(model.decoder, draw)
    grid = side // spec.patch
    with torch.no_grad():
        model.vit.embeddings.position_embeddings.copy_(position_codes(grid, spec.width))
        model.decoder.decoder_pos_embed.copy_(position_codes(grid, spec.decoder_width))
    return model


@torch.no_grad()
def initialise(module: nn.Module, draw: torch.Generator) -> None:
    """Draw all weights: matrices Xavier-uniform, class and mask tokens normal (0.02), norms 1, biases 0."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif name.rsplit(".", 1)[-1] in ("cls_token", "mask_token"):
            parameter.normal_(std=0.02, generator=draw)
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        elif parameter.requires_grad:
            outputs, inputs = parameter.flatten(1).shape
            bound = (6 / (inputs + outputs)) ** 0.5
            parameter.uniform_(-bound, bound, generator=draw)


def position_codes(grid: int, width: int) -> Float[Tensor, "1 token width"]:
    """Return fixed codes, a quarter of the width each: sin(x ω), cos(x ω), sin(y ω), cos(y ω); 0 for the class token.

    ω = (2 grid)^(−i / (width/4)), i = 0, 1, ...; x is the column, y the row. The usual base, 10000, would leave most of
    the codes nearly the same over a grid of a few patches.
    """
    rates = (2.0 * grid) ** (-torch.arange(width // 4) / (width // 4))
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    waves = [axis.reshape(-1, 1) * rates for axis in (column, row)]
    codes = torch.cat([part for wave in waves for part in (wave.sin(), wave.cos())], 1)
    return torch.cat([torch.zeros(1, width), codes])[None]


class Encoded(NamedTuple):
    """Tokens after the final norm, which patches were hidden (1) and how to put the others back in order."""

    tokens: Float[Tensor, "image token width"]
    hidden: Float[Tensor, "image patch"]
    order: Tensor


def encode(
    encoder: Any,
    images: Float[Tensor, "image channel side side"],
    *,
    noise: Float[Tensor, "image patch"] | None = None,
    mask: float = 0.0,
) -> Encoded:
    """Return the tokens of images, the share ``mask`` of whose patches, those of largest ``noise``, is left out.

    Without ``noise`` nothing is left out and the patches keep their order.
    """
    found = _forward(encoder, images, noise, mask)
    return Encoded(found.last_hidden_state, found.mask, found.ids_restore)


class Inspected(NamedTuple):
    """Attention maps of each block; tokens before the first block and after each, before the final norm."""

    maps: tuple[Float[Tensor, "image head query key"], ...]
    tokens: tuple[Float[Tensor, "image token width"], ...]


@torch.no_grad()
def inspect(encoder: Any, images: Float[Tensor, "image channel side side"]) -> Inspected:
    """Return attention and representations at all depths; nothing is hidden."""
    found = _forward(encoder, images, None, 0.0, output_attentions=True, output_hidden_states=True)
    return Inspected(tuple(found.attentions), tuple(found.hidden_states))


def _forward(encoder: Any, images: Tensor, noise: Tensor | None, mask: float, **asked: bool) -> Any:
    """Call the encoder, which masks by a setting of its configuration and shuffles by the order of the noise."""
    if noise is None:
        if mask:
            raise wrong("mask", mask, "takes noise: which patches to hide is the caller's draw")
        patches = encoder.embeddings.patch_embeddings.num_patches
        noise = torch.arange(patches, dtype=torch.float32, device=images.device).expand(len(images), -1)
    encoder.config.mask_ratio = mask
    return encoder(images, noise=noise, **asked)
