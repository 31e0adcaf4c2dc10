"""A mixture of masked reconstruction and contrast: one loss with a weight between the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import require_real
from vitdyn.attention import Workspace
from vitdyn.data import PatchBatch, PatchLayout, masked_count
from vitdyn.objectives.contract import adjoint_of, bound_of, pooled_adjoint_of, residual_scale_of
from vitdyn.objectives.contrastive import Contrastive
from vitdyn.objectives.joined import derived, per_seed
from vitdyn.objectives.masked_reconstruction import MaskedReconstruction
from vitdyn.objectives.objective import Adjoint, ForwardPass, Objective, PooledAdjoint
from vitdyn.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class Mixture(Objective):
    """Mixture: masked reconstruction of the first of two views, and InfoNCE between the two.

        L = (1 − λ) L_MAE / m + λ L_InfoNCE,   λ = ``weight`` in [0, 1],   m = γP masked patches

    L_MAE = ½ E Σ_{p masked} ‖F_p − X_p‖² on the first view (``MaskedReconstruction``), divided by m: the mean error
    of a masked patch. Both terms are per patch, for the pooling of InfoNCE (``Contrastive``) divides by P.
    One pair of ``views`` ("independent" or "complementary") serves both terms; γ = ``mask_ratio`` of the first,
    τ = ``temperature``. At λ = 0 it is masked reconstruction at 1/m of its rate, at λ = 1 it is contrast without
    weight decay. The adjoint is the same sum of the adjoints of the two (notes, ``gradients.md``). Source: the
    form is ours, after hybrid methods that add the two losses.

    >>> vd.Mixture(weight=0.7).temperature
    1.0
    """

    name: ClassVar[str] = "mixture"
    family: ClassVar[str] = "hybrid"
    varies: ClassVar[tuple[str, ...]] = ("weight", "mask_ratio", "temperature")
    drawn_by: ClassVar[tuple[str, ...]] = ("mask_ratio", "views")

    weight: float = field(
        default=0.5, metadata={"help": "λ in [0, 1]: 0 is masked reconstruction, 1 is contrast."}
    )
    mask_ratio: float = field(default=0.5, metadata={"help": "γ, the share of patches masked in each view."})
    temperature: float = field(default=1.0, metadata={"help": "τ, the temperature of InfoNCE."})
    views: str = field(
        default="independent", metadata={"help": "How the two masks are drawn: independent or complementary."}
    )

    def __post_init__(self) -> None:
        require_real("weight", self.weight, low=0.0, high=1.0)
        _ = self.reconstruction, self.contrast  # each validates its own fields

    @cached_property
    def reconstruction(self) -> MaskedReconstruction:
        """The generative part, on the first view."""
        return derived(self, lambda one: MaskedReconstruction(mask_ratio=one.mask_ratio))

    @cached_property
    def contrast(self) -> Contrastive:
        """The contrastive part, on both views."""
        return derived(
            self,
            lambda one: Contrastive(mask_ratio=one.mask_ratio, temperature=one.temperature, views=one.views),
        )

    def check(self, layout: PatchLayout, samples: int) -> None:
        """Raise ``ValueError`` where the ratio masks no patch or all, or a sample would have no negative."""
        self.contrast.check(layout, samples)

    def draw_views(
        self, generator: np.random.Generator | Streams, samples: int, patches: int
    ) -> tuple[Bool[np.ndarray, "*seed sample patch"], ...]:
        """Draw two masked views, as contrast does."""
        return self.contrast.draw_views(generator, samples, patches)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        return self._mix(forward, self.reconstruction.loss(_first_view(forward)), self.contrast.loss(forward))

    def adjoint(self, forward: ForwardPass, work: Workspace) -> tuple[Adjoint | None, ...]:
        """Return (1 − λ)/m times masked reconstruction's adjoint plus λ times that of contrast, per query."""
        (rebuilt,) = adjoint_of(self.reconstruction, _first_view(forward), work)
        pulled, _ = adjoint_of(self.contrast, forward, work)
        assert rebuilt is not None
        assert pulled is not None
        # In place: the value is scratch of ``work`` and has every query, that of contrast is a fresh array with one.
        patches, value = forward.batch.layout.patches, rebuilt.value
        if rebuilt.weight is not None:
            value.mul_(rebuilt.weight[:, :, None])
        value.mul_(per_seed(self, lambda one: (1 - one.weight) / one._masked(patches), value))
        return Adjoint(value.add_(pulled.value * self._weight(value))), None

    def residual_scale(self, batch: PatchBatch) -> float | Float[Tensor, " seed"] | None:
        """Return (1 − λ)/m of masked reconstruction's; None where a part lacks its form."""
        parts = self._parts(batch)
        if parts is None:
            return None
        scale, _ = parts
        patches, column = batch.layout.patches, batch.latents[:, 0, 0]
        return per_seed(self, lambda one: scale * (1 - one.weight) / one._masked(patches), column)

    def pooled_adjoint(self, batch: PatchBatch) -> PooledAdjoint | None:
        """Return λ times that of contrast; None where a part lacks its form."""
        parts = self._parts(batch)
        if parts is None:
            return None
        _, pull = parts

        def weighted(means: Sequence[Tensor]) -> Sequence[Tensor | None]:
            value, _ = pull(means)
            assert value is not None
            return value * self._weight(value), None

        return weighted

    def _parts(self, batch: PatchBatch) -> tuple[Any, PooledAdjoint] | None:
        """Return how both parts do without attention in memory, None unless both do."""
        scale = residual_scale_of(self.reconstruction, batch)
        pull = pooled_adjoint_of(self.contrast, batch)
        return None if scale is None or pull is None else (scale, pull)

    def bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the mixture of the two bounds: no model attains both where 0 < λ < 1."""
        return self._mix(
            forward, bound_of(self.reconstruction, _first_view(forward)), bound_of(self.contrast, forward)
        )

    def counted_queries(self, forward: ForwardPass) -> Bool[Tensor, "seed sample query"]:
        """Masked patches of the first view: the queries that both terms train."""
        return self.reconstruction.counted_queries(_first_view(forward))

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 4 P K: both terms divide the gradient of one position by P, the draw of a cluster by K."""
        return self.contrast.default_learning_rate(layout)

    def _masked(self, patches: int) -> int:
        return masked_count(patches, self.mask_ratio)

    def _weight(self, like: Tensor) -> float | Tensor:
        return per_seed(self, lambda one: one.weight, like)

    def _mix(self, forward: ForwardPass, rebuilt: Tensor, pulled: Tensor) -> Float[Tensor, " seed"]:
        patches = forward.batch.layout.patches
        masked = per_seed(self, lambda one: one._masked(patches), rebuilt)
        return torch.lerp(rebuilt / masked, pulled, self._weight(rebuilt))


def _first_view(forward: ForwardPass) -> ForwardPass:
    """Return the same forward pass as an objective of one view sees it."""
    return replace(forward, views=forward.views[:1], attention=forward.attention[:1])
