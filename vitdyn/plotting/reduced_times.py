"""Figures of mean-field times: how they grow with the number of patches, and curves that fall together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.lines import Line2D

from vitdyn._errors import invalid_value
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style
from vitdyn.plotting.style import BLACK, BLUE, GREEN, ORANGE, PAGE_WIDTH, SHARE_MAP, VERMILLION

_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE)
_MARKERS = "osD^"


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """Times T against numbers of patches P with the exponent predicted for T ≍ P^exponent; NaN: no such time.

    Laws with the same ``panel`` (its title) are drawn together.
    """

    panel: str
    label: str
    patches: Float[np.ndarray, " size"]
    times: Float[np.ndarray, " size"]
    exponent: float

    def __post_init__(self) -> None:
        if len(self.patches) != len(self.times) or len(self.patches) < 2:
            raise invalid_value("times", len(self.times), "must be as many as patches, at least two")

    @property
    def slopes(self) -> Float[np.ndarray, " step"]:
        """Return the slope of log T over log P between neighbours."""
        return np.diff(np.log(self.times)) / np.diff(np.log(self.patches))


@drawn_in_style
def draw_exponents(laws: Sequence[PowerLaw]) -> Drawing:
    """Draw log10 T against log10 P, one panel for each title, and how the local slopes approach the prediction.

    Markers are times of flows. Lines have the predicted slope and start from the marker at the largest P, so
    that what is seen to leave them at small P is the approach to the limit.
    """
    titles = list(dict.fromkeys(law.panel for law in laws))
    rows = (len(titles) + 2) // 2
    drawing = Drawing.of_size(PAGE_WIDTH, 2.5 * rows)
    grid = drawing.figure.subplots(rows, 2, squeeze=False).ravel()
    *panels, last = drawing.panels(grid[: len(titles) + 1])
    for spare in grid[len(titles) + 1 :]:
        spare.axis("off")
    for index, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        for rank, law in enumerate(law for law in laws if law.panel == title):
            look: dict[str, Any] = {"color": _COLOURS[rank % 4], "marker": _MARKERS[index % 4]}
            _draw_law(panel, law, look)
            _draw_slopes(last, law, look)
        panel.title(title)
        panel.axes.set(xlabel=r"$\log_{10} P$", ylabel=r"$\log_{10} T$")
        panel.axes.legend(loc="upper left", borderpad=0.1, labelspacing=0.35, handletextpad=0.5)
    last.axes.axhline(0, color=BLACK, linewidth=0.7)
    last.title("approach to the predicted slopes")
    last.axes.set(xlabel=r"$\log_{10} P$", ylabel="local slope less prediction")
    marks = [
        Line2D([], [], color=BLACK, marker=_MARKERS[index % 4], markersize=3.5, linewidth=0.8, label=title)
        for index, title in enumerate(titles)
    ]
    last.axes.legend(handles=marks, loc="best", borderpad=0.1)
    return drawing


def _draw_law(panel: LetteredAxes, law: PowerLaw, look: dict[str, Any]) -> None:
    x, y = np.log10(law.patches), np.log10(law.times)
    found = np.flatnonzero(np.isfinite(y))
    panel.axes.plot(x, y, linestyle="", markersize=4, label=f"{law.label}, slope {law.exponent:.2f}", **look)
    panel.note_points(law.label, x, y)
    if len(found):
        line = y[found[-1]] + law.exponent * (x - x[found[-1]])
        panel.axes.plot(x, line, color=look["color"], linewidth=1)
        panel.note_points(f"predicted {law.label}", x, line)


def _draw_slopes(panel: LetteredAxes, law: PowerLaw, look: dict[str, Any]) -> None:
    x = np.log10(law.patches)
    middle, rest = (x[1:] + x[:-1]) / 2, law.slopes - law.exponent
    panel.axes.plot(middle, rest, markersize=3.5, linewidth=0.8, **look)
    panel.note_points(f"{law.panel}: {law.label}", middle, rest)


@dataclass(frozen=True, kw_only=True)
class CollapseRow:
    """One quantity over time at several P; time is to be divided by P^``exponent``.

    ``curves`` are (P, times, values); the first frame, t = 0, is not drawn.
    """

    title: str
    symbol: str
    exponent: float
    curves: Sequence[tuple[float, Float[np.ndarray, " frame"], Float[np.ndarray, " frame"]]]


@drawn_in_style
def draw_collapse(rows: Sequence[CollapseRow]) -> Drawing:
    """Draw each row twice: against the time t itself, and against t/P^exponent, where the curves fall together."""
    drawing = Drawing.of_size(PAGE_WIDTH, 0.45 + 1.75 * len(rows))
    grid = drawing.figure.subplots(len(rows), 2, squeeze=False, sharey="row")
    panels = drawing.panels(grid.flat)
    sizes = sorted({curve[0] for row in rows for curve in row.curves})
    shades = dict(zip(sizes, colormaps[SHARE_MAP](np.linspace(0, 0.92, len(sizes))), strict=True))
    for index, row in enumerate(rows):
        for side, panel in enumerate(panels[2 * index : 2 * index + 2]):
            _draw_rescaled(panel, row, row.exponent if side else 0.0, shades)
            panel.title(f"{row.title}: {'rescaled' if side else 'as it is'}")
            panel.axes.set_xlabel(rf"$t\,/\,P^{{{row.exponent:.2g}}}$" if side else r"time $t$")
        grid[index, 0].set_ylabel(row.symbol)
    entries = [
        Line2D([], [], color=shades[size], label=rf"$P = 10^{{{np.log10(size):.3g}}}$") for size in sizes
    ]
    drawing.figure.legend(handles=entries, loc="outside lower center", ncols=len(sizes))
    return drawing


def _draw_rescaled(
    panel: LetteredAxes, row: CollapseRow, exponent: float, shades: dict[float, np.ndarray]
) -> None:
    for size, times, values in row.curves:
        clock = times[1:] / size**exponent
        panel.axes.plot(clock, values[1:], color=shades[size])
        panel.note_points(f"P = {size:g}", clock, values[1:])
    # Earlier there is nothing to see: two decades before the first curve ends suffice.
    ends = [(times[1:] / size**exponent)[-1] for size, times, _ in row.curves]
    panel.axes.set_xscale("log")
    panel.axes.set_xlim(min(ends) * 1e-2, max(ends) * 2)
