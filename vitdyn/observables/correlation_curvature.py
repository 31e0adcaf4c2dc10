"""Curvature of the loss along the correlations of one kind of query, all queries of the kind moved at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitdyn._axes import GLOBAL_AREA
from vitdyn.data import PatchLayout
from vitdyn.landscape import Hessian
from vitdyn.models.model import CLOSED_FORMS
from vitdyn.observables.loss_surface import loss_surface
from vitdyn.observables.observable import Observable
from vitdyn.observables.state import ModelState
from vitdyn.seeds import stream

DIRECTIONS = {
    "own_area": "local queries' correlation with their own areas",
    "global_area": "local queries' correlation with the global area",
    "global_query": "global queries' correlation with the global area",
    "own_keys": "differences between position correlations of local queries with keys of their own areas",
    "global_keys": "differences between position correlations of local queries with keys of the global area",
    "other_keys": "differences between position correlations of local queries with keys of another local area",
}


@dataclass(frozen=True)
class AlongCorrelation:
    """vᵀ H v along a unit direction v in which all queries of one kind move alike; what is stopped is frozen.

    Of ``kind`` own_area, global_area and global_query v raises Φ, in all clusters; of the others it is a random
    direction of Υ, the same in all runs, that sums to 0 over the keys of each area of the first cluster. Where a loss
    is a sum over queries this is the mean of second derivatives over the queries of the kind.
    """

    kind: str

    def __call__(self, state: ModelState) -> Tensor:
        """Return the curvature of the one seed of a state, on its batch."""
        # one graph for all directions that are recorded of a state
        hessian, layout = state.shared(_hessian), state.batch.layout
        surface = hessian.surface
        made = {name: torch.zeros_like(each) for name, each in surface.parameters.items()}
        if self.kind.endswith("keys"):
            made["position_position"] += torch.from_numpy(self._differences(layout)).to(surface.point)
        else:
            made["feature_position"][self._raised(layout)] = 1
        direction = surface.vector(made)
        direction = direction / direction.norm()
        return (direction @ (hessian @ direction))[None]

    def _raised(self, layout: PatchLayout) -> tuple[np.ndarray, ...]:
        """Return (query, cluster, area) of each correlation that is raised."""
        area = layout.area_of_patch
        is_global = area == GLOBAL_AREA
        cluster, query = np.nonzero(is_global if self.kind == "global_query" else ~is_global)
        own = area[cluster, query]
        return query, cluster, own if self.kind == "own_area" else np.full_like(own, GLOBAL_AREA)

    def _differences(self, layout: PatchLayout) -> np.ndarray:
        """Return normal numbers (query, key) that sum to 0 over the keys of an area; 0 for keys of other kinds."""
        area = layout.area_of_patch[0]
        same, is_global = area[:, None] == area, area == GLOBAL_AREA
        keys = {"own_keys": same, "global_keys": is_global[None], "other_keys": ~same & ~is_global}[self.kind]
        # a masked query is no key of its own kind
        allowed = keys & ~is_global[:, None] & ~np.eye(len(area), dtype=bool)
        drawn = stream(0, "user").standard_normal(allowed.shape) * allowed
        member = (area == np.arange(layout.areas)[:, None]).astype(float)
        counts = np.maximum(allowed @ member.T, 1)
        return (drawn - (drawn @ member.T / counts) @ member) * allowed


def _hessian(state: ModelState) -> Hessian:
    return Hessian(loss_surface(state))


CORRELATION_CURVATURES = tuple(
    Observable(
        name=f"{kind}_curvature",
        compute=AlongCorrelation(kind),
        symbol="∂²L/∂Υ²" if kind.endswith("keys") else "∂²L/∂φ²",
        meaning=f"curvature of the loss along {words}",
        needs=CLOSED_FORMS,
    )
    for kind, words in DIRECTIONS.items()
)
"""What ``vitdyn.theory.start_curvatures`` speaks of, measured."""
