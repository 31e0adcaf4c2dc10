"""Panels of several heads from a random start, and of trained values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from vitdyn._axes import AREA, CLUSTER, FRAME, GLOBAL_AREA, QUERY_AREA, SEED
from vitdyn.observables import (
    least_global_attention,
    least_own_area_attention,
    local_own_area_attention,
)
from vitdyn.plotting.questions import Panel, Series
from vitdyn.plotting.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILLION
from vitdyn.theory import head_difference_growth
from vitdyn.trajectory import Trajectory

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, BLACK)
_MARKERS = ("o", "s", "^", "D", "v", "P")
_STEP = "training step"


def curves(title: str, up: str, drawn: Mapping[str, Trajectory], name: str) -> Panel:
    """Return a recorded number of a seed over training, one line a run.

    "own" and "global" stand for the least attention that a position gives to its own area, or to the global one.
    """
    series = [
        Series(words=words, x=_steps(run), values=_read(run, name), colour=colour)
        for (words, run), colour in zip(drawn.items(), _COLOURS, strict=False)
    ]
    return Panel(title=title, across=_STEP, up=up, series=series, kind="curve", scale="clock")


def ends(
    title: str,
    across: str,
    drawn: Mapping[str, Mapping[float, Trajectory]],
    lines: Sequence[tuple[float, str]] = (),
) -> Panel:
    """Return what MAE gives to own areas at the end, and contrast to the global one, over what runs across.

    Words name the objective first, "MAE" or "CL".
    """
    series = [
        Series(
            words=words,
            x=np.array(list(runs)),
            values=np.stack([_read(run, "own" if "MAE" in words else "global")[-1] for run in runs.values()]),
            colour=colour,
            marker=marker,
        )
        for (words, runs), colour, marker in zip(drawn.items(), _COLOURS, _MARKERS, strict=False)
    ]
    up = "least attention, own or global"
    return Panel(
        title=title, across=across, up=up, series=series, scale="logarithmic", lines=lines,
        ticks=_ticks(series[0].x),
    )  # fmt: skip


def parting_panels(runs: Mapping[float, Trajectory]) -> list[Panel]:
    """Return how far two heads lie apart over training, and at their farthest, by σ/σ_part; in units of it."""
    apart = {part: run["head_gap"].to_numpy() / part for part, run in runs.items()}
    first = min(runs)
    shown = [
        Series(words=f"{part:g}", x=_steps(runs[part]), values=apart[part], colour=colour)
        for part, colour in zip(runs, _COLOURS, strict=False)
    ]
    attention = local_own_area_attention(runs[first])
    growth = head_difference_growth(attention, attention[:1]) * apart[first][:1]
    theory = Series(words="theory", x=_steps(runs[first]), values=growth, colour=BLACK, dashes=":")
    x = np.array(list(runs))
    farthest = Series(words="measured", x=x, values=np.stack([each.max(0) for each in apart.values()]))
    one = Series(words="leading order", x=x, values=np.ones((len(x), 1)), colour=BLACK, dashes=":")
    up = "δ/(σ/σ_part)"
    return [
        Panel(
            title="MAE: heads part and meet, by σ/σ_part", across=_STEP, up=up,
            series=[*shown, theory], kind="curve", scale="clock", limits=None,
        ),
        Panel(
            title="MAE: heads at their farthest", across="σ/σ_part", up=f"largest {up}",
            series=[farthest, one], scale="logarithmic", limits=(-0.03, 1.3), ticks=_ticks(x),
        ),
    ]  # fmt: skip


def pace_panel(runs: Mapping[str, Mapping[int, Trajectory]], half: float = 0.5) -> Panel:
    """Return the step at which equal heads give half of local queries' attention to own areas, over their number."""
    x = np.array(list(next(iter(runs.values()))), dtype=float)
    series = [
        Series(
            words=words,
            x=x,
            values=np.stack([_arrival(run, half) for run in by_number.values()]),
            colour=colour,
            marker=marker,
        )
        for (words, by_number), colour, marker in zip(runs.items(), _COLOURS, _MARKERS, strict=False)
    ]
    paced = series[0].values[:1].mean() * x[:, None]
    theory = Series(words="H times one head's", x=x, values=paced, colour=BLACK, dashes=":")
    return Panel(
        title="MAE: equal heads, one rate", across="heads H", up="step of A_own = 1/2",
        series=[*series, theory], scale="logarithmic", limits=None, ticks=_ticks(x),
    )  # fmt: skip


def values_panel(title: str, run: Trajectory, levels: Mapping[str, float] | float) -> Panel:
    """Return values, and attention to own areas (MAE) or to the global one (contrast), over training.

    ``levels`` are the values of uniform attention by area for MAE. For contrast it is the limit of w_1² A_1², and the
    dotted line is where it has w_1 at the attention that there is.
    """
    w = run["area_values"].transpose(FRAME, SEED, CLUSTER, AREA).to_numpy()
    shown = {"w, global": w[..., 0].mean(-1), "w, local": w[..., 1:].mean((-2, -1))}
    if isinstance(levels, Mapping):
        shown |= {"A_own, global": _own_of_global(run), "A_own, local": local_own_area_attention(run)}
        dotted = {f"w at rest, {area}": np.full((len(w), 1), levels[area]) for area in ("global", "local")}
    else:
        shown["A_global"] = least_global_attention(run)
        dotted = {"w where it stops": np.sqrt(levels) / shown["A_global"].mean(1, keepdims=True)}
    series = [
        Series(words=words, x=_steps(run), values=values, colour=colour)
        for (words, values), colour in zip(shown.items(), _COLOURS, strict=False)
    ]
    series += [
        Series(words=words, x=_steps(run), values=values, colour=colour, dashes=":", width=0.9)
        for (words, values), colour in zip(dotted.items(), (BLUE, VERMILLION), strict=False)
    ]
    return Panel(
        title=title, across=_STEP, up="value, attention", series=series, kind="curve", scale="clock", limits=None
    )  # fmt: skip


def _own_of_global(run: Trajectory) -> Float[np.ndarray, "frame seed"]:
    own = run["own_area_attention"].sel(statistic="mean").isel({QUERY_AREA: GLOBAL_AREA})
    return own.mean(CLUSTER).transpose(FRAME, SEED).to_numpy()


def _read(run: Trajectory, name: str) -> Float[np.ndarray, "frame seed"]:
    if name == "own":
        return least_own_area_attention(run)
    if name == "global":
        return least_global_attention(run)
    values = run[name].to_numpy()
    return values.reshape(values.shape[:2])


def _arrival(run: Trajectory, level: float) -> Float[np.ndarray, " seed"]:
    steps = _steps(run)
    return np.array(
        [np.interp(level, np.maximum.accumulate(each), steps) for each in local_own_area_attention(run).T]
    )


def _ticks(x: Float[np.ndarray, " point"]) -> list[tuple[float, str]]:
    return [(float(each), f"{each:g}") for each in x]


def _steps(run: Trajectory) -> Float[np.ndarray, " frame"]:
    return run["step"].to_numpy().astype(float)
