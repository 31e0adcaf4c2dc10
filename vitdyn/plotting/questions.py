"""Panels that answer a question with several runs: end points over a sweep, curves over training, portraits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from vitdyn._axes import CLUSTER, GLOBAL_AREA, SEED
from vitdyn._errors import invalid_value, require_choice
from vitdyn._tables import text_table
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.curves import log_clock
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style, present
from vitdyn.plotting.style import BLACK, BLUE, GREY, PAGE_WIDTH
from vitdyn.trajectory import Trajectory

SCALES = ("linear", "logarithmic", "clock")
KINDS = ("sweep", "curve", "portrait")
EVERY, LOCAL = slice(None), slice(GLOBAL_AREA + 1, None)
"""Which areas ``final_attention`` averages over: all, or the local ones."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a panel: ``values[i]`` are the values of the seeds at ``x[i]``.

    In a portrait ``x`` has the shape of ``values``: each seed has its own path.
    """

    words: str
    x: np.ndarray
    values: Float[np.ndarray, "point seed"]
    colour: str = BLUE
    marker: str = "o"
    dashes: Literal["-", "--", ":"] = "-"
    width: float = 1.4

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise invalid_value("values", self.values.shape, "must have the shape (points, seeds)")
        if self.x.shape not in (self.values.shape, self.values.shape[:1]):
            raise invalid_value(
                "x", self.x.shape, f"must have one number for each of {self.values.shape[:1]} points"
            )


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel: what runs across and up, its series, and named levels of x (dotted upright lines).

    ``kind`` "sweep" draws each seed as a dot and joins the means, "curve" draws the median over seeds with
    a band from the least to the largest, "portrait" draws the path of each seed. ``scale`` is that of x;
    "clock" is logarithmic with the start at its left end. ``ticks`` names places on the horizontal axis.
    """

    title: str
    across: str
    up: str
    series: Sequence[Series]
    kind: str = "sweep"
    scale: str = "linear"
    lines: Sequence[tuple[float, str]] = ()
    ticks: Sequence[tuple[float, str]] = ()
    limits: tuple[float, float] | None = field(default=(-0.03, 1.03))

    def __post_init__(self) -> None:
        require_choice("Panel.kind", self.kind, KINDS)
        require_choice("Panel.scale", self.scale, SCALES)
        if not self.series:
            raise invalid_value("Panel.series", self.series, "must hold at least one series")


@checked
def final_attention(
    trajectory: Trajectory, queries: int | slice = EVERY, key: int | None = None
) -> Float[np.ndarray, " case"]:
    """Return attention at the last frame, one value for each seed and cluster, averaged over areas of queries.

    ``key`` is the area attended to; None stands for each query's own area, over samples that show some of it.
    """
    name = "own_area_attention" if key is None else "area_attention"
    values = trajectory.final[name].sel(statistic="mean").transpose(SEED, CLUSTER, ...).to_numpy()
    chosen = values[:, :, queries] if key is None else values[:, :, queries, key]
    flat = chosen.reshape(chosen.shape[0] * chosen.shape[1], -1).astype(float)
    return present(np.nanmean, flat, 1)


@checked
def events_in_order(
    to_global: Float[np.ndarray, "frame seed"], to_own: Float[np.ndarray, "frame seed"]
) -> Float[np.ndarray, " seed"]:
    """Return, for each seed, which share of its whole fall φ_1 has done when φ_a is at a tenth of its end.

    The start counts as 0 and the lowest φ_1 of the run as the whole fall; φ_1 is interpolated between the two
    frames around φ_a's tenth. Near 1: phase I is over before phase II begins. NaN where φ_1 never falls or φ_a
    ends at 0 or below.
    """
    shares = np.full(to_own.shape[1], np.nan)
    for seed, (fall, rise) in enumerate(zip(to_global.T, to_own.T, strict=True)):
        level = rise[-1] / 10
        after = np.flatnonzero(rise > level)
        if level <= 0 or fall.min() >= 0 or not after.size or after[0] == 0:
            continue
        ends = slice(after[0] - 1, after[0] + 1)
        shares[seed] = np.interp(level, rise[ends], fall[ends]) / fall.min()
    return shares


