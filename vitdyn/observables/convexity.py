"""How convex and how sharp the loss of a model is along a run."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._axes import SEED
from vitdyn._errors import require_choice, require_kind
from vitdyn.landscape import Surface
from vitdyn.landscape.neighbourhood import DISTANCES, NUMBERS, Neighbourhood
from vitdyn.observables.loss_surface import loss_surface
from vitdyn.observables.observable import Observable
from vitdyn.observables.state import ModelState

_USUAL = Neighbourhood()


@dataclass(frozen=True, kw_only=True)
class Convexity:
    """A number of ``vitdyn.landscape.Neighbourhood`` by its name: what an ``Observable`` computes.

    The loss is that of the run's evaluation batch and masks, in double precision; a seed draws its own directions. NaN
    at Q = 0, whose filters have no length, and for a model that is not finite.
    """

    name: str
    measured: Neighbourhood = _USUAL

    def __post_init__(self) -> None:
        require_choice("Convexity.name", self.name, NUMBERS)
        require_kind("Convexity.measured", self.measured, Neighbourhood)

    def __call__(self, state: ModelState) -> Float[Tensor, "seed ..."]:
        """Return the number of a state of one seed."""
        surface = state.shared(finite_loss_surface)
        if surface is None:
            found: Any = nan if self.name not in DISTANCES else [nan] * len(self.measured.along)
        else:
            found = self.measured.measure(self.name, surface, state.batch.seeds[0])
        return torch.tensor([found], dtype=torch.float64, device=state.loss.device)


def finite_loss_surface(state: ModelState) -> Surface | None:
    """Return the loss of a state of one seed about its parameters, None where they or it are not finite."""
    parts = (*state.parameters.named().values(), state.loss)
    return loss_surface(state) if all(part.isfinite().all() for part in parts) else None


def convexity_observables(measured: Neighbourhood = _USUAL) -> tuple[Observable, ...]:
    """Return the numbers of a neighbourhood as observables.

    Those of ``DISTANCES`` have the axis ``direction``. A frame costs some hundreds of gradients for each seed.

    >>> from vitdyn.observables.convexity import convexity_observables
    >>> [each.name for each in convexity_observables()]
    ['convex_share', 'convex_radius', 'first_inflection', 'sharpness']
    """
    return tuple(
        Observable(
            name=name,
            compute=Convexity(name=name, measured=measured),
            axes=(SEED, "direction") if name in DISTANCES else (SEED,),
            coordinates={"direction": measured.along} if name in DISTANCES else {},
            symbol=symbol,
            meaning=meaning,
            may_be_missing=True,
        )
        for name, (symbol, meaning) in NUMBERS.items()
    )
