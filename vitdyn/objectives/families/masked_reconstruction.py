"""Masked reconstruction (MAE): the model fills in the patches that it does not see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.objectives.closed_form import Reduction, Residual
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.masked import MaskedPatches, unreachable


@dataclass(frozen=True, kw_only=True)
class MaskedReconstruction(MaskedPatches):
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
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio",)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        return 0.5 * (forward.squared_errors * ~forward.views[0]).sum((1, 2)) / forward.batch.count

    def closed_form(self, batch: PatchBatch) -> Residual:
        """Return the residual, averaged over the samples."""
        return Residual(1 / batch.count)

    def reduction(self) -> Reduction:
        """Return L itself."""
        return Reduction(contrast=0.0)

    def lower_bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the infimum of L on this batch: ½ z_j² for each patch of an area that is wholly masked.

        Such an area cannot be reconstructed; all else can, in the limit of diverging correlations.
        """
        return 0.5 * unreachable(forward, 2) / forward.batch.count

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 4 K: the loss sums over patches, the draw of a cluster divides the gradient by K."""
        return 4.0 * layout.clusters
