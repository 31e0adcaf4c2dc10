"""Which regime each objective ends in: tiles by objective and by what is varied, one stripe a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from vitdyn.observables.learned import LearnedRegime
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style
from vitdyn.plotting.style import BLACK, BLUE, GREEN, PALE, PURPLE, SKY, VERMILLION, YELLOW

REGIME_COLOURS = {
    "local": BLUE,
    "global": VERMILLION,
    "spread": YELLOW,
    "other": PURPLE,
    "mixed": GREEN,
    "collapsed": BLACK,
    "unmoved": PALE,
}
ON_DARK = ("local", "global", "mixed", "collapsed")
"""Colours on which a letter is white. Letters tell regimes apart where colours cannot."""
_ROW, _AROUND = 0.165, 3.2
"""Inches of a row, and rows that title and labels of a panel take."""
_WIDTHS, _RATIOS = (4.4, 6.8, 9.8), (1.25, 1, 1)
"""Inches of a figure with so many stacks of panels beside the map, and how they share them."""
_HATCH = "//////"


@dataclass(frozen=True, kw_only=True)
class RegimeGrid:
    """Regimes of the seeds of each run, by row and column; ``groups`` names runs of rows that belong together."""

    title: str
    across: str
    columns: Sequence[str]
    rows: Sequence[str]
    cells: Mapping[tuple[str, str], tuple[LearnedRegime, ...]]
    groups: Mapping[str, Sequence[str]] = ()  # type: ignore[assignment]


@dataclass(frozen=True)
class _Tile:
    """Where a tile is drawn, and with what."""

    axes: Axes
    column: int
    row: int

    def draw(self, regimes: Sequence[LearnedRegime]) -> None:
        ordered = sorted(regimes, key=lambda each: (list(REGIME_COLOURS).index(each.kind), not each.is_final))
        width = 0.92 / len(ordered)
        for stripe, each in enumerate(ordered):
            place = self.column - 0.46 + stripe * width, self.row - 0.44
            look: dict[str, Any] = {"facecolor": REGIME_COLOURS[each.kind], "linewidth": 0}
            if not each.is_final:
                look |= {"hatch": _HATCH, "edgecolor": "white"}
            self.axes.add_patch(Rectangle(place, width, 0.88, **look))
        self._write(ordered)

    def _write(self, ordered: Sequence[LearnedRegime]) -> None:
        """Write the letter of each regime that there is in the middle of its stripes."""
        counts = Counter(each.kind for each in ordered)
        left = -0.46
        for kind, count in counts.items():
            width = 0.92 * count / len(ordered)
            colour = "white" if kind in ON_DARK else "black"
            middle = self.column + left + width / 2
            words: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 5.5, "fontweight": "bold"}
            # over the hatches
            words["bbox"] = {"facecolor": REGIME_COLOURS[kind], "linewidth": 0, "pad": 0.6}
            self.axes.text(middle, self.row + 0.04, kind[0].upper(), color=colour, **words)
            left += width


def _draw_grid(panel: LetteredAxes, grid: RegimeGrid) -> None:
    axes = panel.axes
    for row, name in enumerate(grid.rows):
        for column, value in enumerate(grid.columns):
            if regimes := grid.cells.get((name, value), ()):
                _Tile(axes, column, row).draw(regimes)
                counts = Counter(map(str, regimes))
                for regime, count in counts.items():
                    panel.note_point(f"{name}, {value}: {regime}", column, count / len(regimes))
    axes.set(xlim=(-0.5, len(grid.columns) - 0.5), ylim=(len(grid.rows) - 0.5, -0.5))
    axes.set_xticks(np.arange(len(grid.columns)), grid.columns)
    axes.set_yticks(np.arange(len(grid.rows)), grid.rows)
    axes.tick_params(length=0, labelsize=6.5)
    axes.set_xlabel(grid.across, fontsize=7)
    for spine in axes.spines.values():
        spine.set_visible(False)
    panel.title(grid.title)


def _name_groups(axes: Axes, grid: RegimeGrid) -> None:
    """Draw a line above each group of rows, and write its name at the right."""
    for name, members in grid.groups.items():
        places = [grid.rows.index(member) for member in members]
        if min(places):
            axes.axhline(min(places) - 0.5, color="white", linewidth=2.2)
            axes.axhline(min(places) - 0.5, color=BLACK, linewidth=0.5)
        where = len(grid.columns) - 0.42, (min(places) + max(places)) / 2
        axes.text(*where, name.replace("-", "-\n"), ha="left", va="center", fontsize=6.5)


@drawn_in_style
def draw_regimes(grids: Sequence[RegimeGrid]) -> Drawing:
    """Draw the first grid, the map of all objectives, at the left, and the others in two stacks beside it.

    A tile has a stripe for each seed; it is hatched where the seed still moves. The letter is the regime's first.
    """
    whole, *parts = grids
    half = -(-len(parts) // 2)
    stacks = [part for part in (parts[:half], parts[half:]) if part]
    rows = max(sum(len(part.rows) + _AROUND for part in stack) for stack in ([whole], *stacks))
    drawing = Drawing.of_size(_WIDTHS[len(stacks)], _ROW * rows + 0.5)
    figures = np.atleast_1d(
        np.asarray(drawing.figure.subfigures(1, 1 + len(stacks), width_ratios=_RATIOS[: 1 + len(stacks)]))
    )
    panel = LetteredAxes(drawing, figures[0].subplots(), "a")
    _draw_grid(panel, whole)
    _name_groups(panel.axes, whole)
    letters = iter("bcdefghijklm")
    for figure, stack in zip(figures[1:], stacks, strict=True):
        heights = [len(part.rows) + _AROUND for part in stack]
        for axes, part in zip(
            figure.subplots(len(stack), height_ratios=heights, squeeze=False).ravel(), stack, strict=True
        ):
            _draw_grid(LetteredAxes(drawing, axes, next(letters)), part)
    handles = [Patch(facecolor=colour, label=name) for name, colour in REGIME_COLOURS.items()]
    handles.append(Patch(facecolor=SKY, hatch=_HATCH, edgecolor="white", linewidth=0, label="still moving"))
    # one panel alone is narrower than all names in a row
    columns = len(handles) if stacks else len(handles) // 2
    drawing.figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.0, handlelength=1.1
    )
    return drawing
