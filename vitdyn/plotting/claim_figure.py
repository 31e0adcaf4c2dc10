"""One claim's measured intervals against what it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from vitdyn.claims import INCONCLUSIVE, REFUTED, SUPPORTED, Verdict
from vitdyn.plotting.drawing import Drawing, drawn_in_style
from vitdyn.plotting.style import BLACK, GREY, PAGE_WIDTH, SKY

STATUS_COLOURS = {SUPPORTED: "#00694D", REFUTED: "#B04A00", INCONCLUSIVE: "#5E5E5E"}
"""Green, vermillion and grey, dark enough for small white type on them and for small type on white."""

_MARKERS = {SUPPORTED: "o", REFUTED: "X", INCONCLUSIVE: "D"}
_WIDE = 100.0
"""From this ratio of the largest number to the least of a case on, the axis is logarithmic."""


@drawn_in_style
def draw_verdicts(verdicts: Sequence[Verdict]) -> Drawing:
    """Draw one line for each case and control of a claim: the measured interval, over the predicted one, shaded.

    An interval that has no end runs to the edge of the panel. The axis is logarithmic where all numbers are
    positive and the largest is a hundred times the least of a case. The verdicts are those of one claim.
    """
    drawing = Drawing.of_size(PAGE_WIDTH, 0.85 + 0.27 * len(verdicts))
    drawing.figure.set_layout_engine("constrained", w_pad=0.15)  # room for the words beside the panel
    (panel,) = drawing.panels([drawing.figure.add_subplot()])
    axes = panel.axes
    edges = _scale(axes, verdicts)
    for row, verdict in enumerate(verdicts):
        _draw_prediction(axes, verdict, row, edges)
        _draw_measured(axes, verdict, row, edges)
        panel.note_level(f"{verdict.case}: predicted", verdict.predicted_low, verdict.predicted_high)
        measured = (np.array([number]) for number in (verdict.measured, verdict.low, verdict.high))
        panel.note_curve(verdict.case, [row], *measured)
    cases = sum(not verdict.is_control for verdict in verdicts)
    if 0 < cases < len(verdicts):
        axes.axhline(cases - 0.5, color=GREY, linewidth=0.7, clip_on=False)
    names = [fill(_plain(f"control: {each.case}" if each.is_control else each.case), 36) for each in verdicts]
    axes.set_yticks(range(len(verdicts)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(verdicts) - 0.5, -0.5)
    axes.set_xlabel(_plain(verdicts[0].symbol) if verdicts else "")
    shade = Patch(facecolor=SKY, alpha=0.25, linewidth=0, label="predicted")
    axes.legend(handles=[shade], loc="lower left", bbox_to_anchor=(0, 1), borderpad=0.2)
    return drawing


def _scale(axes: Axes, verdicts: Sequence[Verdict]) -> tuple[float, float]:
    """Set the horizontal axis so that all finite numbers are well inside it; return its ends."""
    found = _finite(verdicts)
    least, most = (min(found), max(found)) if found else (0.0, 1.0)
    if least > 0 and _differ_widely(verdicts):
        axes.set_xscale("log")
        # Room on both sides: no marker stands on the frame.
        room = (most / least) ** 0.08
        edges = least / room, most * room
    else:
        room = 0.08 * (most - least) or 0.1 * abs(most) or 1.0
        edges = least - room, most + room
    axes.set_xlim(*edges)
    return edges


def _differ_widely(verdicts: Sequence[Verdict]) -> bool:
    """Return whether a linear axis would hide the cases; that a control lies far below them is no reason."""
    cases = _finite([each for each in verdicts if not each.is_control])
    return bool(cases) and max(_finite(verdicts)) >= _WIDE * min(cases)


def _finite(verdicts: Sequence[Verdict]) -> list[float]:
    return [
        number
        for each in verdicts
        for number in (each.measured, each.low, each.high, each.predicted_low, each.predicted_high)
        if isfinite(number)
    ]


def _draw_prediction(axes: Axes, verdict: Verdict, row: int, edges: tuple[float, float]) -> None:
    low, high = max(verdict.predicted_low, edges[0]), min(verdict.predicted_high, edges[1])
    # An end that the prediction leaves open is shaded to the panel's edge and gets no line.
    if low < high:
        axes.fill_betweenx([row - 0.5, row + 0.5], low, high, color=SKY, alpha=0.25, linewidth=0, zorder=0)
    for end in (verdict.predicted_low, verdict.predicted_high):
        if isfinite(end):
            axes.plot([end, end], [row - 0.5, row + 0.5], color=BLACK, linewidth=0.9, linestyle=":", zorder=1)


def _draw_measured(axes: Axes, verdict: Verdict, row: int, edges: tuple[float, float]) -> None:
    colour = STATUS_COLOURS[verdict.status]
    words = verdict.status.lower()
    if verdict.is_control:
        words += ", as it must be" if verdict.status == REFUTED else ":\nmust be refuted"
    # A control that is not refuted takes the claim's support away: it must not be overlooked.
    unsound = verdict.is_control and verdict.status != REFUTED
    axes.annotate(
        words, (1, row), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
        color=BLACK if unsound else colour, weight="bold" if unsound else "normal", va="center", fontsize=7.5,
        annotation_clip=False,
    )  # fmt: skip
    if not isfinite(verdict.measured):
        centred: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "center", "va": "center"}
        axes.text(0.5, row, "no number", color=colour, **centred)
        return
    # An interval that has no end is cut at the panel's, where an arrow says so.
    ends = [max(verdict.low, edges[0]), min(verdict.high, edges[1])]
    bar: dict[str, Any] = {"color": colour, "linewidth": 1.6, "solid_capstyle": "butt", "zorder": 3}
    axes.plot(ends, [row, row], **bar)
    for end, open_end, arrow in zip(ends, (verdict.low == -inf, verdict.high == inf), "<>", strict=True):
        marker = arrow if open_end else "|"
        axes.plot([end], [row], color=colour, marker=marker, markersize=6, zorder=3, clip_on=False)
    axes.plot([verdict.measured], [row], color=colour, marker=_MARKERS[verdict.status], markersize=5.5,
              markeredgecolor="white", markeredgewidth=0.6, zorder=4)  # fmt: skip


def _plain(symbol: str) -> str:
    """Keep a symbol from being read as mathematics."""
    return symbol.replace("$", r"\$")
