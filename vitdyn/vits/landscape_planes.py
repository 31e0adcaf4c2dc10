"""The loss at the end of a training in two planes, and the path of the training projected on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitdyn._axes import FRAME, SEED
from vitdyn.landscape import Surface, Vector, principal_directions, projected, section
from vitdyn.vits.landscape import PLANES, Landscape
from vitdyn.vits.landscape_numbers import random_directions

PLANE, AXIS, FIRST, SECOND = "plane", "plane_axis", "first", "second"

PLANE_VARIABLES = {
    "section_loss": ((FIRST, SECOND), "loss about the end, in a plane"),
    "section_coordinate": ((AXIS, FIRST), "coordinates of the section along its two directions"),
    "path_coordinate": (
        (FRAME, AXIS),
        "point of the plane that is nearest to the weights: its loss is not theirs",
    ),
    "path_distance": ((FRAME,), "distance of the weights from the plane"),
    "projected_loss": ((FRAME,), "loss at the point of the plane that is nearest to the weights"),
}
"""Axes behind the plane, and meaning."""

_MARGIN = 0.25
"""How far a principal plane reaches beyond the path, as a share of the path's longer side."""


def draw_plane(spec: Landscape, surface: Surface, path: Sequence[Vector], plane: str) -> dict[str, Tensor]:
    """Return the loss about the end in a plane, and where the path passes over it.

    ``path`` is θ at each frame, the last of which is the surface's point. Coordinates of the random plane are multiples
    of its directions, those of the principal one lengths in the space of weights.
    """
    if plane == "random":
        axes = torch.stack(random_directions(spec, surface, 2))
    else:
        axes = principal_directions(path, 2).directions
    places = projected(path, surface, list(axes))
    if plane == "random":
        low, high = -spec.half_width * torch.ones(2), spec.half_width * torch.ones(2)
    else:
        low, high = torch.aminmax(places.cpu(), dim=0)
        margin = _MARGIN * (high - low).max()
        low, high = low - margin, high + margin
    coordinates = np.linspace(low.numpy(), high.numpy(), spec.final_points, axis=1)
    apart, below = torch.stack(list(path)) - surface.point, places @ axes
    return {
        "section_loss": torch.from_numpy(section(surface, list(axes), coordinates)["loss"].values),
        "section_coordinate": torch.from_numpy(coordinates).double(),
        "path_coordinate": places.double(),
        "path_distance": torch.linalg.vector_norm(apart - below, dim=1).double(),
        "projected_loss": torch.tensor([surface.value(each) for each in below], dtype=torch.float64),
    }


def is_plane(spec: Landscape, drawn: Any) -> bool:
    """Return whether values have the names and shapes of a plane's."""
    sizes = {FRAME: len(spec.steps), AXIS: 2, FIRST: spec.final_points, SECOND: spec.final_points}
    shapes = {name: tuple(sizes[axis] for axis in axes) for name, (axes, _) in PLANE_VARIABLES.items()}
    return isinstance(drawn, dict) and {name: tuple(each.shape) for name, each in drawn.items()} == shapes


def plane_variables(planes: Sequence[dict[str, Tensor]]) -> dict[str, Any]:
    """Return what was drawn as labelled variables; none where nothing was asked for."""
    if not planes:
        return {}
    made: dict[str, Any] = {PLANE: (PLANE, list(PLANES))}
    for name, (axes, meaning) in PLANE_VARIABLES.items():
        # (seed, plane, ...), and a frame before all others
        values, behind = np.stack([each[name].numpy() for each in planes])[None], (SEED, PLANE, *axes)
        if FRAME in axes:
            values, behind = np.moveaxis(values, 2, 0), (FRAME, SEED, PLANE, *axes[1:])
        made[name] = (behind, values, {"long_name": meaning})
    return made
