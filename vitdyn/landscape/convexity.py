"""How far a loss is convex about a point: over a section, and along a ray."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64

from vitdyn._errors import invalid_value, require_choice, require_integer, require_kind, require_real
from vitdyn.landscape.plane import Plane
from vitdyn.landscape.section import Section
from vitdyn.landscape.section_grid import AXES
from vitdyn.landscape.surface import Surface, Vector

EPSILON = 0.01
SOURCES = ("exact", "differences")
_PRECISION = 1e-6
"""To which part of its limit a distance is found."""


def convex_share(section: Section, *, epsilon: float = EPSILON, source: str | None = None) -> float:
    """Return the share of a section's area where its smaller curvature is at least −ε times the largest in size.

        λ_min ≥ −ε max(|λ_min|, |λ_max|),   λ the eigenvalues of ∂²L/∂a∂b in the section's coordinates

    ``source``: "exact" reads the derivatives that the section has; "differences" takes second differences of its
    values. By default they are exact where the section has them. Curvature that is lost in the round-off of the values
    counts as 0. A point of the grid stands for the area that is nearest to it, half of it at the border;
    differences leave out the border. A point of which a number is not finite counts as not convex.

    Raises ``ValueError`` for a section of one direction, and for one too small for differences.

    >>> import torch
    >>> along = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    >>> wells = vd.landscape.Surface(lambda at: at["w"].pow(4).sum() - at["w"].square().sum(), {"w": torch.zeros(2)})
    >>> found = vd.landscape.section(wells, along, torch.linspace(-1, 1, 11), derivatives=True)
    >>> round(vd.landscape.convex_share(found, epsilon=0), 2)  # on a fine grid (1 − 1/√6)² = 0.35
    0.25
    """
    require_kind("section", section, Section)
    require_real("epsilon", epsilon, low=0, high=1, open_high=True)
    if section["loss"].dims != AXES:
        raise invalid_value("section", section["loss"].dims, "must be of two directions")
    if source is None:
        source = "exact" if "curvature" in section.dataset else "differences"
    require_choice("source", source, SOURCES)
    grid = [section[axis].values for axis in AXES]
    widths, values = [_widths(each) for each in grid], section["loss"].values
    if source == "exact":
        # log has a curvature at −1 all the same
        hessian = np.where(np.isfinite(values)[..., None, None], section["curvature"].values, np.nan)
        distances = [each[-1] - each[0] for each in grid]
    else:
        with np.errstate(invalid="ignore"):  # what is not finite is looked at below
            hessian = _differences(values, grid)
        distances = [np.diff(each).min() for each in grid]
        widths = [each[1:-1] for each in widths]
    # what changes no value that is told from another by more than its round-off
    size = abs(values[np.isfinite(values)]).max(initial=0.0)
    flat = 8 * section.round_off * size * sum(each**-2 for each in distances)
    area = np.outer(*widths)
    return float((area * _is_convex(hessian, epsilon, flat)).sum() / area.sum())


class Distance(NamedTuple):
    """How far along a ray, as a multiple of its direction.

    Where nothing was found, ``value`` is the limit of the search, and ``at_least`` is true.
    """

    value: float
    at_least: bool


def convex_radius(
    surface: Surface, direction: Vector, *, epsilon: float = EPSILON, limit: float = 1.0, points: int = 32
) -> Distance:
    """Return the largest r up to which the curvature c(s) = dᵀ H(θ + s d) d stays convex.

        c(s) ≥ −ε max_{s' ≤ s} |c(s')|   for all 0 ≤ s ≤ r

    Curvature is exact. It is found at ``points`` equally spaced places up to ``limit``, and where it first fails by
    bisection, to a millionth of the limit: what fails only between two places is not seen. The radius is 0 where the
    curvature is negative at θ. A curvature that is not finite fails; one that up to the limit changes no value of the
    loss by more than its round-off counts as 0.

    >>> import torch
    >>> wells = vd.landscape.Surface(lambda at: at["w"].pow(4).sum() - at["w"].square().sum(), {"w": torch.ones(1)})
    >>> found = vd.landscape.convex_radius(wells, -torch.ones(1), epsilon=0)  # w = 1/√6
    >>> round(found.value, 4), found.at_least
    (0.5918, False)
    """
    require_real("epsilon", epsilon, low=0, high=1, open_high=True)
    ray, flat = _ray(surface, direction, limit, points)
    scale, below = abs(start := ray.curvature((0.0,))), 0.0
    if not start >= -flat:
        return Distance(0.0, False)
    for place in np.linspace(0, limit, points + 1)[1:]:
        # between two places the scale is that of the lower one
        found, least = ray.curvature((place,)), -max(epsilon * scale, flat)
        if not found >= least:
            return _bisected(ray, 1.0, least, (below, place), limit)
        scale, below = max(scale, abs(found)), place
    return Distance(float(limit), True)


def first_inflection(
    surface: Surface, direction: Vector, *, limit: float = 1.0, points: int = 32
) -> Distance:
    """Return the distance at which the curvature dᵀ H(θ + r d) d first changes its sign along a ray.

    The sign at θ is either; from where it is positive this is ``convex_radius`` with ε = 0. Search and errors are those
    of ``convex_radius``; what is less than the square root of the round-off, in units of the largest curvature met,
    has no sign.

    >>> import torch
    >>> wells = vd.landscape.Surface(lambda at: at["w"].pow(4).sum() - at["w"].square().sum(), {"w": torch.zeros(1)})
    >>> round(vd.landscape.first_inflection(wells, torch.ones(1)).value, 4)  # 1/√6
    0.4082
    """
    ray, flat = _ray(surface, direction, limit, points)
    round_off = torch.finfo(surface.point.dtype).eps ** 0.5
    places, found = np.linspace(0, limit, points + 1), np.array([ray.curvature((0.0,))])
    if np.isnan(found[0]):
        return Distance(0.0, False)
    for place in places[1:]:
        found = np.append(found, ray.curvature((place,)))
        told = np.flatnonzero(abs(found) > max(flat, round_off * np.nanmax(abs(found))))
        signs = np.sign(found[told])
        # without a sign so far, all that ends is that it is finite
        sign, least = (signs[0], 0.0) if len(told) else (1.0, -np.inf)
        if np.isnan(found[-1]):
            return _bisected(ray, sign, least, (places[len(found) - 2], place), limit)
        if (signs != sign).any():
            return _bisected(ray, sign, least, (places[told[signs == sign][-1]], place), limit)
    return Distance(float(limit), True)


def _ray(surface: Surface, direction: Vector, limit: float, points: int) -> tuple[Plane, float]:
    """Return the ray, and the curvature that counts as 0 on it."""
    require_real("limit", limit, low=0, high=np.inf, open_low=True)
    require_integer("points", points, at_least=1)
    ray = Plane.of(surface, [direction])
    return ray, 8 * torch.finfo(surface.point.dtype).eps * abs(surface.value()) / limit**2


def _bisected(ray: Plane, sign: float, least: float, between: tuple[float, float], limit: float) -> Distance:
    """Return the place between two from which the curvature, with a sign, is no longer at least so much."""
    below, above = between
    while above - below > _PRECISION * limit:
        middle = (below + above) / 2
        if sign * ray.curvature((middle,)) >= least:
            below = middle
        else:
            above = middle
    return Distance(float(below), False)


def _is_convex(
    hessian: Float64[np.ndarray, "*grid 2 2"], epsilon: float, flat: float
) -> Bool[np.ndarray, "*grid"]:
    finite = np.isfinite(hessian).all((-2, -1))
    values = np.linalg.eigvalsh(np.where(finite[..., None, None], hessian, 0.0))
    return finite & (values[..., 0] >= -np.maximum(epsilon * abs(values).max(-1), flat))


def _widths(along: Float64[np.ndarray, " point"]) -> Float64[np.ndarray, " point"]:
    """Return the length of the part of an axis that is nearest to each of its points."""
    gaps = np.diff(along) / 2
    return np.append(gaps, 0) + np.append(0, gaps)


def _differences(
    values: Float64[np.ndarray, "first second"], grid: list[np.ndarray]
) -> Float64[np.ndarray, "first second 2 2"]:
    """Return the second differences of a section's values at the points inside its border."""
    if min(values.shape) < 3:
        raise invalid_value(
            "section", values.shape, "must have three points along each direction, or derivatives"
        )
    first, second = (_second_differences(values, grid[0]), _second_differences(values.T, grid[1]).T)
    # of a quadratic both are exact on any grid
    mixed = values[2:, 2:] - values[2:, :-2] - values[:-2, 2:] + values[:-2, :-2]
    mixed = mixed / np.outer(grid[0][2:] - grid[0][:-2], grid[1][2:] - grid[1][:-2])
    found = np.stack([first[:, 1:-1], mixed, mixed, second[1:-1]], -1)
    return found.reshape(*mixed.shape, 2, 2)


def _second_differences(values: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return the second derivatives along the first axis of the parabolas through three neighbours each."""
    slopes = np.diff(values, axis=0) / np.diff(along)[:, None]
    return 2 * np.diff(slopes, axis=0) / (along[2:] - along[:-2])[:, None]