@checked
def table_of_ends(panels: Sequence[Panel]) -> str:
    """Return a table for the terminal: each point of a sweep, the last point of a curve or portrait, over seeds."""
    rows = [
        (
            panel.title,
            each.words,
            float(np.mean(x)),
            *(float(of(row)) for of in (np.nanmean, np.nanmin, np.nanmax)),
        )
        for panel in panels
        for each in panel.series
        for x, row in list(zip(each.x, each.values, strict=True))[0 if panel.kind == "sweep" else -1 :]
        if np.isfinite(row).any()
    ]
    return text_table(("panel", "series", "x", "mean", "least", "most"), rows)


@drawn_in_style
def draw_panels(panels: Sequence[Panel], *, row_height: float = 2.6) -> Drawing:
    """Draw the panels two in a row, each with its legend below it."""
    rows = -(-len(panels) // 2)
    drawing = Drawing.of_size(PAGE_WIDTH, row_height * rows)
    grid = drawing.figure.subplots(rows, 2, squeeze=False).ravel()
    for place, panel in zip(drawing.panels(grid), panels, strict=False):
        place.title(panel.title)
        _draw_panel(place, panel)
    for axes in grid[len(panels) :]:
        axes.axis("off")
    return drawing


def _draw_panel(place: LetteredAxes, panel: Panel) -> None:
    axes = place.axes
    if panel.scale == "logarithmic":
        axes.set_xscale("log")
    for x, words in panel.lines:
        axes.axvline(x, color=GREY, linestyle=":", linewidth=0.9, zorder=0)
        axes.annotate(
            words, (x, 0.72), xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=6.5, color=GREY,
        )  # fmt: skip
        # A level of x has a place and no value.
        place.note_point(words, x, float("nan"))
    draw = {"sweep": _draw_sweep, "curve": _draw_band, "portrait": _draw_portrait}[panel.kind]
    for series in panel.series:
        draw(place, series)
    if panel.scale == "clock":
        log_clock(axes, np.unique(np.concatenate([series.x.ravel() for series in panel.series])))
    if panel.kind == "portrait":
        axes.axhline(0, color=BLACK, linewidth=0.5, zorder=0)
        axes.axvline(0, color=BLACK, linewidth=0.5, zorder=0)
        axes.locator_params(nbins=6)
    if panel.ticks:
        axes.set_xticks([x for x, _ in panel.ticks], [words for _, words in panel.ticks])
        axes.minorticks_off()
    if panel.limits:
        axes.set_ylim(*panel.limits)
    axes.set_xlabel(panel.across)
    axes.set_ylabel(panel.up)
    # Few words fit on one line below the panel.
    short = sum(len(series.words) for series in panel.series) < 40
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=len(panel.series) if short else 2,
        columnspacing=1.2, borderpad=0, borderaxespad=0, handletextpad=0.5,
    )  # fmt: skip


def _draw_sweep(place: LetteredAxes, series: Series) -> None:
    """Draw every seed as a faint dot and the mean over seeds as a line."""
    mean, low, high = (
        present(statistic, series.values, 1) for statistic in (np.nanmean, np.nanmin, np.nanmax)
    )
    repeated = np.repeat(series.x, series.values.shape[1])
    marker: dict[str, Any] = {"marker": series.marker, "markersize": 3.4}
    faint: dict[str, Any] = {"linestyle": "", "alpha": 0.35, "color": series.colour, "clip_on": False}
    faint["markeredgewidth"] = 0
    place.axes.plot(repeated, series.values.ravel(), **marker, **faint)
    place.axes.plot(series.x, mean, **marker, **_look(series), label=series.words)
    place.note_curve(f"mean of {series.words}", series.x, mean, low, high)
    place.note_points(series.words, repeated.astype(float), series.values.ravel())


def _draw_band(place: LetteredAxes, series: Series) -> None:
    place.curve(series.words, series.x, series.values, **_look(series), label=series.words)


def _draw_portrait(place: LetteredAxes, series: Series) -> None:
    """Draw one thin path for each seed, with a dot where it ends."""
    look = {**_look(series), "linewidth": 0.9}
    for seed in range(series.values.shape[1]):
        x, value = series.x[:, seed], series.values[:, seed]
        place.axes.plot(x, value, alpha=0.8, **look, label=series.words if seed == 0 else None)
        place.axes.plot(x[-1:], value[-1:], marker=series.marker, markersize=3.6, color=series.colour)
        place.note_points(f"{series.words}, seed {seed}", x.astype(float), value)


def _look(series: Series) -> dict[str, Any]:
    return {"color": series.colour, "linestyle": series.dashes, "linewidth": series.width}
