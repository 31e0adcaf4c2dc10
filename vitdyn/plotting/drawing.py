"""A figure together with the numbers that it shows, and how both are saved."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from vitdyn.plotting.arguments import checked
from vitdyn.plotting.style import styled
from vitdyn.trajectory import writable_beside

P, R = ParamSpec("P"), TypeVar("R")

PICTURE_DPI = 250

COLUMNS = ("panel", "series", "x", "y", "value", "low", "high")
"""Columns of the table of drawn numbers. Curves fill x, value and (bands) low, high; pictures x, y and value."""


@dataclass(frozen=True)
class Drawing:
    """A figure and, row by row, the numbers drawn in it (see ``COLUMNS``); an empty cell holds no number."""

    figure: Figure
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    @classmethod
    def of_size(cls, width: float, height: float) -> Drawing:
        """Return an empty figure of so many inches; it belongs to no window and no global list of figures."""
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        return cls(figure)

    def note_curve(
        self,
        panel: str,
        series: str,
        x: Iterable[float],
        value: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
    ) -> None:
        """Write down a curve with its band."""
        for point in zip(x, value, low, high, strict=True):
            self.rows.append((panel, series, point[0], "", *point[1:]))

    def note_level(self, panel: str, series: str, low: float, high: float) -> None:
        """Write down a horizontal line or bar that does not depend on x."""
        self.rows.append((panel, series, "", "", "", low, high))

    def note_point(self, panel: str, series: str, x: float, value: float) -> None:
        """Write down a single point."""
        self.rows.append((panel, series, x, "", value, "", ""))

    def note_grid(self, panel: str, series: str, values: np.ndarray) -> None:
        """Write down a picture: x is the column, y the row."""
        for (row, column), value in np.ndenumerate(values):
            self.rows.append((panel, series, column, row, value, "", ""))

    def table(self) -> list[tuple[str, ...]]:
        """Return the rows as text that gives back the same numbers; NaN becomes an empty cell."""
        return [tuple(_cell(value) for value in row) for row in self.rows]


def drawn_in_style(draw: Callable[P, R]) -> Callable[P, R]:
    """Make a drawing function draw in the one style, what its annotations name and nothing else (``checked``)."""
    draws = checked(draw, filled=True)

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with styled():
            return draws(*args, **kwargs)

    return inside


@checked
def figure_files(stem: Path) -> dict[str, Path]:
    """Return the files of a figure, by their kind."""
    return {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png", "csv")}


@checked
def save_figure(drawing: Drawing, stem: Path) -> Path:
    """Write ``stem`` + .pdf, .png and .csv (the numbers drawn), each whole or not at all; return the PDF's path.

    The same drawing gives the same bytes: no file holds a date. The picture says that vitdyn is its source, by which
    `vitdyn inspect` knows it among images. Raises ``ValueError`` where the folder
    cannot be written.
    """
    paths, figure = figure_files(stem), drawing.figure
    with styled():
        figure.get_layout_engine().execute(figure)  # the layout is found once, for both files
        figure.set_layout_engine("none")
        # print_pdf and print_png draw once each; savefig draws a figure twice, the first time to find its layout
        with writable_beside(paths["pdf"]) as scratch:
            FigureCanvasPdf(figure).print_pdf(scratch, metadata={"CreationDate": None})
        with writable_beside(paths["png"]) as scratch:
            figure.set_dpi(PICTURE_DPI)
            FigureCanvasAgg(figure).print_png(scratch, metadata={"Source": "vitdyn"})
    with writable_beside(paths["csv"]) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *drawing.table()])
    return paths["pdf"]


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else repr(value.item() if isinstance(value, np.generic) else value)
