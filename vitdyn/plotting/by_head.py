"""Attention by layer and head: maps over time, one line a head, and numbers over depth."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps

from vitdyn._axes import CLUSTER, FRAME, GLOBAL_AREA, HEAD, LAYER, QUERY_AREA, SEED
from vitdyn._errors import require_choice
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.curves import PAIRS, log_clock
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style, present
from vitdyn.plotting.style import BLUE, GREEN, ORANGE, PAGE_WIDTH, PURPLE, SHARE_MAP, VERMILLION
from vitdyn.trajectory import Trajectory

_OBSERVABLE = {
    "own": "head_own_attention",
    "global": "head_global_attention",
    "other": "head_other_attention",
}
_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE)
LOCAL_PAIRS = ("local to own", "local to global", "local to other")
"""What is drawn of local queries; to other local areas all together."""


@checked
def attention_by_head(trajectory: Trajectory, pair: str) -> Float[np.ndarray, "frame seed layer head"]:
    """Return the attention of each head for a pair of ``PAIRS``, in the mean over clusters and areas of the kind.

    A head's number means nothing from one seed to the next: heads of a layer are ordered, in each seed, by what local
    queries give to their own area at the end, the largest first. To "other" areas attention goes to all together.
    """
    require_choice("pair", pair, PAIRS)
    own = _of_queries(trajectory, "local to own")[-1]
    order = np.argsort(-own, axis=-1, kind="stable")
    return np.take_along_axis(_of_queries(trajectory, pair), order[None], -1)


def _of_queries(trajectory: Trajectory, pair: str) -> Float[np.ndarray, "frame seed layer head"]:
    query, _, key = pair.split()
    values = trajectory[_OBSERVABLE[key]].transpose(FRAME, SEED, LAYER, HEAD, CLUSTER, QUERY_AREA).to_numpy()
    values = values[..., GLOBAL_AREA + 1 :] if query == "local" else values[..., [GLOBAL_AREA]]
    return present(np.nanmean, values.reshape(*values.shape[:4], -1).astype(float), -1)


@drawn_in_style
def draw_by_head(runs: Mapping[str, Trajectory]) -> Drawing:
    """Draw what local queries attend to by layer and head over time: one column a run, by its title.

    The rows are attention to the own area, to the global one and to other local areas; a stripe is a head, in the
    median over seeds, whose heads are ordered as ``attention_by_head`` says.
    """
    drawing = Drawing.of_size(max(PAGE_WIDTH, 2.4 * len(runs)), 5.4)
    grid = drawing.figure.subplots(len(LOCAL_PAIRS), len(runs), squeeze=False)
    panels = iter(drawing.panels(grid.flat))
    for pair in LOCAL_PAIRS:
        for title, trajectory in runs.items():
            panel = next(panels)
            draw_head_map(panel, trajectory, pair)
            panel.title(f"{title}: {pair}")
    for axes in grid[:-1].flat:
        axes.set_xlabel("")
    for axes in grid[:, 1:].flat:
        axes.set_ylabel("")
    bar = drawing.figure.colorbar(grid[0, 0].images[0], ax=grid, shrink=0.6, pad=0.02)
    bar.set_label("attention of a head")
    return drawing


@checked
def draw_head_map(panel: LetteredAxes, trajectory: Trajectory, pair: str) -> None:
    """Draw the attention of each head (down, by layer) at each frame (across), the median over seeds."""
    values = present(np.nanmedian, attention_by_head(trajectory, pair), 1)
    frames, layers, heads = values.shape
    matrix, axes = values.reshape(frames, -1).T, panel.axes
    axes.imshow(matrix, cmap=SHARE_MAP, vmin=0, vmax=1, aspect="auto")
    panel.note_grid(f"{pair}, by head and frame", matrix)
    for layer in range(1, layers):
        axes.axhline(layer * heads - 0.5, color="white", linewidth=1.2)
    # one layer's stripes are heads; of several the layers are numbered
    stripes, words = (1, "head") if layers == 1 else (heads, "layer, a stripe a head")
    count = layers * heads // stripes
    axes.set_yticks(
        stripes * np.arange(count) + (stripes - 1) / 2, [str(each) for each in range(1, count + 1)]
    )
    steps = trajectory["step"].to_numpy()
    places = np.unique(np.linspace(0, frames - 1, min(frames, 5)).round().astype(int))
    axes.set_xticks(places, [str(steps[each]) for each in places])
    axes.set(xlabel="steps of descent", ylabel=words)


@checked
def draw_head_curves(panel: LetteredAxes, trajectory: Trajectory, pair: str, *, layer: int = -1) -> None:
    """Draw the attention of each head of a layer over time, dark to light in the order of ``attention_by_head``.

    Lines are medians over seeds, bands reach from the least to the largest seed.
    """
    values, steps = attention_by_head(trajectory, pair)[:, :, layer], trajectory["step"].to_numpy()
    heads = values.shape[-1]
    for head in range(heads):
        colour = colormaps[SHARE_MAP](0.9 * head / max(1, heads - 1))
        panel.curve(f"{pair}, head {head + 1}", steps.astype(float), values[..., head], color=colour)
    panel.axes.set(xlabel="steps of descent", ylabel=f"attention, {pair}", ylim=(-0.03, 1.03))
    log_clock(panel.axes, steps.astype(float))


@checked
def draw_over_depth(
    panel: LetteredAxes, runs: Mapping[str, Trajectory], name: str, *, frame: int = -1
) -> None:
    """Draw an observable of layers, or of layers and heads, against the layer's number: one line a run, by its title.

    Heads, and what else it has (clusters, areas), are averaged. A line is the median over seeds, its band reaches from
    the least to the largest seed.
    """
    for (title, trajectory), colour in zip(runs.items(), cycle(_COLOURS), strict=False):
        values = trajectory[name].isel({FRAME: frame})
        values = values.mean([each for each in values.dims if each not in (LAYER, SEED)])
        layers = np.arange(1, values.sizes[LAYER] + 1)
        seeds = values.transpose(LAYER, SEED).to_numpy()
        panel.curve(f"{name}, {title}", layers.astype(float), seeds, color=colour, label=title)
        panel.axes.set_xticks(layers)
        panel.axes.set(xlabel="layer", ylabel=name.replace("_", " "))
