"""Curvature of the objective along a run: numbers of its Hessian at each frame."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from vitdyn._errors import require_choice
from vitdyn.landscape import ConvergenceError, Hessian, Matrix, Operator, dense, top_eigenvalues, trace
from vitdyn.landscape.products import DENSE
from vitdyn.observables.convexity import finite_loss_surface
from vitdyn.observables.observable import Observable
from vitdyn.observables.state import ModelState


def hessian_of(state: ModelState) -> Operator | None:
    """Return the Hessian of the loss about a state of one seed, None where the state is not finite.

    ``state.shared(hessian_of)`` makes it once for all its numbers: in full where it is small.
    """
    surface = state.shared(finite_loss_surface)
    if surface is None:
        return None
    hessian = Hessian(surface)
    return Matrix(dense(hessian)) if hessian.dimension <= DENSE else hessian


_CURVATURE: dict[str, tuple[str, str, Callable[[Operator], float]]] = {
    "highest_eigenvalue": (
        "λ_max",
        "largest eigenvalue of the Hessian of the loss",
        lambda hessian: float(top_eigenvalues(hessian, 1).values[0]),
    ),
    "lowest_eigenvalue": (
        "λ_min",
        "lowest eigenvalue of the Hessian of the loss",
        lambda hessian: float(top_eigenvalues(hessian, 1, by="lowest").values[0]),
    ),
    "hessian_trace": (
        "tr H",
        "trace of the Hessian of the loss; an estimate above 512 parameters",
        lambda hessian: trace(hessian).value,
    ),
}
"""Symbol, meaning and formula of each number."""


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """A number of the loss about a state by its name; NaN where the loss is not finite or the number not found."""

    name: str

    def __post_init__(self) -> None:
        require_choice("Curvature.name", self.name, _CURVATURE)

    def __call__(self, state: ModelState) -> Tensor:
        """Return the number of a state of one seed."""
        hessian, found = state.shared(hessian_of), nan
        if hessian is not None:
            with suppress(ConvergenceError):
                found = _CURVATURE[self.name][2](hessian)
        return torch.tensor([found], dtype=torch.float64, device=state.loss.device)


CURVATURE: dict[str, Observable] = {
    name: Observable(
        name=name,
        compute=Curvature(name=name),
        symbol=symbol,
        meaning=meaning,
        may_be_missing=True,
    )
    for name, (symbol, meaning, _) in _CURVATURE.items()
}
"""Numbers of the loss about a state, on the evaluation batch of a frame."""
