"""Masked reconstruction (MAE): the model fills in the patches that it does not see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import require_real
from vitdyn.attention import Workspace
from vitdyn.data import PatchBatch, PatchLayout, draw_visible, masked_count
from vitdyn.objectives.objective import Adjoint, ForwardPass, Objective
from vitdyn.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class MaskedReconstruction(Objective):
    """Masked reconstruction: squared error of the model's output at the patches that it does not see.

        L = ½ E Σ_{p masked} ‖F_p − X_p‖²,   the mask uniform among subsets of γP patches

    In the orthonormal basis of features F_p − X_p has the coordinates z_j (A_{p→j} − 1{j = a(p)}), so

        L = ½ E Σ_{p masked} Σ_j z_j² (A_{p→j} − 1{j = a(p)})²,   ∂L/∂A_{p→j} = z_j² (A_{p→j} − 1{j = a(p)}).

    The sum over patches is not divided by their number; γ = ``mask_ratio``. Source: Huang et al. (2025), the
    form of the loss; gradients in the notes, ``gradients.md``.

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> vd.MaskedReconstruction(mask_ratio=0.75).default_learning_rate(layout)
    4.0
    """

    name: ClassVar[str] = "mae"
    family: ClassVar[str] = "generative"
    varies: ClassVar[tuple[str, ...]] = ("mask_ratio",)
    drawn_by: ClassVar[tuple[str, ...]] = ("mask_ratio",)

    mask_ratio: float = field(default=0.5, metadata={"help": "γ, the share of patches that are masked."})

    def __post_init__(self) -> None:
        require_real("mask_ratio", self.mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)

    def check(self, layout: PatchLayout, samples: int) -> None:
        """Raise ``ValueError`` where the ratio masks no patch or every patch."""
        masked_count(layout.patches, self.mask_ratio)

    def draw_views(
        self, generator: np.random.Generator | Streams, samples: int, patches: int
    ) -> tuple[Bool[np.ndarray, "*seed sample patch"], ...]:
        """Draw one masked view; of ``Streams`` for all seeds at once."""
        return (draw_visible(generator, samples, patches, masked_count(patches, self.mask_ratio)),)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        residual = forward.attention[0] - forward.batch.membership
        errors = (residual.square() * forward.batch.latents.square()[..., None]).sum(2)
        return 0.5 * (errors * ~forward.views[0]).sum((1, 2)) / forward.batch.count

    def adjoint(self, forward: ForwardPass, work: Workspace) -> tuple[Adjoint | None, ...]:
        """Return z_j² (A_{p→j} − 1{j = a(p)}), weighted by 1{p masked} over the number of samples."""
        (attention,), batch = forward.attention, forward.batch
        value = work.take("adjoint", attention, *attention.shape)
        torch.sub(attention, batch.membership, out=value)
        value.mul_((batch.latents.square() / batch.count)[..., None])
        hidden = work.take("hidden", attention, *forward.views[0].shape)
        torch.logical_not(forward.views[0], out=hidden)
        return (Adjoint(value, hidden),)

    def residual_scale(self, batch: PatchBatch) -> float:
        """Return 1 over the number of samples."""
        return 1 / batch.count

    def bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the infimum of L on this batch: ½ z_j² for each patch of an area that is wholly masked.

        Such an area cannot be reconstructed; all else can, in the limit of diverging correlations.
        """
        batch = forward.batch
        lost = (batch.shown_count(forward.views[0]) == 0) * batch.membership.sum(-1) * batch.latents.square()
        return 0.5 * lost.sum((1, 2)) / batch.count

    def counted_queries(self, forward: ForwardPass) -> Bool[Tensor, "seed sample query"]:
        """Masked patches: no other query enters the loss."""
        return ~forward.views[0]

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 4 K: the loss sums over patches, the draw of a cluster divides the gradient by K."""
        return 4.0 * layout.clusters
