"""What a loss does along lines through a point, by its values alone: how wide it is there, and how far convex."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from vitdyn._errors import invalid_value, require_real
from vitdyn.landscape.section import section
from vitdyn.landscape.surface import Surface, Vector

Lines = Float64[np.ndarray, "line place"]


def line_losses(surface: Surface, directions: Sequence[Vector], half_width: float, points: int) -> Lines:
    """Return L(θ + t d) for each direction d, at so many places t from −``half_width`` to ``half_width``.

    ``points`` is odd, so that θ is one of the places.
    """
    if points % 2 == 0:
        raise invalid_value("points", points, "must be odd: the middle one is the point itself")
    places = np.linspace(-half_width, half_width, points)
    return np.stack([section(surface, [each], places)["loss"].values for each in directions])


def line_width(lines: Float[np.ndarray, "line place"], half_width: float, rise: float) -> float:
    """Return the distance at which the loss, in the mean over all lines and both ways, has risen by ``rise``.

    Linear between places; ``half_width`` where it has not risen as far, NaN where it is NaN before. Of normalised
    directions the distance is relative to the length of each filter; with a ``rise`` that is a share of what a training
    gained, it does not depend on the loss's unit or zero either.

    >>> import numpy as np
    >>> vd.landscape.line_width(np.linspace(-1, 1, 21)[None] ** 2, 1.0, rise=0.25)
    0.5
    """
    require_real("rise", rise, low=0, high=np.inf, open_low=True)
    places, up = _outward(lines, half_width)
    mean = up.mean((0, 1))
    above = np.flatnonzero(~(mean < rise))
    if not len(above):
        return float(half_width)
    last = above[0] + 1
    return float(np.interp(rise, mean[above[0] - 1 : last], places[above[0] - 1 : last]))


def convex_reach(lines: Float[np.ndarray, "line place"], half_width: float) -> float:
    """Return the distance up to which second differences are not negative, in the mean over all lines and both ways.

    A line counts by its last place before the first that has a negative one, or a value that is not finite;
    ``half_width`` where none has. What is lost in the values' round-off is not negative. By values alone it costs a
    thirtieth of ``convex_radius``, which finds the place by exact curvature.

    >>> import numpy as np
    >>> t = np.linspace(-1, 1, 41)
    >>> round(vd.landscape.convex_reach((-np.exp(-2 * t**2))[None], 1.0), 2)  # exactly 1/2
    0.5
    """
    places = _outward(lines, half_width)[0]
    middle = lines.shape[1] // 2
    with np.errstate(invalid="ignore"):
        bends = np.diff(lines, 2, axis=1)  # of the places but for both ends: θ is at middle − 1
    flat = 8 * np.finfo(lines.dtype).eps * np.where(np.isfinite(lines), abs(lines), 0).max(1)[:, None]
    ways = np.stack([bends[:, middle - 1 :], bends[:, middle - 1 :: -1]])
    bad = np.concatenate([~((ways >= -flat) & (ways < np.inf)), np.ones_like(ways[..., :1], dtype=bool)], -1)
    # one place before the first bad one; at θ itself there is none
    return float(places[np.maximum(bad.argmax(-1) - 1, 0) + (bad.argmax(-1) == ways.shape[-1])].mean())


def _outward(
    lines: Float[np.ndarray, "line place"], half_width: float
) -> tuple[Float64[np.ndarray, " step"], Float64[np.ndarray, "way line step"]]:
    """Return distances from θ and the rise of the loss over that at θ, each way."""
    middle = lines.shape[1] // 2
    rises = lines - lines[:, middle : middle + 1]
    return np.linspace(0, half_width, middle + 1), np.stack([rises[:, middle:], rises[:, middle::-1]])
