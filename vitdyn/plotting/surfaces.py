"""The surfaces of losses about the ends of trainings, side by side, with the paths that lead there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.contour import QuadContourSet
from matplotlib.lines import Line2D

from vitdyn._axes import FRAME, SEED
from vitdyn._errors import invalid_value
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style
from vitdyn.plotting.style import BLACK, BLUE, GREY, PAGE_WIDTH, SHARE_MAP, VERMILLION
from vitdyn.trajectory import Trajectory
from vitdyn.vits.landscape import PLANES

LEVELS = (-0.05, -0.01, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Contours of (L − L_end)/(L_0 − L_end), L_0 the loss before training on the same images: 1 is all that it gained."""

_LOST = "share of the training's gain that is lost,\n(L − L_end) / (L_0 − L_end)"
_PROJECTED = (
    "weights along the training; over a plane, projected: their loss is not the surface's, but that of g to i"
)
_WORDS = {
    "random": ("random", "multiples of filter norms", "second direction"),
    "principal": ("its path", "principal direction, ‖Δθ‖", "second direction"),
}


@drawn_in_style
def draw_surfaces(columns: Mapping[str, Trajectory]) -> Drawing:
    """Draw the loss about the end in two planes, with the path over them, and how far from them the path is.

    Rows: the random plane of filter-normalised directions; the plane of the path's principal directions; the loss of
    the weights along the training, and that of the points of each plane beneath them, which is another; the distance
    of the weights from each plane, as a share of their distance from the end. Levels are shares of what each training
    gained: losses of several units can be compared. Raises ``ValueError`` for a survey that drew no plane.
    """
    for name, each in columns.items():
        if "section_loss" not in each.dataset:
            raise invalid_value(f"columns[{name!r}]", "no planes", "must be a survey with final_points")
    drawing = Drawing.of_size(PAGE_WIDTH, 7.4)
    grid = drawing.figure.subplots(
        4, len(columns), squeeze=False, gridspec_kw={"height_ratios": (1, 1, 0.75, 0.55)}
    )
    panels = iter(drawing.panels(grid.flat))
    filled = [
        _draw_plane(next(panels), name, record, plane) for plane in PLANES for name, record in columns.items()
    ]
    bar = drawing.figure.colorbar(filled[0], ax=list(grid[:2].flat), shrink=0.8, pad=0.02, ticks=LEVELS)
    bar.ax.set_yticklabels([f"{level:g}" for level in LEVELS])
    bar.set_label(_LOST)
    for record in columns.values():
        _draw_losses(next(panels), record)
    for record in columns.values():
        _draw_distances(next(panels), record)
    grid[2, 0].set_ylabel("loss, share of gain")
    grid[3, 0].set_ylabel("distance from plane\n/ from the end")
    handles = [
        Line2D([], [], color=BLACK, marker="o", markersize=2.5, label=_PROJECTED),
        Line2D(
            [],
            [],
            color=BLUE,
            linestyle="--",
            label="the point of the path's plane that is nearest to the weights",
        ),
        Line2D(
            [],
            [],
            color=VERMILLION,
            linestyle=":",
            label="that of the random plane: nearly the end itself, throughout",
        ),
    ]
    drawing.figure.legend(handles=handles, loc="outside lower center")
    return drawing


def _lost(record: Trajectory, loss: np.ndarray) -> np.ndarray:
    """Return losses as shares of what the training gained on the same images."""
    first, last = (float(record["loss"].isel({FRAME: end, SEED: 0})) for end in (0, -1))
    return (loss - last) / (first - last)


def _draw_plane(panel: LetteredAxes, name: str, record: Trajectory, plane: str) -> QuadContourSet:
    """Draw the surface in a plane, and where the path passes over it."""
    words, across, up = _WORDS[plane]
    here = {SEED: 0, "plane": PLANES.index(plane)}
    values = _lost(record, record["section_loss"].isel(here).to_numpy())
    x, y = record["section_coordinate"].isel(here).to_numpy()
    axes = panel.axes
    shades: dict[str, Any] = {
        "cmap": SHARE_MAP,
        "norm": BoundaryNorm(LEVELS, 256, extend="both"),
        "extend": "both",
    }
    filled = axes.contourf(x, y, values.T, levels=LEVELS, **shades)
    axes.contour(x, y, values.T, levels=LEVELS, colors="white", linewidths=0.4)
    path = record["path_coordinate"].isel(here).to_numpy()
    axes.plot(*path.T, color=BLACK, marker="o", markersize=2, linewidth=0.8)
    axes.plot(*path[-1], color=VERMILLION, marker="*", markersize=6)
    panel.title(f"{name}: {words}")
    axes.set_xlabel(across, labelpad=2)
    axes.set_ylabel(up, labelpad=1)
    panel.note_grid(f"{name}, {plane}, share of the gain lost", values)
    panel.note_points(f"{name}, {plane}, projected path", *path.T)
    return filled


def _draw_losses(panel: LetteredAxes, record: Trajectory) -> None:
    """Draw the loss of the weights, and those of the points of the planes beneath them."""
    step, axes = record["step"].to_numpy(), panel.axes
    own = _lost(record, record["loss"].isel({SEED: 0}).to_numpy())
    axes.plot(step, own, color=BLACK, marker="o", markersize=2.5)
    panel.note_points("weights", step, own)
    for plane, look in _LOOKS.items():
        beneath = _lost(record, _along(record, "projected_loss", plane))
        axes.plot(step, beneath, **look)
        panel.note_points(f"beneath them, {plane} plane", step, beneath)
    axes.set_yscale("symlog", linthresh=0.1)
    panel.title("loss along the path")
    axes.set_xlabel("step", labelpad=2)


def _draw_distances(panel: LetteredAxes, record: Trajectory) -> None:
    """Draw the distance of the weights from each plane, as a share of that from the end."""
    step, axes = record["step"].to_numpy()[:-1], panel.axes
    whole = record["distance_to_end"].isel({SEED: 0}).to_numpy()[:-1]
    for plane, look in _LOOKS.items():
        share = _along(record, "path_distance", plane)[:-1] / whole
        axes.plot(step, share, **look)
        panel.note_points(f"distance, {plane} plane", step, share)
    axes.set_ylim(0, 1.05)
    axes.axhline(1.0, color=GREY, linewidth=0.5)
    panel.title("off the plane")
    axes.set_xlabel("step", labelpad=2)


_LOOKS: dict[str, dict[str, Any]] = {
    "principal": {"color": BLUE, "linestyle": "--"},
    "random": {"color": VERMILLION, "linestyle": ":"},
}


def _along(record: Trajectory, name: str, plane: str) -> np.ndarray:
    return record[name].isel({SEED: 0, "plane": PLANES.index(plane)}).to_numpy()
