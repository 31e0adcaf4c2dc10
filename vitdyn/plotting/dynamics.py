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
from vitdyn.plotting.curves import (
    PAIRS,
    attention_by_pair,
    by_pair,
    draw_curve,
    log_clock,
    present,
)
from vitdyn.plotting.drawing import Drawing, drawn_in_style
from vitdyn.plotting.style import BLACK, PAGE_WIDTH, panel_title
from vitdyn.theory import Prediction
from vitdyn.trajectory import Trajectory

_QUERIES = (("local to own", "local to global", "local to other"), ("global to own", "global to other"))
_ATTENTION = ("local to own", "local to global", "global to own")
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
    grid = drawing.figure.subplots(
        3, len(columns) + 1, width_ratios=[1] * len(columns) + [0.72], squeeze=False
    )
    for index, column in enumerate(columns):
        time = column.trajectory[clock].to_numpy().astype(float)
        for row, pairs in enumerate(_QUERIES):
            panel = chr(ord("a") + row * len(columns) + index)
            _draw_correlations(grid[row, index], drawing, panel, column, pairs, time)
            words = (f"{column.title}: local query", f"{column.title}: global query")[row]
            panel_title(grid[row, index], panel, words)
        panel = chr(ord("a") + 2 * len(columns) + index)
        _draw_attention(grid[2, index], drawing, panel, column, target, time)
        panel_title(grid[2, index], panel, f"{column.title}: attention")
        for axes in grid[:, index]:
            log_clock(axes, time)
        grid[2, index].set_xlabel(_CLOCKS[clock])
    for row, label in enumerate((r"correlation $\Phi$", r"correlation $\Phi$", "area attention $A$")):
        grid[row, 0].set_ylabel(label)
        _share_limits(grid[row, :-1])
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
    return float(np.interp(0.5, attention[ends], clock[ends])), float(
        np.interp(0.5, attention[ends], values[ends])
    )


def _draw_correlations(
    axes: Axes,
    drawing: Drawing,
    panel: str,
    column: Column,
    pairs: tuple[str, ...],
    clock: Float[np.ndarray, " frame"],
) -> None:
    medians = {}
    axes.axhline(0, color=BLACK, linewidth=0.5)
    for pair in pairs:
        look = PAIRS[pair]
        prediction = column.predictions.get(pair)
        if prediction and prediction.low < prediction.high:
            axes.axhspan(prediction.low, prediction.high, color=look.colour, alpha=0.22, linewidth=0)
        elif prediction:
            axes.axhline(prediction.low, color=look.colour, alpha=0.5, linewidth=3)
        if prediction:
            drawing.note_level(panel, f"predicted {pair}", prediction.low, prediction.high)
        series = by_pair(column.trajectory, "feature_position", pair)
        medians[pair] = draw_curve(
            axes, drawing, panel, pair, clock, series, color=look.colour, linestyle=look.dashes
        )
        attention = present(np.nanmedian, attention_by_pair(column.trajectory, pair), 1)
        place = _at_half(attention, clock, medians[pair])
        if place:
            _mark(axes, drawing, panel, f"half attention {pair}", *place, look.colour, "o")
    if "local to own" not in medians:
        return
    marks = phase_marks(medians["local to global"], medians["local to own"])
    for frame, pair, name, marker in zip(
        marks, ("local to global", "local to own"), _PHASES, "Ds", strict=False
    ):
        place = clock[frame], medians[pair][frame]
        _mark(axes, drawing, panel, f"{name} {pair}", *place, "white", marker, edge=PAIRS[pair].colour)


def _mark(
    axes: Axes,
    drawing: Drawing,
    panel: str,
    name: str,
    x: float,
    y: float,
    colour: str,
    marker: str,
    *,
    edge: str = "",
) -> None:
    look: dict[str, Any] = {
        "color": colour,
        "markeredgecolor": edge or colour,
        "markersize": _SIZES[marker],
        "linestyle": "",
    }
    axes.plot(x, y, marker=marker, zorder=6 if marker == "o" else 5, **look)
    drawing.note_point(panel, name, x, y)


def _draw_attention(
    axes: Axes, drawing: Drawing, panel: str, column: Column, target: str, clock: Float[np.ndarray, " frame"]
) -> None:
    for pair in _ATTENTION:
        values, look = attention_by_pair(column.trajectory, pair), PAIRS[pair]
        width = 2.4 if pair == "local to global" else 1.4  # a wide line is seen under the dashes of its twin
        draw_curve(
            axes,
            drawing,
            panel,
            pair,
            clock,
            values,
            color=look.colour,
            linestyle=look.dashes,
            linewidth=width,
        )
    draw_curve(
        axes,
        drawing,
        panel,
        f"least to {target}",
        clock,
        _LEAST_ATTENTION[target](column.trajectory).astype(float),
        **_LEAST,
    )
    if column.verdict:
        margin = column.verdict.predicted_low
        axes.axhline(margin, color=BLACK, linestyle=":", linewidth=0.9)
        drawing.note_level(panel, f"margin of {column.verdict.claim}", margin, margin)
    axes.set_ylim(-0.03, 1.03)


def _share_limits(panels: np.ndarray) -> None:
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
        if "local to own" in pairs and any(row[1].startswith("fallen") for row in drawing.rows):
            entries.append(
                _marker("D", "white", PAIRS["local to global"].colour, r"$\varphi_1$ falls below $-1$")
            )
            entries.append(
                _marker("s", "white", PAIRS["local to own"].colour, r"$\varphi_a$ at half its end")
            )
        _legend(axes, entries)
    entries = [_line(pair, "global to global" if pair == "global to own" else pair) for pair in _ATTENTION]
    words = "its own" if target == "own" else "the global"
    entries.append(Line2D([], [], **_LEAST, label=f"least of all patches,\nto {words} area"))
    claims = {column.verdict.claim for column in columns if column.verdict}
    for claim in sorted(claims):
        entries.append(Line2D([], [], color=BLACK, linestyle=":", linewidth=0.9, label=f"margin of {claim}"))
    _legend(panels[2], entries)


def _line(pair: str, label: str) -> Line2D:
    return Line2D([], [], color=PAIRS[pair].colour, linestyle=PAIRS[pair].dashes, label=label)


def _marker(marker: str, face: str, edge: str, label: str) -> Line2D:
    size = _SIZES[marker]
    return Line2D(
        [], [], marker=marker, color=face, markeredgecolor=edge, markersize=size, linestyle="", label=label
    )


def _legend(axes: Axes, entries: Sequence[Artist]) -> None:
    axes.axis("off")
    axes.legend(
        handles=entries, loc="center left", bbox_to_anchor=(-0.08, 0.5), borderpad=0, labelspacing=0.55
    )
