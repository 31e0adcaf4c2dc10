"""The information gap of photographs: its values by patch size, and the exponents beside the theory's range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from vitdyn._errors import invalid_value
from vitdyn.data import PatchLayout
from vitdyn.data.exponents import KAPPA_C_RANGE, KAPPA_S_RANGE
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style
from vitdyn.plotting.style import BLACK, BLUE, GREY, ORANGE, PAGE_WIDTH, PALE, VERMILLION

_COLOURS, _MARKERS = (BLUE, ORANGE, VERMILLION), ("o", "^")


@dataclass(frozen=True, kw_only=True)
class Segmented:
    """A photograph cut into patches after segmentation, as a layout of one cluster."""

    photograph: str
    algorithm: str
    patch_size: int
    layout: PatchLayout

    @property
    def in_range(self) -> bool:
        """Whether both measured exponents lie in the theory's range, 0 < κ_s ≤ 1/2 < κ_c ≤ 1."""
        small = KAPPA_S_RANGE[0] <= self.layout.kappa_s <= KAPPA_S_RANGE[1]
        return small and KAPPA_C_RANGE[0] <= self.layout.kappa_c <= KAPPA_C_RANGE[1]


@drawn_in_style
def draw_photograph_gaps(cases: Sequence[Segmented]) -> Drawing:
    """Draw Δ by patch size, one panel for each algorithm, and κ_c against κ_s with the range of the theory shaded."""
    algorithms = list(dict.fromkeys(each.algorithm for each in cases))
    sizes = sorted({each.patch_size for each in cases})
    if len(algorithms) > len(_MARKERS) or len(sizes) > len(_COLOURS):
        raise invalid_value(
            "cases", (algorithms, sizes), "hold more than two algorithms or three patch sizes"
        )
    drawing = Drawing.of_size(PAGE_WIDTH, 3.7)
    grid = drawing.figure.add_gridspec(2, 2, width_ratios=[1, 1.1])
    gaps = [each.layout.information_gap for each in cases]
    limits = min(0.0, *gaps) - 0.1, max(0.0, *gaps) + 0.1
    for row, algorithm in enumerate(algorithms):
        panel = LetteredAxes(drawing, drawing.figure.add_subplot(grid[row, 0]), "ab"[row])
        chosen = [each for each in cases if each.algorithm == algorithm]
        _draw_strip(panel, chosen, sizes, _MARKERS[row])
        panel.title(algorithm)
        panel.axes.set_xlim(*limits)
        if row == len(algorithms) - 1:
            panel.axes.set_xlabel(r"information gap $\Delta$")
    plane = LetteredAxes(drawing, drawing.figure.add_subplot(grid[:, 1]), "c")
    _draw_plane(plane, cases, algorithms, sizes)
    plane.title("measured exponents")
    return drawing


def _draw_strip(panel: LetteredAxes, cases: Sequence[Segmented], sizes: Sequence[int], marker: str) -> None:
    """Draw one row of dots for each patch size, its median as a bar and the share of Δ > 0 at the right."""
    axes = panel.axes
    axes.axvline(0, color=BLACK, linewidth=0.6)
    for row, size in enumerate(sizes):
        gaps = np.sort([each.layout.information_gap for each in cases if each.patch_size == size])
        if not gaps.size:
            continue
        heights = row + 0.14 * (np.arange(len(gaps)) % 3 - 1)  # three lanes keep neighbours apart
        axes.plot(gaps, heights, marker, color=_COLOURS[row], markersize=4, alpha=0.7, markeredgewidth=0)
        axes.plot([np.median(gaps)] * 2, [row - 0.32, row + 0.32], color=BLACK, linewidth=1.3)
        share = float(np.mean(gaps > 0))
        axes.text(1.01, row, f"{share:.0%}", transform=axes.get_yaxis_transform(), va="center", fontsize=7)
        panel.note_points(f"gap at patch size {size}", [size] * len(gaps), gaps)
        panel.note_point("median gap", size, float(np.median(gaps)))
        panel.note_point("share above 0", size, share)
    heading = r"$\Delta > 0$"
    axes.text(1.01, len(sizes) - 0.4, heading, transform=axes.get_yaxis_transform(), va="bottom", fontsize=7)
    axes.set_yticks(range(len(sizes)), [f"{size} px" for size in sizes])
    axes.set_ylim(-0.5, len(sizes) - 0.4)
    axes.tick_params(axis="y", length=0)


def _draw_plane(
    panel: LetteredAxes, cases: Sequence[Segmented], algorithms: Sequence[str], sizes: Sequence[int]
) -> None:
    """Draw every photograph at (κ_s, κ_c), over the shaded range and the line Δ = 0."""
    axes = panel.axes
    corner = KAPPA_S_RANGE[0], 0.5
    axes.add_patch(Rectangle(corner, 0.5 - corner[0], 0.5, facecolor=PALE, edgecolor="none", zorder=0))
    axes.plot([0, 1], [0.5, 1], color=BLACK, linewidth=0.9, linestyle="--", zorder=1)
    for each in cases:
        kappa_s, kappa_c = each.layout.kappa_s, each.layout.kappa_c
        colour, marker = _COLOURS[sizes.index(each.patch_size)], _MARKERS[algorithms.index(each.algorithm)]
        axes.plot(kappa_s, kappa_c, marker, color=colour, markersize=4, alpha=0.7, markeredgewidth=0)
        panel.note_point(f"{each.photograph}, {each.algorithm}, {each.patch_size} px", kappa_s, kappa_c)
    axes.set_xlabel(r"$\kappa_s$, local areas")
    axes.set_ylabel(r"$\kappa_c$, global area")
    lowest = min(each.layout.kappa_c for each in cases)
    axes.set_xlim(0, max(0.8, *(each.layout.kappa_s + 0.05 for each in cases)))
    axes.set_ylim(min(0.45, lowest - 0.05), 1.01)
    handles: list[Artist] = [Line2D([], [], color=c, marker="s", linestyle="", markersize=4, label=f"{s} px")
               for c, s in zip(_COLOURS, sizes, strict=False)]  # fmt: skip
    handles += [Line2D([], [], color=GREY, marker=m, linestyle="", markersize=4, label=a)
                for m, a in zip(_MARKERS, algorithms, strict=False)]  # fmt: skip
    handles += [Line2D([], [], color=BLACK, linestyle="--", linewidth=0.9, label=r"$\Delta = 0$ ($\Delta > 0$ above)"),
                Patch(facecolor=PALE, label="range of the theory")]  # fmt: skip
    panel.drawing.figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.2, handletextpad=0.4
    )
