"""Heads, values and depth on patch data, written plainly: batched torch, seeds and samples as leading axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_integer, require_real
from vitdyn.data import PatchBatch, PatchGenerator, PatchLayout
from vitdyn.kernels import Parameters, as_parameters
from vitdyn.models.model import ATTENTION_MAPS, Model
from vitdyn.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class Transformer(Model):
    """A Transformer on patch data, each head with a merged matrix Q as in the theory.

    Per layer, with contents x_p (0 for a masked patch) and position codes e_p,

        attn^h_{p→q} = softmax_q( (Φ^h_p · x_q + Υ^h_pq) / τ ),   F_p = (1/H) Σ_h Σ_q attn^h_{p→q} x_q

    Parameters are drawn from N(0, σ²), σ = ``initial_scale``. One head at σ = 0 is ``OneLayer``.
    """

    name: ClassVar[str] = "transformer"
    offers: ClassVar[frozenset[str]] = frozenset({ATTENTION_MAPS})

    heads: int = 1
    layers: int = 1
    temperature: float = 1.0
    initial_scale: float = 0.0

    def __post_init__(self) -> None:
        require_integer("heads", self.heads, at_least=1)
        require_real("temperature", self.temperature, low=0.0, high=1e6, open_low=True)
        require_real("initial_scale", self.initial_scale, low=0.0, high=1e6)

    def initial(self, generator: PatchGenerator, streams: Streams, like: Tensor) -> Parameters:
        """Return Φ (seed, head, query, feature) and Υ (seed, head, query, key), each seed's from its own stream."""
        patches, scale = generator.layout.patches, self.initial_scale
        shapes = {
            "feature_position": (self.heads, patches, generator.feature_count),
            "position_position": (self.heads, patches, patches),
        }
        drawn = [
            {name: torch.from_numpy(each.standard_normal(shape)) for name, shape in shapes.items()}
            for each in streams.each()
        ]
        return as_parameters(
            {name: (scale * torch.stack([one[name] for one in drawn])).to(like) for name in shapes}
        )

    def outputs(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample query feature"]:
        """Return F_p, the mean over heads."""
        maps, content = self._attend(parameters, batch, visible)
        return maps.mean(2) @ content

    def attention_maps(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample layer head query key"]:
        """Return the maps of every layer and head."""
        return self._attend(parameters, batch, visible)[0][:, :, None]

    def stored_numbers(self, layout: PatchLayout, samples: int) -> int:
        """Return about how many numbers a seed keeps for the gradient of one view of so many samples."""
        return 4 * self.heads * samples * layout.patches**2

    def _attend(self, parameters: Parameters, batch: PatchBatch, visible: Tensor) -> tuple[Tensor, Tensor]:
        content = batch.contents().to(parameters.like) * visible[..., None].to(parameters.like)
        logits = torch.einsum("shpf,sbqf->sbhpq", parameters.feature_position, content)
        logits = logits + parameters.position_position[:, None]
        return torch.softmax(logits / self.temperature, -1), content
