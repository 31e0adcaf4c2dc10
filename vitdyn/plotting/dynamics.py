"""Correlations and area attention over time, for local and for global queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vitdyn.claims import Verdict
from vitdyn.observables import least_global_attention, least_own_area_attention
from vitdyn.plotting.curves import ATTENTION_PAIRS, PAIRS, attention_by_pair, by_pair, log_clock
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style, present
from vitdyn.plotting.style import BLACK, PAGE_WIDTH
from vitdyn.theory import Prediction
from vitdyn.trajectory import Trajectory

_QUERIES = (("local to own", "local to global", "local to other"), ("global to own", "global to other"))
_AIMS = {
    "local to own": "its own area",
    "local to global": "the global area",
    "local to other": "other local areas",
    "global to own": "the global area",
    "global to other": "local areas",
}
_LEAST: dict[str, Any] = {"color": BLACK, "linestyle": "", "marker": ".", "markersize": 2.6, "zorder": 4}
_LEAST_ATTENTION = {"own": least_own_area_attention, "global": least_global_attention}
_PHASES = ("fallen", "half risen")
_SIZES = {"o": 3.6, "D": 5.2, "s": 6.6}
_CLOCKS = {"step": "steps of descent", "time": r"time $t = \eta\,\cdot$ step"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the figure: a run with its title, the levels predicted for it (by pair) and its verdict."""

    title: str
    trajectory: Trajectory
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    verdict: Verdict | None = None


@drawn_in_style
def draw_dynamics(columns: Sequence[Column], *, target: str = "own", clock: str = "step") -> Drawing:
    """Draw one column for each run: correlations of a local query, of a global query, and area attention.

    Lines are medians over seeds, bands reach from the least to the largest seed. Shaded bars are the predicted
    levels. A dot marks where the attention that belongs to a curve passes 1/2. A diamond and a square mark
    where φ_1 of a local query has fallen below −1 and where its φ_a passes half its final value, if in this
    order. The small black dots are the position that attends least to its ``target`` area ("own" or "global"),
    the dotted line the margin of the verdict, the low end of its prediction.
    """
    drawing = Drawing.of_size(PAGE_WIDTH, 6.3)
    count = len(columns)
    grid = drawing.figure.subplots(3, count + 1, width_ratios=[1] * count + [0.72], squeeze=False)
    lettered = drawing.panels(grid[:, :-1].flat)
    for index, (axes, column) in enumerate(zip(grid.T[:-1], columns, strict=True)):
        panels = lettered[index::count]
        time = column.trajectory[clock].to_numpy().astype(float)
        for panel, words in zip(panels, ("local query", "global query", "attention"), strict=True):
            panel.title(f"{column.title}: {words}")
        for panel, pairs in zip(panels, _QUERIES, strict=False):
            _draw_correlations(panel, column, pairs, time)
        _draw_attention(panels[2], column, target, time)
        for each in axes:
            log_clock(each, time)
        axes[2].set_xlabel(_CLOCKS[clock])
    for row, label in zip(
        grid, (r"correlation $\Phi$", r"correlation $\Phi$", "area attention $A$"), strict=True
    ):
        row[0].set_ylabel(label)
        _share_limits(row[:-1])
    _draw_legends(grid[:, -1], drawing, columns, target)
    return drawing


def phase_marks(
    to_global: Float[np.ndarray, " frame"], to_own: Float[np.ndarray, " frame"]
) -> tuple[int, ...]:
    """Return the frames where φ_1 is first below −1 and where φ_a first passes half its final value.

    Empty unless the first comes before the second.
    """
    fallen, risen = np.flatnonzero(to_global < -1), np.flatnonzero(to_own > to_own[-1] / 2)
    if not fallen.size or not risen.size or fallen[0] >= risen[0]:
        return ()
    return int(fallen[0]), int(risen[0])


def _at_half(attention: np.ndarray, clock: np.ndarray, values: np.ndarray) -> tuple[float, float] | None:
    """Return the moment when attention rises through 1/2 and the value then, interpolated between two frames."""
    over = np.flatnonzero((attention[1:] >= 0.5) & (attention[:-1] < 0.5))
    if not over.size:
        return None
    ends = slice(over[0], over[0] + 2)
    moment, value = (float(np.interp(0.5, attention[ends], each[ends])) for each in (clock, values))
    return moment, value


def _draw_correlations(
    panel: LetteredAxes, column: Column, pairs: tuple[str, ...], clock: Float[np.ndarray, " frame"]
) -> None:
    medians = {}
    panel.axes.axhline(0, color=BLACK, linewidth=0.5)
    for pair in pairs:
        look = PAIRS[pair]
        if prediction := column.predictions.get(pair):
            _draw_level(panel, pair, prediction)
        series = by_pair(column.trajectory, "feature_position", pair)
        medians[pair] = panel.curve(pair, clock, series, color=look.colour, linestyle=look.dashes)
        attention = present(np.nanmedian, attention_by_pair(column.trajectory, pair), 1)
        if place := _at_half(attention, clock, medians[pair]):
            _mark(panel, f"half attention {pair}", place, "o", look.colour)
    if "local to own" not in medians:
        return
    marks = phase_marks(medians["local to global"], medians["local to own"])
    for frame, pair, name, marker in zip(
        marks, ("local to global", "local to own"), _PHASES, "Ds", strict=False
    ):
        place = clock[frame], medians[pair][frame]
        _mark(panel, f"{name} {pair}", place, marker, "white", edge=PAIRS[pair].colour)


