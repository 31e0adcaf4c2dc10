"""What a curve shows: one quantity of a trajectory for a kind of query and a kind of key."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes

from vitdyn._axes import GLOBAL_AREA, STATISTIC
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.drawing import LetteredAxes, present
from vitdyn.plotting.style import BLUE, GREEN, GREY, PURPLE, VERMILLION
from vitdyn.trajectory import Trajectory


class Pair(NamedTuple):
    """A kind of query and of key, with the look of its curve and the name of its correlation."""

    words: str
    symbol: str
    colour: str
    dashes: Literal["-", "--", ":"]


PAIRS = {
    "local to own": Pair("local query to its own area", r"$\varphi_a$", BLUE, "-"),
    "local to global": Pair("local query to the global area", r"$\varphi_1$", VERMILLION, "-"),
    "local to other": Pair("local query to another local area", r"$\varphi_o$", GREY, ":"),
    "global to own": Pair("global query to the global area", r"$\varphi_1$", GREEN, "--"),
    "global to other": Pair("global query to a local area", r"$\varphi_o$", PURPLE, ":"),
}
"""Kinds of curves. A global query's own area is the global one."""

ATTENTION_PAIRS = ("local to own", "local to global", "global to own")
"""Kinds of which attention is drawn."""


@checked
def by_pair(trajectory: Trajectory, name: str, pair: str) -> Float[np.ndarray, "frame seed"]:
    """Return an observable of (query area, key area), averaged over clusters and over the areas of the kind."""
    values = trajectory[name]
    if STATISTIC in values.dims:
        values = values.sel(statistic="mean")
    array = values.to_numpy().astype(np.float64)
    return _mean(array[..., _wanted(pair, array.shape[-1])])


@checked
def attention_by_pair(trajectory: Trajectory, pair: str) -> Float[np.ndarray, "frame seed"]:
    """Return area attention by kind; to a query's own area over samples that show some of it."""
    if not pair.endswith("own"):
        return by_pair(trajectory, "area_attention", pair)
    # Not off area_attention: samples that mask the whole area would count against the query.
    own = trajectory["own_area_attention"].sel(statistic="mean").to_numpy().astype(np.float64)
    return _mean(own[..., GLOBAL_AREA + 1 :] if pair.startswith("local") else own[..., [GLOBAL_AREA]])


def draw_correlations(
    panel: LetteredAxes, trajectory: Trajectory, clock: Float[np.ndarray, " frame"]
) -> None:
    """Draw Φ of all kinds of pairs."""
    for pair, look in PAIRS.items():
        values = by_pair(trajectory, "feature_position", pair)
        panel.curve(pair, clock, values, color=look.colour, linestyle=look.dashes)


def draw_attention(panel: LetteredAxes, trajectory: Trajectory, clock: Float[np.ndarray, " frame"]) -> None:
    """Draw area attention of the kinds of ``ATTENTION_PAIRS``."""
    for pair in ATTENTION_PAIRS:
        look, values = PAIRS[pair], attention_by_pair(trajectory, pair)
        panel.curve(pair, clock, values, color=look.colour, linestyle=look.dashes)
    panel.axes.set_ylim(-0.03, 1.03)


_MOST_POWERS = 8


def log_clock(axes: Axes, clock: Float[np.ndarray, " frame"]) -> None:
    """Scale the horizontal axis logarithmically with the start, 0, at its left end."""
    later = clock[clock > 0]
    if later.size == 0:
        return
    first, last = float(later.min()), float(later.max())
    # Linear up to the first frame after the start, so that 0 has a place on it.
    axes.set_xscale("symlog", linthresh=first, linscale=0.35)
    powers = 10.0 ** np.arange(np.ceil(np.log10(first) - 1e-9), np.floor(np.log10(last) + 1e-9) + 1)
    if len(powers) > _MOST_POWERS:  # the first would stand on the 0
        powers = powers[1 :: 1 + (len(powers) - 1) // _MOST_POWERS]
    axes.set_xticks([0.0, *powers], ["0", *(_power(power) for power in powers)])
    axes.set_xlim(0, last)


def _power(value: float) -> str:
    return f"{value:g}" if 0.01 <= value <= 1000 else rf"$10^{{{round(np.log10(value))}}}$"


def _wanted(pair: str, areas: int) -> Bool[np.ndarray, "query_area key_area"]:
    query, key = np.indices((areas, areas))
    local = query != GLOBAL_AREA
    chosen = {
        "local to own": local & (query == key),
        "local to global": local & (key == GLOBAL_AREA),
        "local to other": local & (key != GLOBAL_AREA) & (query != key),
        "global to own": ~local & (key == GLOBAL_AREA),
        "global to other": ~local & (key != GLOBAL_AREA),
    }
    return chosen[pair]


def _mean(values: Float[np.ndarray, "frame seed cluster case"]) -> Float[np.ndarray, "frame seed"]:
    return present(np.nanmean, values.reshape(*values.shape[:2], -1), -1)
