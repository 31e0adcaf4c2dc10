"""SimMIM: masked patches are reconstructed in the L1 distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn.losses import simmim
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.masked import MaskedPatches, masked_patches, unreachable


@dataclass(frozen=True, kw_only=True)
class SimMIM(MaskedPatches):
    """SimMIM: absolute error of the model's output at the patches that it does not see.

        L = mean over masked p of ‖F_p − X_p‖_1

    In the basis of features, latents being non-negative, this is linear in attention:

        ‖F_p − X_p‖_1 = z_a (1 − A_{p→a}) + Σ_{j≠a} z_j A_{p→j},   a = a(p)

    so errors pull as hard when they are small as when they are large. The L1 distance depends on the basis, here that
    of features; the source's is that of pixels. γ = ``mask_ratio``. Source: Xie et al. (2022), ``losses.simmim``
    without its ε, times the number of dimensions.
    """

    name: ClassVar[str] = "simmim"
    family: ClassVar[str] = "generative"

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L."""
        outputs = forward.outputs()
        error = simmim(outputs, forward.patches(), ~forward.views[0], channels=1, epsilon=0.0)
        return error * outputs.shape[-1]

    def lower_bound(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the infimum of L on this batch: z_a for each patch of an area that is wholly masked."""
        return unreachable(forward, 1) / masked_patches(forward)
