"""What patches attend to, drawn over the photographs whose segments are the areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from vitdyn.data import PatchLayout
from vitdyn.plotting.areas import area_grid, draw_outlines
from vitdyn.plotting.drawing import Drawing, drawn_in_style
from vitdyn.plotting.style import BLACK, PAGE_WIDTH, SHARE_MAP, VERMILLION, panel_title


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
    measure (an area of one patch is hidden with its only patch). All values are medians over seeds.
    """
    columns = 1 + 2 * len(attention)
    drawing = Drawing.of_size(PAGE_WIDTH, 0.62 + 1.52 * len(photographs))
    panels = drawing.figure.subplots(len(photographs), columns, squeeze=False)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    scale = None
    for row, photograph in zip(panels, photographs, strict=True):
        _draw_picture(row[0], photograph)
        _letter(row[0], next(letters))
        for index, (name, values) in enumerate(attention.items()):
            median = np.median(values[:, photograph.cluster], axis=0)
            first, second = next(letters), next(letters)
            _draw_followed(row[1 + 2 * index], drawing, first, name, photograph, median)
            _letter(row[1 + 2 * index], first)
            scale = _draw_own(row[2 + 2 * index], drawing, second, name, photograph, median)
            _letter(row[2 + 2 * index], second)
    panels[0, 0].set_title("areas and\nmarked patch", fontsize=8)
    for index, name in enumerate(attention):
        panels[0, 1 + 2 * index].set_title(f"{name}:\nseen by the marked patch", fontsize=8)
        panels[0, 2 + 2 * index].set_title(f"{name}:\nown-area attention", fontsize=8)
    bar = drawing.figure.colorbar(scale, ax=panels, location="bottom", shrink=0.4, aspect=30, pad=0.03)
    bar.set_label("attention of each patch to its own area")
    return drawing
