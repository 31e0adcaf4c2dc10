"""Heads, values and depth on patch data, written plainly: batched torch, seeds and samples as leading axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from vitdyn._errors import invalid_value, require_boolean, require_choice, require_integer, require_real
from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.kernels import Parameters, as_parameters
from vitdyn.models.model import Model
from vitdyn.seeds import Streams

VALUES = ("identity", "scalar", "matrix", "projections")
POSITIONS = ("logits", "stream")
EPSILON = 1e-5
"""What the norm adds to a variance, as torch does."""


@dataclass(frozen=True, kw_only=True)
class Transformer(Model):
    """A Transformer on patch data whose every part beyond the theory's layer is a field, off by default.

    The stream starts as the contents, s_p = u_p X_p in F coordinates of feature space. A layer takes the tokens
    c_p = norm(s_p) with the position codes e_p, and with H heads

        attn^h_{p→q} = softmax_q( ℓ^h_{pq} / τ ),   s_p ← [s_p +] (1/H) Σ_h Σ_q attn^h_{p→q} V^h c_q,
        ℓ^h_{pq} = Υ^h_{pq} + Φ^h_p · c_q [+ c_p · (Ψ^h_q + Ξ^h c_q)],   then [s_p ← s_p + W_2 gelu(W_1 norm(s_p))]

    where ``content_queries`` adds Ψ and Ξ, ``residual`` the stream itself and ``mlp`` = its hidden width the last step.
    Maps sum over all keys, masked ones too: their content is 0 in the first layer, and what they gathered later.

    ``key_dimension`` D factors the logits instead: (W_Q t_p) · (W_K t_q), D/H coordinates a head, of the tokens t = (c,
    e), or of e alone in queries without content. ``positions`` = "stream" puts the codes into the stream besides, P
    coordinates after the first F, where values move them: e is then what the stream holds of it.

    ``values`` are V = 1 ("identity"), one trained number a coordinate ("scalar") or all ("matrix"), which start at
    ``value_scale`` · 1, or W_O W_V by D/H coordinates ("projections"); of projections the heads' sum counts, not the
    mean. With norm, MLP, positions in the stream, content queries and τ = √(D/H) that is a ViT without biases, its norm
    without weights, and without a last norm.

    At the start logits' parameters are from N(0, ``initial_scale``²); W_V, W_O and W_1 from N(0, 1/inputs); W_2 is 0.
    One head at 0 is ``OneLayer``; heads that start equal stay so.

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> two = vd.Transformer(layers=2, heads=4, residual=True, initial_scale=0.1)
    >>> data = vd.PatchGenerator(layout=layout)
    >>> training = vd.Training(generator=data, objective=vd.Contrastive(), model=two, steps=2)
    >>> vd.simulate(training)["final_position_position"].shape  # (seed, layer, head, query, key)
    (8, 2, 4, 16, 16)
    """

    name: ClassVar[str] = "transformer"

    layers: int = 1
    """Layers of attention."""
    heads: int = 1
    """Heads of a layer, each with a matrix Q of its own."""
    values: str = "identity"
    """Value matrix of a head: identity, scalar (a number a coordinate), matrix, or projections (W_O W_V)."""
    residual: bool = False
    """Add the stream to what attention gives."""
    mlp: int = 0
    """Hidden width of an MLP behind each attention; 0 is none."""
    norm: bool = False
    """Normalise the stream before attention and MLP."""
    temperature: float = 1.0
    """τ, which divides the logits of attention."""
    content_queries: bool = False
    """Let queries carry content too (Ψ and Ξ are trained)."""
    key_dimension: int | None = None
    """Width of queries and keys of all heads together, Q = W_Qᵀ W_K; left out, each Q is trained whole."""
    positions: str = "logits"
    """Where position codes enter: logits, or the stream too."""
    initial_scale: float = 0.0
    """Standard deviation of the logits' parameters at the start."""
    value_scale: float = 1.0
    """Where scalar and matrix values start, times the identity."""

    def __post_init__(self) -> None:
        for name, least in (("layers", 1), ("heads", 1), ("mlp", 0)):
            require_integer(name, getattr(self, name), at_least=least)
        for name in ("residual", "norm", "content_queries"):
            require_boolean(name, getattr(self, name))
        require_choice("values", self.values, VALUES)
        require_choice("positions", self.positions, POSITIONS)
        require_real("temperature", self.temperature, low=0.0, high=1e6, open_low=True)
        require_real("initial_scale", self.initial_scale, low=0.0, high=1e6)
        require_real("value_scale", self.value_scale, low=-1e6, high=1e6)
        self._check_together()

    def _check_together(self) -> None:
        """Raise ``ValueError`` for fields that do not go together, or that another one makes idle."""
        if self.key_dimension is not None:
            require_integer("key_dimension", self.key_dimension, at_least=1)
            if self.key_dimension % self.heads:
                words = f"must be a multiple of the {self.heads} heads"
                raise invalid_value("key_dimension", self.key_dimension, words)
            if not self.initial_scale:
                words = "queries and keys that both start at 0 stay there: with key_dimension give more"
                raise invalid_value("initial_scale", self.initial_scale, words)
        elif self.values == "projections":
            words = "projections need it: their width, of all heads together"
            raise invalid_value("key_dimension", None, words)
        if self.mlp and not self.residual:
            raise invalid_value("mlp", self.mlp, "adds to a residual stream: give residual=True, or 0")
        if self.value_scale != 1.0 and self.values not in ("scalar", "matrix"):
            raise invalid_value("value_scale", self.value_scale, 'is where values "scalar" or "matrix" start')

    def initial(self, generator: PatchGenerator, streams: Streams, like: Tensor) -> Parameters:
        """Return the start of each seed from its own stream: (seed, layer, ...), then (head, ...) but for the MLP."""
        sizes = generator.layout.patches, generator.feature_count
        seeds = [self._draw(*sizes, stream) for stream in streams.each()]
        blocks = {name: np.stack([one[name] for one in seeds]) for name in seeds[0]}
        return as_parameters({name: torch.from_numpy(block).to(like) for name, block in blocks.items()})

    def _draw(self, patches: int, features: int, stream: np.random.Generator) -> dict[str, np.ndarray]:
        """Return one seed's parameters before the first step."""
        width = features + patches * (self.positions == "stream")
        part = (self.key_dimension or 0) // self.heads

        def normal(scale: float, *shape: int) -> np.ndarray:
            whole = (self.layers, *shape)
            return scale * stream.standard_normal(whole) if scale else np.zeros(whole)

        shapes = self._logit_shapes(patches, features, part)
        drawn = {name: normal(self.initial_scale, self.heads, *shape) for name, shape in shapes.items()}
        if self.values == "projections":
            drawn["value"] = normal(1 / sqrt(width), self.heads, width, part)
            drawn["output"] = normal(1 / sqrt(self.heads * part), self.heads, part, width)
        elif self.values != "identity":
            one = np.eye(width) if self.values == "matrix" else np.ones(width)
            drawn["value"] = np.broadcast_to(self.value_scale * one, (self.layers, self.heads, *one.shape))
        if self.mlp:
            drawn["mlp_in"] = normal(1 / sqrt(width), width, self.mlp)
            drawn["mlp_out"] = normal(0.0, self.mlp, width)
        return drawn

    def _logit_shapes(self, patches: int, features: int, part: int) -> dict[str, tuple[int, int]]:
        """Return the shapes of what makes a head's logits: blocks of Q, or W_Q and W_K by what they read."""
        if self.key_dimension is None:
            shapes = {"feature_position": (patches, features), "position_position": (patches, patches)}
            more = {"content_position": (features, patches), "content_content": (features, features)}
        else:
            shapes = {"query_position": (patches, part), "key_position": (patches, part)}
            shapes["key_content"] = (features, part)
            more = {"query_content": (features, part)}
        return shapes | more if self.content_queries else shapes

    def outputs(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample query feature"]:
        """Return the stream after the last layer: F coordinates, and P of positions where it carries them."""
        stream = torch.empty(0)
        for _, stream in self._layers(parameters, batch, visible):  # noqa: B007  (the last one counts)
            pass
        return stream

    def attention_maps(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample layer head query key"]:
        """Return the maps of every layer and head."""
        maps = [maps.transpose(1, 2) for maps, _ in self._layers(parameters, batch, visible)]
        return torch.stack(maps, 2)

    def streams(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample layer query coordinate"]:
        """Return the stream after every layer."""
        return torch.stack([stream for _, stream in self._layers(parameters, batch, visible)], 2)

    def stored_numbers(self, patches: int, features: int, samples: int, views: int = 1) -> int:
        """Return about how many numbers a seed keeps for the gradient of so many views, or, of none, for all maps.

        A layer keeps the map of each head and, of a stream that holds positions, what each head reads off it; while one
        layer is gone back through there are two more of each.
        """
        in_stream = self.positions == "stream"
        width = features + patches * in_stream
        # torch copies what heads share where it multiplies by something that they do not
        read = self.heads * width * ((5 if self.key_dimension is None else 3) + 2 * (self.values == "matrix"))
        layer = self.heads * patches + read + (4 * width + 2 * self.mlp) * (self.mlp > 0)
        kept = views * self.layers * layer + 2 * self.heads * patches
        kept = kept if views else 2 * self.layers * self.heads * patches  # as they are made, and side by side
        return samples * patches * (kept + 2 * self.heads * width * in_stream)

    def _layers(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Iterator[tuple[Float[Tensor, "seed head sample query key"], Tensor]]:
        """Yield the maps of each layer and the stream after it.

        Heads lead samples: torch's sums over samples are then the same work for every head, and equal heads keep equal
        bits. With heads inside, sums round otherwise where vectors end than elsewhere.
        """
        like = parameters.like
        stream = batch.contents().to(like) * visible[..., None].to(like)
        features = stream.shape[-1]
        if self.positions == "stream":
            codes = torch.eye(stream.shape[2], dtype=like.dtype, device=like.device)
            stream = torch.cat([stream, codes.expand(*stream.shape[:2], -1, -1)], -1)
        # unbound at once: as slices each would have a gradient of the size of all
        blocks = {name: block.unbind(1) for name, block in parameters.named().items()}
        for layer in range(self.layers):
            own = {name: block[layer] for name, block in blocks.items()}
            tokens = self._norm(stream)
            maps = torch.softmax(self._logits(own, tokens, features), -1)
            moved = self._move(own, maps, tokens)
            stream = stream + moved if self.residual else moved
            if self.mlp:
                stream = stream + gelu(self._norm(stream) @ own["mlp_in"][:, None]) @ own["mlp_out"][:, None]
            yield maps, stream

    def _norm(self, stream: Tensor) -> Tensor:
        return layer_norm(stream, stream.shape[-1:], eps=EPSILON) if self.norm else stream

    def _logits(
        self, own: dict[str, Tensor], tokens: Float[Tensor, "seed sample patch coordinate"], features: int
    ) -> Float[Tensor, "seed head sample query key"]:
        """Return ℓ/τ of one layer."""
        content, place = tokens[:, None, ..., :features], tokens[:, None, ..., features:]
        shared = self.positions == "logits"

        def read(by_place: str, by_content: str) -> Tensor:
            """Return what tokens read off a block by their positions, and off one by their contents if it is there."""
            # e_p reads row p: one reading for all samples, and no product, until values move e
            block = own[by_place][:, :, None]
            found = block if shared else place @ block
            return found + content @ own[by_content][:, :, None] if by_content in own else found

        if self.key_dimension is None:
            logits = read("feature_position", "content_content") @ content.mT
            offsets = read("position_position", "content_position")
            logits += offsets if shared else offsets @ place.mT  # in place: maps are what takes memory
        else:
            logits = read("query_position", "query_content") @ read("key_position", "key_content").mT
        return logits if self.temperature == 1.0 else logits.div_(self.temperature)

    def _move(self, own: dict[str, Tensor], maps: Tensor, tokens: Tensor) -> Tensor:
        """Return Σ_q attn_{p→q} V c_q, the mean over heads; of projections the sum."""
        seen = tokens[:, None]
        if self.values == "projections":
            return (maps @ (seen @ own["value"][:, :, None]) @ own["output"][:, :, None]).sum(1)
        moved = maps @ seen  # V acts on the sum over keys, once a query
        if self.values == "matrix":
            moved = moved @ own["value"][:, :, None]
        elif self.values == "scalar":
            moved = moved * own["value"][:, :, None, None]
        return moved.mean(1)
