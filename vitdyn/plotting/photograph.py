"""What patches attend to, drawn over the photographs whose segments are the areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.patches import Rectangle

from vitdyn.data import PatchLayout
from vitdyn.plotting.areas import area_grid, draw_outlines, hatch_cells
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style, present
from vitdyn.plotting.style import BLACK, PAGE_WIDTH, SHARE_MAP, YELLOW

_DARK, _COVER = 0.12, 0.68
"""How bright a picture stays where no attention goes, and how much of it a colour covers."""


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """A picture with the cluster of the layout that was made from it and a patch (row, column) to follow."""

    name: str
    picture: Float[np.ndarray, "height width channel"]
    layout: PatchLayout
    cluster: int
    patch: tuple[int, int]


@drawn_in_style
def draw_photographs(
    photographs: Sequence[Photograph], attention: Mapping[str, Float[np.ndarray, "seed cluster query area"]]
) -> Drawing:
    """Draw one row for each photograph: its areas, and for each named objective two pictures.

    The first shows what the marked patch attends to: each area is as bright as the attention that the patch
    gives it. The second gives every patch's attention to its own area, hatched where there is none to
    measure (an area of one patch is masked with its only patch). All values are medians over seeds.
    """
    columns = 1 + 2 * len(attention)
    drawing = Drawing.of_size(PAGE_WIDTH, 0.83 + 1.29 * len(photographs))
    panels = drawing.figure.subplots(len(photographs), columns, squeeze=False)
    lettered = iter(drawing.panels(panels.flat))
    for row, photograph in zip(panels, photographs, strict=True):
        places = [next(lettered) for _ in row]
        _draw_picture(row[0], photograph)
        for index, (name, values) in enumerate(attention.items()):
            # A patch without a sample that masks it has no value in that seed.
            median = present(np.nanmedian, values[:, photograph.cluster], 0)
            _draw_followed(places[1 + 2 * index], name, photograph, median)
            _draw_own(places[2 + 2 * index], name, photograph, median)
        for place in places:
            _letter(place)
    panels[0, 0].set_title("areas,\nmarked patch")
    for index, name in enumerate(attention):
        panels[0, 1 + 2 * index].set_title(f"{name}:\nmarked patch")
        panels[0, 2 + 2 * index].set_title(f"{name}:\nevery patch")
    _draw_scales(drawing, panels)
    return drawing


def _draw_scales(drawing: Drawing, panels: np.ndarray) -> None:
    half = panels.shape[1] // 2 + 1
    bright = ScalarMappable(
        Normalize(0, 1), LinearSegmentedColormap.from_list("brightness", [(_DARK,) * 3, (1, 1, 1)])
    )
    own = ScalarMappable(Normalize(0, 1), SHARE_MAP)
    for scale, axes, alpha, label in (
        (bright, panels[:, :half], 1.0, "marked patch: attention to an area (brightness)"),
        (own, panels[:, half:], _COVER, "every patch: attention to its own area"),
    ):
        look = {"shrink": 0.8, "aspect": 12 * axes.shape[1], "pad": 0.03, "alpha": alpha}
        bar = drawing.figure.colorbar(scale, ax=axes, location="bottom", **look)
        bar.set_label(label)


def _draw_picture(axes: Axes, photograph: Photograph) -> None:
    axes.imshow(photograph.picture, extent=_extent(photograph))
    _finish(axes, photograph, "white")
    axes.set_ylabel(f"{photograph.name}\n{_exponents(photograph)}")


def _draw_followed(
    place: LetteredAxes, name: str, photograph: Photograph, attention: Float[np.ndarray, "query area"]
) -> None:
    areas = area_grid(photograph.layout, photograph.cluster)
    row, column = photograph.patch
    followed = attention[row * areas.shape[1] + column][areas]
    words = f"{photograph.name}, {name}: attention of patch ({row}, {column}) to each area"
    place.note_grid(words, followed)
    # One brightness for all pixels of a patch.
    light = np.kron(np.clip(followed, 0, 1), np.ones(_patch_shape(photograph)))[..., None]
    place.axes.imshow((_DARK + (1 - _DARK) * light) * photograph.picture, extent=_extent(photograph))
    _finish(place.axes, photograph, "#BBBBBB")


def _draw_own(
    place: LetteredAxes, name: str, photograph: Photograph, attention: Float[np.ndarray, "query area"]
) -> None:
    areas = area_grid(photograph.layout, photograph.cluster)
    own = np.take_along_axis(attention, areas.reshape(-1, 1), 1).reshape(areas.shape)
    place.note_grid(f"{photograph.name}, {name}: attention to own area", own)
    axes, grey = place.axes, photograph.picture.mean(-1)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=_extent(photograph))
    axes.imshow(own, cmap=SHARE_MAP, vmin=0, vmax=1, alpha=_COVER, extent=_extent(photograph))
    hatch_cells(axes, np.isnan(own), "xxxxxx")
    _finish(axes, photograph, "white", followed=False)


def _finish(axes: Axes, photograph: Photograph, colour: str, *, followed: bool = True) -> None:
    # A light line on a dark one is seen on any picture.
    draw_outlines(axes, area_grid(photograph.layout, photograph.cluster), colour=BLACK, width=1.3)
    draw_outlines(axes, area_grid(photograph.layout, photograph.cluster), colour=colour, width=0.6)
    if followed:
        row, column = photograph.patch
        for edge, width in ((BLACK, 2.8), (YELLOW, 1.4)):
            axes.add_patch(
                Rectangle((column, row), 1, 1, fill=False, edgecolor=edge, linewidth=width, zorder=5)
            )
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _letter(place: LetteredAxes) -> None:
    place.axes.text(
        0.03, 0.97, place.letter, transform=place.axes.transAxes, va="top", fontsize=8, fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
    )  # fmt: skip


def _exponents(photograph: Photograph) -> str:
    # The exponents of this photograph alone: a layout of several clusters has means.
    layout = PatchLayout(partition=(photograph.layout.partition[photograph.cluster],))
    return (
        rf"$\kappa_c$ = {layout.kappa_c:.2f}, $\kappa_s$ = {layout.kappa_s:.2f}"
        f"\n$\\Delta$ = {layout.information_gap:+.2f}"
    )


def _extent(photograph: Photograph) -> tuple[float, float, float, float]:
    rows, columns = area_grid(photograph.layout, photograph.cluster).shape
    return 0.0, float(columns), float(rows), 0.0


def _patch_shape(photograph: Photograph) -> tuple[int, int]:
    rows, columns = area_grid(photograph.layout, photograph.cluster).shape
    height, width = photograph.picture.shape[:2]
    return height // rows, width // columns
