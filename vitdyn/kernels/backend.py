"""What a backend must offer: the factored evaluation of area attention and its gradient, queries by position."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.kernels.parameters import Correlations
from vitdyn.kernels.workspace import Workspace


class Backend(Protocol):
    """One implementation of the equations in ``kernels/README.md``; a module that has these functions is one.

    Parameters are Φ and Υ without a graph. Results lie in the workspace and hold until its next use.
    """

    def name(self) -> str:
        """Return in words what computes; two machines with the same words and processor give the same bits."""
        ...

    def supports(self, layout: PatchLayout, dtype: torch.dtype) -> bool:
        """Return whether the backend takes this layout and type."""
        ...

    def forward(
        self, parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace
    ) -> tuple[Float[Tensor, "seed sample area query"], Any]:
        """Return area attention A and what ``backward`` needs."""
        ...

    def mean_pooled(
        self, parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace
    ) -> tuple[Float[Tensor, "seed sample area"], Any]:
        """Return Ā = (1/P) Σ_p A_p and what ``backward`` needs; with or without A in memory, as the plan says."""
        ...

    def backward(self, saved: Any, cotangent: Float[Tensor, "seed sample area #query"]) -> Correlations:
        """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``cotangent`` (one query stands for all); uses up what was saved."""
        ...

    def residual_gradient(
        self,
        parameters: Correlations,
        batch: PatchBatch,
        view: Tensor,
        scale: float | Float[Tensor, " seed"],
        workspace: Workspace,
    ) -> Correlations:
        """Return ∂L/∂(Φ, Υ) where ∂L/∂A_{p→j} = scale z_j² (A_{p→j} − 1{j = a(p)}) at masked queries p, else 0."""
        ...
