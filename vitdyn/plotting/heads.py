"""What the heads of published models attend to: concentration in the last block, distance and information by depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style
from vitdyn.plotting.style import BLUE, GREY, ORANGE, PAGE_WIDTH, VERMILLION, panel_title
from vitdyn.vits import HeadMetrics

_BY_DEPTH = {"attention_distance": "distance (pixels)", "mutual_information": "mutual information"}

_TITLES = {"a": "last block", "b": "attention distance", "c": "mutual information"}


@drawn_in_style
def draw_heads(models: Sequence[HeadMetrics]) -> Drawing:
    """Draw one column for each model: key scores of the last block, distance and information by depth.

    The first row has, for each head, a box over images (quartiles, median, whiskers to the furthest value
    within 1.5 times the box, the rest as dots) of the mean of the largest key scores, and the level of uniform
    attention, 1/K. The other two have a dot for each head, its mean over images, and a line for the mean over heads.
    One model alone has its three panels side by side. A row has one scale.

    After the comparison of models in appendix B of Huang et al. (arXiv 2403.02233), which shows the first row.
    """
    alone = len(models) == 1
    size = (PAGE_WIDTH, 2.9) if alone else (max(PAGE_WIDTH, 1.7 * len(models)), 5.6)
    drawing = Drawing.of_size(*size)
    grid = drawing.figure.subplots(
        *((1, 3) if alone else (3, len(models))), sharey=False if alone else "row", squeeze=False
    )
    columns = grid if alone else grid.T
    for number, (model, panels) in enumerate(zip(models, columns, strict=True)):
        scores, *by_depth = drawing.panels(panels)
        _draw_scores(scores, model, label=not number)
        for panel, name in zip(by_depth, _BY_DEPTH, strict=True):
            _draw_by_depth(panel, model, name, label=not number)
    _finish(drawing, models, grid)
    drawing.figure.legend(handles=_legend(), loc="outside lower center", ncols=4)
    return drawing


def _finish(drawing: Drawing, models: Sequence[HeadMetrics], grid: np.ndarray) -> None:
    """Start every scale at 0, and name panels and models."""
    alone = len(models) == 1
    for letter, row in zip("abc", grid.T if alone else grid, strict=True):
        row[0].set_ylim(0, 1.04 * row[0].get_ylim()[1])
        if alone:
            panel_title(row[0], letter, _TITLES[letter])
        else:
            row[0].set_title(rf"$\mathbf{{{letter}}}$", loc="left", x=-0.075 * len(models))
    if alone:
        drawing.figure.suptitle(_shortened(models[0].label, 80), fontsize="medium")
    else:
        for model, axes in zip(models, grid[0], strict=True):
            axes.set_title(_shortened(model.label, 88 // len(models)))
        drawing.figure.align_ylabels(grid[:, 0])


def _legend() -> list[Artist]:
    dot = Line2D([], [], color=BLUE, alpha=0.7, linestyle="none", marker="o", markersize=3)
    dot.set_label("a head, mean over images")
    return [
        Patch(facecolor=ORANGE, edgecolor="black", linewidth=0.8, label="images, by head"),
        Line2D([], [], color=VERMILLION, linestyle=":", linewidth=1, label="uniform attention"),
        dot,
        Line2D([], [], color="black", linewidth=1.2, label="mean over heads"),
    ]


def _draw_scores(panel: LetteredAxes, model: HeadMetrics, *, label: bool) -> None:
    axes, scores = panel.axes, model.values["top_key_scores"][-1]
    heads = np.arange(1, scores.shape[1] + 1)
    # A head without any attention on patches has no score in that image.
    stats = [boxplot_stats(values[~np.isnan(values)])[0] for values in scores.T]
    thin = {"linewidth": 0.8}
    axes.bxp(
        stats,
        positions=heads,
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": ORANGE, **thin},
        medianprops={"color": "black", "linewidth": 1.2},
        whiskerprops=thin,
        capprops=thin,
        flierprops={"marker": ".", "markersize": 2, "markerfacecolor": GREY, "markeredgecolor": "none"},
    )
    for head, stat in zip(heads, stats, strict=True):
        panel.note_curve(f"{model.label}: box", [head], *([stat[name]] for name in ("med", "q1", "q3")))
        panel.note_curve(f"{model.label}: whiskers", [head], [""], [stat["whislo"]], [stat["whishi"]])
        for value in stat["fliers"]:
            panel.note_point(f"{model.label}: beyond", head, value)
    uniform = 1 / model.patches
    axes.axhline(uniform, color=VERMILLION, linestyle=":", linewidth=1)
    panel.note_level(f"{model.label}: uniform attention", uniform, uniform)
    axes.set(xlabel="head", xlim=(0.4, heads[-1] + 0.6))
    _number(axes, len(heads))
    if label:
        axes.set_ylabel(f"top-{model.top} key score")


def _draw_by_depth(panel: LetteredAxes, model: HeadMetrics, name: str, *, label: bool) -> None:
    axes, values, mean = panel.axes, model.by_head(name), model.by_block(name)
    blocks = range(1, len(values) + 1)
    for head, row in enumerate(values.T, start=1):
        axes.plot(blocks, row, "o", markersize=2.6, color=BLUE, alpha=0.55, markeredgecolor="none")
        panel.note_points(f"{model.label}: head {head}", blocks, row)
    axes.plot(blocks, mean, color="black", linewidth=1.2)
    panel.note_points(f"{model.label}: mean", blocks, mean)
    axes.set(xlabel="block", xlim=(0.4, len(blocks) + 0.6))
    _number(axes, len(blocks))
    if label:
        axes.set_ylabel(_BY_DEPTH[name])


def _number(axes: Axes, count: int) -> None:
    """Number heads or blocks from 1, every one of few, some of many."""
    step = 1 if count <= 6 else 2 if count <= 12 else 4
    places = np.arange(1 if step == 1 else step, count + 1, step)
    axes.set_xticks(places, [str(place) for place in places])


def _shortened(label: str, most: int) -> str:
    short = label if len(label) <= most else f"{label[: most - 1]}…"
    return short.replace("$", r"\$")
