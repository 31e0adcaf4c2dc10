"""Figures of the mean field: paths of order parameters, and what is learned over exponents and mixtures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from vitdyn._errors import invalid_value
from vitdyn.experiments import Experiment
from vitdyn.experiments.experiment import Runner
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.curves import attention_by_pair, by_pair
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style
from vitdyn.plotting.reduced_times import CollapseRow, PowerLaw, draw_collapse, draw_exponents
from vitdyn.plotting.style import BLACK, BLUE, GREY, PAGE_WIDTH, SHARE_MAP, VERMILLION
from vitdyn.reduced import StalledFlowError
from vitdyn.theory import Prediction
from vitdyn.trajectory import Trajectory

__all__ = [
    "CollapseRow",
    "Map",
    "PortraitPath",
    "PowerLaw",
    "draw_collapse",
    "draw_exponents",
    "draw_mixture",
    "draw_phase_diagram",
    "draw_portrait",
    "followed",
    "half_crossing",
    "read_curves",
    "read_maps",
]

THRESHOLD = "λ*"
"""How what is noted of a curve's threshold begins."""


def followed(runner: Runner, experiment: Experiment) -> Trajectory | None:
    """Return the trajectory of a flow, or None where it stalls."""
    try:
        return runner(experiment)
    except StalledFlowError:
        return None


@dataclass(frozen=True, kw_only=True)
class PortraitPath:
    """A flow with its information gap Δ, log P, and the predicted level of φ_1 where the own area takes over."""

    gap: float
    log_patches: float
    trajectory: Trajectory
    corner: Prediction


@drawn_in_style
def draw_portrait(paths: Sequence[PortraitPath]) -> Drawing:
    """Draw φ_1/log P against φ_a/log P of a local query, one line for each Δ.

    Bars to the left of 0 are the predicted corners for z between L and U: −(Δ/2)/z at γ = 1/2, which the legend
    says; another mask ratio moves them by −log(2(1 − γ))/(2z log P). A dot marks where
    the own area has half of the attention, interpolated between frames.
    """
    drawing = Drawing.of_size(PAGE_WIDTH, 3.6)
    (panel,) = drawing.panels([drawing.figure.subplots()])
    axes = panel.axes
    shades = colormaps[SHARE_MAP](np.linspace(0, 0.92, len(paths)))
    for index, (path, shade) in enumerate(zip(paths, shades, strict=True)):
        series = f"Δ = {path.gap:+.2f}".replace("-", "\N{MINUS SIGN}")
        own, center = (
            by_pair(path.trajectory, "feature_position", pair)[:, 0] / path.log_patches
            for pair in ("local to own", "local to global")
        )
        axes.plot(own, center, color=shade, linewidth=1.8)
        lift = 5 if path.gap < 0 else 0  # flows with Δ < 0 end next to that of Δ = 0
        axes.annotate(
            series, (own[-1], center[-1]), xytext=(5, lift), textcoords="offset points", va="center"
        )
        panel.note_points(series, own, center)
        low, high = path.corner.low / path.log_patches, path.corner.high / path.log_patches
        if low < high:
            axes.plot(
                [-0.02 - 0.012 * index] * 2, [low, high], color=shade, linewidth=4, solid_capstyle="butt"
            )
            panel.note_level(f"predicted corner, {series}", low, high)
        attention = attention_by_pair(path.trajectory, "local to own")[:, 0]
        if attention.max() >= 0.5:
            # Attention may fall again later: only the frames up to its first 1/2 are interpolated.
            until = int(np.argmax(attention >= 0.5)) + 1
            half = [float(np.interp(0.5, attention[:until], values[:until])) for values in (own, center)]
            axes.plot(*half, "o", color=shade, markeredgecolor=BLACK, markersize=5)
            panel.note_point(f"half attention, {series}", *half)
    axes.axhline(0, color=GREY, linewidth=0.5, zorder=0)
    axes.axvline(0, color=GREY, linewidth=0.5, zorder=0)
    axes.set_xlabel(r"correlation with the own area, $\varphi_a\,/\,\log P$")
    axes.set_ylabel(r"with the global area, $\varphi_1\,/\,\log P$")
    _portrait_legend(axes)
    return drawing


def _portrait_legend(axes: Axes) -> None:
    ticks = [tick for tick in axes.get_xticks() if tick >= 0]
    axes.set_xticks(ticks)  # what is left of 0 is no value
    handles = [
        Line2D(
            [], [], color=GREY, marker="o", markeredgecolor=BLACK, linestyle="", label="own attention 1/2"
        ),
        Line2D([], [], color=GREY, linewidth=4, label=r"predicted corner, $-(\Delta/2)/z$ at $\gamma = 1/2$"),
    ]
    axes.set_xlim(right=axes.get_xlim()[1] + 0.06)
    axes.legend(handles=handles, loc="lower right")


@dataclass(frozen=True, kw_only=True)
class Map:
    """A picture over two parameters: ``values`` (row: y, column: x), NaN where there is no value.

    ``share`` values run from 0 to 1; others are shown over their own range.
    """

    title: str
    x: Float[np.ndarray, " column"]
    y: Float[np.ndarray, " row"]
    values: Float[np.ndarray, "row column"]
    share: bool = True

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.y), len(self.x)):
            raise invalid_value(
                "values", self.values.shape, "must have a row for each y and a column for each x"
            )