def _draw_level(panel: LetteredAxes, pair: str, prediction: Prediction) -> None:
    """Draw a predicted interval as a bar, a predicted value as a wide line."""
    low, high, colour = prediction.low, prediction.high, PAIRS[pair].colour
    if low < high:
        panel.axes.axhspan(low, high, color=colour, alpha=0.22, linewidth=0)
    else:
        panel.axes.axhline(low, color=colour, alpha=0.5, linewidth=3)
    panel.note_level(f"predicted {pair}", low, high)


def _mark(
    panel: LetteredAxes, name: str, place: tuple[float, float], marker: str, colour: str, *, edge: str = ""
) -> None:
    look: dict[str, Any] = {"color": colour, "markeredgecolor": edge or colour, "markersize": _SIZES[marker]}
    panel.axes.plot(*place, marker=marker, linestyle="", zorder=6 if marker == "o" else 5, **look)
    panel.note_point(name, *place)


def _draw_attention(
    panel: LetteredAxes, column: Column, target: str, clock: Float[np.ndarray, " frame"]
) -> None:
    for pair in ATTENTION_PAIRS:
        values, look = attention_by_pair(column.trajectory, pair), PAIRS[pair]
        width = 2.4 if pair == "local to global" else 1.4  # a wide line is seen under the dashes of its twin
        panel.curve(pair, clock, values, color=look.colour, linestyle=look.dashes, linewidth=width)
    least = _LEAST_ATTENTION[target](column.trajectory).astype(float)
    panel.curve(f"least to {target}", clock, least, **_LEAST)
    if column.verdict:
        margin = column.verdict.predicted_low
        panel.axes.axhline(margin, color=BLACK, linestyle=":", linewidth=0.9)
        panel.note_level(f"margin of {column.verdict.claim}", margin, margin)
    panel.axes.set_ylim(-0.03, 1.03)


def _share_limits(panels: np.ndarray) -> None:
    # Columns are there to be compared: a row has one scale.
    limits = np.array([axes.get_ylim() for axes in panels])
    for axes in panels:
        axes.set_ylim(limits[:, 0].min(), limits[:, 1].max())


def _draw_legends(panels: np.ndarray, drawing: Drawing, columns: Sequence[Column], target: str) -> None:
    predicted = {pair: prediction for column in columns for pair, prediction in column.predictions.items()}
    for axes, pairs in zip(panels, _QUERIES, strict=False):
        entries: list[Artist] = [_line(pair, f"{PAIRS[pair].symbol}  to {_AIMS[pair]}") for pair in pairs]
        entries += [
            Patch(color=PAIRS[pair].colour, alpha=0.22, linewidth=0, label=f"predicted {PAIRS[pair].symbol}")
            for pair in pairs
            if pair in predicted
        ]
        entries.append(_marker("o", BLACK, BLACK, "attention passes 1/2"))
        # Marks are explained where one was drawn.
        if "local to own" in pairs and any(row[1].startswith("fallen") for row in drawing.rows):
            fallen, risen = PAIRS["local to global"].colour, PAIRS["local to own"].colour
            entries.append(_marker("D", "white", fallen, r"$\varphi_1$ falls below $-1$"))
            entries.append(_marker("s", "white", risen, r"$\varphi_a$ at half its end"))
        _legend(axes, entries)
    entries = [
        _line(pair, "global to global" if pair == "global to own" else pair) for pair in ATTENTION_PAIRS
    ]
    words = "its own" if target == "own" else "the global"
    entries.append(Line2D([], [], **_LEAST, label=f"least of all patches,\nto {words} area"))
    claims = {column.verdict.claim for column in columns if column.verdict}
    for claim in sorted(claims):
        entries.append(Line2D([], [], color=BLACK, linestyle=":", linewidth=0.9, label=f"margin of {claim}"))
    _legend(panels[2], entries)


def _line(pair: str, label: str) -> Line2D:
    return Line2D([], [], color=PAIRS[pair].colour, linestyle=PAIRS[pair].dashes, label=label)


def _marker(marker: str, face: str, edge: str, label: str) -> Line2D:
    look: dict[str, Any] = {"color": face, "markeredgecolor": edge, "markersize": _SIZES[marker]}
    return Line2D([], [], marker=marker, linestyle="", label=label, **look)


def _legend(axes: Axes, entries: Sequence[Artist]) -> None:
    axes.axis("off")
    axes.legend(
        handles=entries, loc="center left", bbox_to_anchor=(-0.08, 0.5), borderpad=0, labelspacing=0.55
    )
