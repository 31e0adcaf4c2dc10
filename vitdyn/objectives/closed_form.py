"""Closed forms of ∂L/∂A as values: a backend then need not differentiate a loss, nor store attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchBatch

Means = Sequence[Float[Tensor, "seed sample area"]]
"""Ā_j = (1/P) Σ_p A_{p→j} of each view."""


class ClosedForm:
    """The gradient of a loss with respect to area attention: a ``Residual``, a ``MeanPooled``, or a sum of such."""

    @property
    def terms(self) -> tuple[ClosedForm, ...]:
        """What is added up."""
        return (self,)

    def __add__(self, other: ClosedForm) -> ClosedForm:
        return Sum(self.terms + other.terms)


@dataclass(frozen=True)
class Residual(ClosedForm):
    """∂L/∂A_{p→j} = c z_j² (A_{p→j} − 1{j = a(p)}) at masked queries p of the first view; 0 at all others.

    c = ``scale`` is a number, or one for each seed.
    """

    scale: float | Float[Tensor, " seed"]


@dataclass(frozen=True)
class MeanPooled(ClosedForm):
    """∂L/∂Ā of a loss that depends on attention through its means over queries alone.

    ``gradient`` maps the means Ā of all views to ∂L/∂Ā of each, None for a view behind a stop-gradient.
    """

    gradient: Callable[[Means], Sequence[Float[Tensor, "seed sample area"] | None]]


@dataclass(frozen=True)
class Sum(ClosedForm):
    """A sum of closed forms."""

    parts: tuple[ClosedForm, ...]

    @property
    def terms(self) -> tuple[ClosedForm, ...]:
        """What is added up."""
        return self.parts


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """A loss as the reductions to order parameters know it, without its weight decay.

        L = (1 − λ) L_MAE + λ L_InfoNCE,   λ = ``contrast`` in [0, 1]

    L_MAE = ½ E Σ_{p masked} ‖F_p − X_p‖², or its mean over the masked patches with ``per_masked_patch``; L_InfoNCE at
    ``temperature`` τ. ``all_queries`` says whether records speak of all queries, or of the masked ones alone.
    """

    contrast: float
    temperature: float = 1.0
    per_masked_patch: bool = False
    all_queries: bool = False


def unless_signed(batch: PatchBatch, bound: Float[Tensor, " seed"]) -> Float[Tensor, " seed"]:
    """Return a lower bound that asks for latents of at least 0, and NaN for a seed that has others."""
    return bound.where((batch.latents >= 0).flatten(1).all(1), nan)
