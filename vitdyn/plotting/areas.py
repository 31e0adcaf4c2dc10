"""The data: areas on their grid, a sample as a picture, masked views of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch, Rectangle

from vitdyn._axes import GLOBAL_AREA
from vitdyn._errors import invalid_value
from vitdyn.data import PatchLayout
from vitdyn.plotting.drawing import Drawing, drawn_in_style
from vitdyn.plotting.style import AREA_COLOURS, BLACK, GREY, PAGE_WIDTH, PALE


@drawn_in_style
def draw_data(
    layout: PatchLayout,
    *,
    cluster: int,
    image: Float[np.ndarray, "channel height width"],
    patch_latent: Float[np.ndarray, " patch"],
    views: Sequence[Bool[np.ndarray, " patch"]],
) -> Drawing:
    """Draw the areas of two clusters, a sample of ``cluster``, its masked view and two contrastive views.

    ``image`` holds the rendered pixels, ``patch_latent`` the latent of each patch's area; ``views`` are the
    masked view and the pair. The layout must lie on a grid and have two clusters.
    """
    drawing = Drawing.of_size(PAGE_WIDTH, 4.9)
    panels = drawing.panels(drawing.figure.subplots(2, 3).flat)
    for index, panel in enumerate(panels[:2]):
        areas = area_grid(layout, index)
        draw_areas(panel.axes, areas)
        panel.title(f"areas of cluster {index + 1}")
        panel.note_grid("area", areas)
    pixels = rendered(image)
    shown = [np.ones(layout.patches, dtype=bool), *views]
    masked = ("masked for reconstruction", "contrast: first view", "second view")
    titles = (f"a sample of cluster {cluster + 1}", *masked)
    for panel, words, view in zip(panels[2:], titles, shown, strict=True):
        visible = view.reshape(areas.shape)
        draw_view(panel.axes, pixels, visible)
        panel.title(words)
        panel.note_grid("visible", visible.astype(int))
    panels[2].note_grid("strength z", patch_latent.reshape(areas.shape))
    entries = [
        Patch(facecolor=PALE, edgecolor=BLACK, linewidth=0.6, label="global area (0)"),
        Patch(facecolor=AREA_COLOURS[0], edgecolor=BLACK, linewidth=0.6, label="local areas (1, 2, …)"),
        Patch(facecolor="white", edgecolor=GREY, hatch="//////", linewidth=0.6, label="masked patch"),
    ]
    drawing.figure.legend(handles=entries, loc="outside lower center", ncols=3)
    return drawing


def area_grid(layout: PatchLayout, cluster: int) -> Int[np.ndarray, "row column"]:
    """Return the area index of each cell of the grid. Raises ``ValueError`` for a layout without a grid."""
    if layout.grid is None:
        raise invalid_value("layout.grid", None, "areas are drawn on a grid: give the layout one")
    return layout.area_of_patch[cluster].reshape(layout.grid)


def draw_areas(axes: Axes, areas: Int[np.ndarray, "row column"]) -> None:
    """Colour the cells by area, outline each area and write its number into it."""
    # Lighter than lines are drawn, so that black numbers stand out.
    cycle = 0.75 * np.array([to_rgb(colour) for colour in AREA_COLOURS]) + 0.25
    colours = np.where((areas == GLOBAL_AREA)[..., None], to_rgb(PALE), cycle[(areas - 1) % len(cycle)])
    axes.imshow(colours, extent=_cells(areas.shape))
    draw_outlines(axes, areas, colour=BLACK)
    for area in np.unique(areas):
        row, column = middle_cell(areas == area)
        axes.text(column + 0.5, row + 0.5, str(area), ha="center", va="center", fontsize=6.5)
    _frame(axes)


def draw_view(
    axes: Axes, pixels: Float[np.ndarray, "height width channel"], visible: Bool[np.ndarray, "row column"]
) -> None:
    """Draw a picture with its masked patches hatched."""
    axes.imshow(pixels, extent=_cells(visible.shape))
    hatch_cells(axes, ~visible, "//////")
    _frame(axes)


def hatch_cells(axes: Axes, chosen: Bool[np.ndarray, "row column"], hatch: str) -> None:
    """Cover cells with hatching on white."""
    cells = [Rectangle((column, row), 1, 1) for row, column in np.argwhere(chosen)]
    axes.add_collection(PatchCollection(cells, facecolor="white", edgecolor=GREY, hatch=hatch, linewidth=0))


def draw_outlines(
    axes: Axes, areas: Int[np.ndarray, "row column"], *, colour: str, width: float = 0.9
) -> None:
    """Draw the borders between areas; a cell is 1 wide and the upper left corner of the grid is (0, 0)."""
    rows, columns = areas.shape
    # A border runs between any two neighbouring cells of different areas.
    across = np.argwhere(areas[:, 1:] != areas[:, :-1])
    down = np.argwhere(areas[1:] != areas[:-1])
    lines = [[(column + 1, row), (column + 1, row + 1)] for row, column in across]
    lines += [[(column, row + 1), (column + 1, row + 1)] for row, column in down]
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, capstyle="projecting"))
    axes.set(xlim=(0, columns), ylim=(rows, 0))


def middle_cell(inside: Bool[np.ndarray, "row column"]) -> tuple[int, int]:
    """Return the cell of a region that is nearest to the region's centre."""
    cells = np.argwhere(inside)
    row, column = cells[((cells - cells.mean(0)) ** 2).sum(1).argmin()]
    return int(row), int(column)


def rendered(image: Float[np.ndarray, "channel height width"]) -> Float[np.ndarray, "height width channel"]:
    """Return pixels in [0, 1] with 0 at mid-grey, as matplotlib takes them."""
    return 0.5 + 0.5 * image.transpose(1, 2, 0) / np.abs(image).max()


def _cells(shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    return 0.0, float(shape[1]), float(shape[0]), 0.0


def _frame(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.6)
