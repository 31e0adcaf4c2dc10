"""A figure together with the numbers that it shows, and how both are saved."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from io import BytesIO
from pathlib import Path
from string import ascii_lowercase
from typing import IO, Any, ParamSpec, TypeVar

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from vitdyn._files import writable_beside
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.style import panel_title, styled

P, R = ParamSpec("P"), TypeVar("R")

PICTURE_DPI = 250
"""Dots per inch of a PNG."""

COLUMNS = ("panel", "series", "x", "y", "value", "low", "high")
"""Columns of the table of drawn numbers. Curves fill x, value and (bands) low, high; pictures x, y and value."""


@dataclass(frozen=True)
class Drawing:
    """A figure and, row by row, the numbers drawn in it (see ``COLUMNS``); an empty cell holds no number."""

    figure: Figure
    rows: list[tuple[Any, ...]] = field(default_factory=list, repr=False)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture and its width in a notebook, where a drawing that ends a cell is shown."""
        held = BytesIO()
        write_picture(self, held, {"Source": "vitdyn"})
        return held.getvalue(), {"width": round(96 * self.figure.get_figwidth())}

    @classmethod
    def of_size(cls, width: float, height: float) -> Drawing:
        """Return an empty figure of so many inches; it belongs to no window and no global list of figures."""
        figure = Figure(figsize=(width, height), layout="constrained")
        # Not by pyplot, which keeps every figure until it is closed.
        FigureCanvasAgg(figure)
        return cls(figure)

    def panels(self, axes: Iterable[Axes]) -> list[LetteredAxes]:
        """Return axes with the letters a, b, c, ... in their order."""
        return [LetteredAxes(self, each, letter) for each, letter in zip(axes, ascii_lowercase, strict=False)]

    def table(self) -> list[tuple[str, ...]]:
        """Return the rows as text that gives back the same numbers; NaN becomes an empty cell."""
        return [tuple(_cell(value) for value in row) for row in self.rows]


@dataclass(frozen=True)
class LetteredAxes:
    """Axes of a drawing, and the letter under which the drawing writes down what is drawn in them."""

    drawing: Drawing
    axes: Axes
    letter: str

    def title(self, words: str) -> None:
        """Write the letter and ``words`` over the panel."""
        panel_title(self.axes, self.letter, words)

    def curve(
        self,
        series: str,
        x: Float[np.ndarray, " frame"],
        values: Float[np.ndarray, "frame seed"],
        **look: Any,
    ) -> Float[np.ndarray, " frame"]:
        """Draw the median over seeds with a band from the least to the largest seed; return the median."""
        middle, low, high = (
            present(statistic, values, 1) for statistic in (np.nanmedian, np.nanmin, np.nanmax)
        )
        # A line of one point is not seen.
        if len(x) == 1:
            look["marker"] = "o"
        (line,) = self.axes.plot(x, middle, **look)
        self.axes.fill_between(x, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
        self.note_curve(series, x, middle, low, high)
        return middle

    def note_curve(self, series: str, x: Iterable[float], *band: Iterable[Any]) -> None:
        """Write down a curve with its band: its values, their low ends and their high ends."""
        for place, value, low, high in zip(x, *band, strict=True):
            self._note(series, place, "", value, low, high)

    def note_level(self, series: str, low: float, high: float) -> None:
        """Write down a horizontal line or bar that does not depend on x."""
        self._note(series, "", "", "", low, high)

    def note_point(self, series: str, x: float, value: float) -> None:
        """Write down a single point."""
        self._note(series, x, "", value, "", "")

    def note_points(self, series: str, x: Iterable[float], values: Iterable[float]) -> None:
        """Write down points one by one."""
        for place, value in zip(x, values, strict=True):
            self.note_point(series, place, value)

    def note_grid(self, series: str, values: np.ndarray) -> None:
        """Write down a picture: x is the column, y the row."""
        for (row, column), value in np.ndenumerate(values):
            self._note(series, column, row, value, "", "")

    def _note(self, *cells: Any) -> None:
        self.drawing.rows.append((self.letter, *cells))


def present(statistic: Callable[..., Any], values: np.ndarray, axis: int) -> np.ndarray:
    """Apply a statistic that leaves NaN out; where there is nothing else, the result is NaN, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return statistic(values, axis)


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
    paths = figure_files(stem)
    # In the style again: some settings, as the kind of fonts in a PDF, are read when a figure is printed.
    with writable_beside(paths["pdf"]) as scratch, styled(), _laid_out(drawing) as figure:
        FigureCanvasPdf(figure).print_pdf(scratch, metadata={"CreationDate": None})
    with writable_beside(paths["png"]) as scratch:
        write_picture(drawing, scratch, {"Source": "vitdyn"})
    with writable_beside(paths["csv"]) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *drawing.table()])
    return paths["pdf"]


def write_picture(drawing: Drawing, target: Path | IO[bytes], metadata: dict[str, str | None]) -> None:
    """Write a drawing as PNG to a file or a buffer."""
    with styled(), _laid_out(drawing) as figure:
        figure.set_dpi(PICTURE_DPI)
        FigureCanvasAgg(figure).print_png(target, metadata=metadata)


@contextmanager
def _laid_out(drawing: Drawing) -> Iterator[Figure]:
    """Give the figure with its layout found, once for all its files; its resolution comes back afterwards.

    What prints a figure then draws it once, where ``savefig`` draws it twice, the first time for its layout.
    """
    figure, resolution = drawing.figure, drawing.figure.dpi
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")
    yield figure
    figure.set_dpi(resolution)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else repr(value.item() if isinstance(value, np.generic) else value)