@drawn_in_style
def draw_phase_diagram(maps: Sequence[Map]) -> Drawing:
    """Draw maps over κ_c (x) and κ_s (y) side by side, with the line Δ = 0; crosses mark flows that stalled."""
    drawing = Drawing.of_size(PAGE_WIDTH, 2.75)
    panels = drawing.figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for panel, each in zip(drawing.panels(panels), maps, strict=True):
        axes = panel.axes
        _draw_map(panel, each)
        edge = 2 * each.x - 1  # κ_s at which Δ = (1 − κ_s) − 2(1 − κ_c) is 0
        axes.plot(each.x, edge, color="white", linewidth=2.6)
        axes.plot(each.x, edge, color=VERMILLION, linestyle="--", label=r"$\Delta = 0$")
        axes.set(ylim=_edges(each.y)[[0, -1]])
        axes.set_xlabel(r"$\kappa_c$, global area")
    panels[0].set_ylabel(r"$\kappa_s$, local areas")
    panels[0].legend(loc="upper left", facecolor="white", frameon=True, framealpha=0.9, edgecolor="none")
    return drawing


@drawn_in_style
def draw_mixture(
    final: Map, curves: Mapping[str, tuple[Float[np.ndarray, " weight"], Float[np.ndarray, " weight"]]]
) -> Drawing:
    """Draw final own-area attention over (λ, κ_c), and against λ for each named curve, with its λ*.

    λ* is where a curve first falls below 1/2, interpolated; its number stands in the legend.
    """
    drawing = Drawing.of_size(PAGE_WIDTH, 3.3)
    left, lines = drawing.panels(drawing.figure.subplots(1, 2))
    right = lines.axes
    _draw_map(left, final)
    left.axes.set(xlabel=r"$\lambda$, weight of contrast", ylabel=r"$\kappa_c$, global area")
    shades = [*colormaps[SHARE_MAP](np.linspace(0, 0.85, max(len(curves) - 1, 1))), VERMILLION]
    for shade, (name, (weights, values)) in zip(shades, curves.items(), strict=False):
        threshold = half_crossing(weights, values)
        label = rf"{name}: $\lambda^* = {threshold:.2f}$"
        right.plot(weights, values, color=shade, marker=".", markersize=4, label=label)
        lines.note_points(name, weights, values)
        lines.note_point(f"{THRESHOLD}, {name}", threshold, 0.5)
    right.axhline(0.5, color=GREY, linewidth=0.5, zorder=0)
    right.set(
        xlabel=r"$\lambda$, weight of contrast", ylabel="own-area attention at the end", ylim=(-0.03, 1.03)
    )
    drawing.figure.legend(loc="outside lower center", ncols=2)
    lines.title("local queries, by size")
    return drawing


@checked
def half_crossing(weights: Float[np.ndarray, " weight"], values: Float[np.ndarray, " weight"]) -> float:
    """Return the weight at which values first fall below 1/2, interpolated linearly; NaN if they do not."""
    below = np.flatnonzero((values[1:] < 0.5) & (values[:-1] >= 0.5))
    if not below.size:
        return float("nan")
    pair = slice(below[0], below[0] + 2)
    return float(np.interp(0.5, values[pair][::-1], weights[pair][::-1]))


@checked
def read_maps(path: Path, panels: str) -> list[Float[np.ndarray, "row column"]]:
    """Return the pictures of some panels from a saved table of drawn numbers, empty cells as NaN.

    Raises ``ValueError`` where there is no such table.
    """
    rows, found = _read_rows(path, panels), []
    for panel in panels:
        cells = {(int(row["y"]), int(row["x"])): row["value"] for row in rows if row["panel"] == panel}
        values = np.full(np.max(list(cells), axis=0) + 1, np.nan)
        for place, value in cells.items():
            values[place] = float(value or "nan")
        found.append(values)
    return found


@checked
def read_curves(
    path: Path, panel: str
) -> dict[str, tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]]:
    """Return the curves of a panel, x and values by name, from a saved table of drawn numbers; not its thresholds.

    Raises ``ValueError`` where there is no such table.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for row in _read_rows(path, panel):
        if row["series"].startswith(THRESHOLD):
            continue
        found.setdefault(row["series"], []).append((float(row["x"]), float(row["value"])))
    return {name: tuple(np.array(points).T) for name, points in found.items()}


def _read_rows(path: Path, panels: str) -> list[dict[str, str]]:
    if not path.is_file():
        raise invalid_value("redraw", str(path), "no such result: run without --redraw first")
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["panel"] in panels]


def _draw_map(panel: LetteredAxes, each: Map) -> None:
    axes = panel.axes
    limits: dict[str, Any] = {"vmin": 0, "vmax": 1} if each.share else {}
    picture = axes.pcolormesh(
        _edges(each.x), _edges(each.y), each.values, cmap=SHARE_MAP, rasterized=True, **limits
    )
    rows, columns = np.nonzero(np.isnan(each.values))
    axes.plot(each.x[columns], each.y[rows], "x", color=BLUE, markersize=3)
    bar = axes.figure.colorbar(picture, ax=axes, fraction=0.08, pad=0.02)
    # A flat colour is hard to read off a scale: its number stands beside it.
    if each.share and np.nanmax(each.values) - np.nanmin(each.values) < 0.01:
        words = f"{np.nanmean(each.values):.2f} everywhere"
        axes.text(0.97, 0.04, words, transform=axes.transAxes, ha="right")
    bar.outline.set_linewidth(0.5)
    panel.note_grid(each.title, each.values)
    panel.title(each.title)


def _edges(centres: np.ndarray) -> np.ndarray:
    """Return the borders of cells around evenly spaced centres."""
    half = (centres[1] - centres[0]) / 2
    return np.concatenate([centres - half, centres[-1:] + half])
