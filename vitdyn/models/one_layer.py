"""The theory's layer as a model: written fast, and the one that closed forms speak of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.kernels import Correlations, Parameters
from vitdyn.models.layer import area_attention
from vitdyn.models.model import CORRELATIONS, Model
from vitdyn.models.reference import attend
from vitdyn.models.transformer import Transformer
from vitdyn.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class OneLayer(Model, has_closed_forms=True):
    """The theory's layer: one softmax head with one matrix Q, values the identity, no residual; Q = 0 at the start.

    attn_{p→q} = softmax_q(t_pᵀ Q t_q), F_p = Σ_q attn_{p→q} x_q. ``Training.content_queries`` says whether queries
    carry content. Its gradients are those of ``vitdyn/kernels``, by the closed forms of objectives where they have one.

    A subclass is a model of its own, trained by autograd of its outputs: Φ, Υ and area attention are the layer's by
    name, and further parameters may stand beside them.

    >>> "closed forms" in vd.OneLayer().offers
    True
    """

    name: ClassVar[str] = "one-layer"
    offers: ClassVar[frozenset[str]] = frozenset({CORRELATIONS})

    def initial(self, generator: PatchGenerator, streams: Streams, like: Tensor) -> Correlations:
        """Return Q = 0."""
        return Correlations.zeros(generator.layout, len(streams.seeds), dtype=like.dtype, device=like.device)

    def outputs(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample query feature"]:
        """Return F_p = Σ_j z_j A_{p→j} v_j."""
        attention = self.area_attention(parameters, batch, visible)
        return batch.in_all_clusters((attention * batch.latents[..., None]).mT)

    def attention_maps(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample layer head query key"]:
        """Return the maps of its one head."""
        return attend(Correlations.of(parameters), batch, visible)[:, :, None, None]

    def area_attention(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample area query"]:
        """Return A_{p→j} without maps."""
        return area_attention(parameters, batch, visible)

    def streams(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample layer query feature"]:
        """Return the outputs, of the one layer."""
        return self.outputs(parameters, batch, visible)[:, :, None]

    def plain(self, *, content_queries: bool = False) -> Transformer:
        """Return the same layer written plainly: slower, and for data that the kernels do not know."""
        return Transformer(content_queries=content_queries)


LAYER = OneLayer()
"""What is trained where no model is named."""
