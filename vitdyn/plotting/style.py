"""The one style of all figures: colours that colour-blind readers tell apart, type that is read at column width."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes

COLUMN_WIDTH, PAGE_WIDTH = 3.3, 6.8
"""Inches."""

# Okabe & Ito, "Color Universal Design" (2008).
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE = "#767676", "#D9D9D9"

AREA_COLOURS = (SKY, ORANGE, GREEN, YELLOW, PURPLE, BLUE, VERMILLION)
"""Local areas in turn; the global area is ``PALE``. Outlines and numbers tell apart areas that share a colour."""

SHARE_MAP = "cividis"
"""Colour map of everything that runs from 0 to 1."""

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlepad": 5,
    "axes.titley": 1.0,  # where it stands anyway: matplotlib would measure all ticks at every drawing to find out
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 250,
    "pdf.fonttype": 42,
    "image.interpolation": "nearest",
    "hatch.linewidth": 0.6,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style, whatever the user's own settings are; they come back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def panel_title(axes: Axes, letter: str, words: str) -> None:
    """Write "a  words" over a panel, flush left, the letter bold."""
    axes.set_title(rf"$\mathbf{{{letter}}}$  {words}", loc="left")
