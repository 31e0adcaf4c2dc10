"""Encoders trained on real images: what each method does by depth, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.lines import Line2D

from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style
from vitdyn.plotting.style import BLUE, GREEN, GREY, PAGE_WIDTH, PURPLE, VERMILLION
from vitdyn.trajectory import Trajectory
from vitdyn.vits import by_method, interval, spec_of

METHOD_STYLE: dict[str, tuple[str, str, Literal["-", "--"]]] = {
    "untrained": (GREY, "untrained", "--"),
    "reconstruction": (BLUE, "MAE", "-"),
    "contrast": (VERMILLION, "contrast", "-"),
    "mixture": (PURPLE, "mixture", "-"),
    "supervised": (GREEN, "supervised", "-"),
}
"""Colour, name and line of each method."""

PANELS = (
    ("attention_distance", "attention distance", "pixels"),
    ("mutual_information", "mutual information", "0 to 1"),
    ("top_key_scores", "top key scores", "mean share"),
    ("high_frequency", "high frequency", r"$\Delta$ log amplitude"),
    ("token_similarity", "token similarity", "mean cosine"),
    ("linear_accuracy", "linear probe", "test accuracy"),
    ("lidar", "LiDAR", "effective rank"),
    ("rank_me", "RankMe", "effective rank"),
)
"""Metric, title and unit of each panel."""

_OF_MEAN_TOKEN = ("linear_accuracy", "lidar", "rank_me")


@drawn_in_style
def draw_practice(records: Sequence[Trajectory]) -> Drawing:
    """Draw eight metrics by depth, one curve and band (95 % interval over seeds) for each method.

    Metrics of attention stand at blocks 1, 2, ...; metrics of tokens at depths 0 (before the first block), 1, ... Those
    of the mean token start after the first block: before it, the mean token is the mean patch, whatever the method.
    """
    drawing = Drawing.of_size(PAGE_WIDTH, 3.9)
    layers = spec_of(records[0]).vit.depth
    panels = drawing.panels(drawing.figure.subplots(2, 4).flat)
    for index, (panel, (metric, title, unit)) in enumerate(zip(panels, PANELS, strict=True)):
        axes = panel.axes
        _draw_metric(panel, metric, records)
        panel.title(title)
        axes.set_ylabel(unit, labelpad=2)
        axes.set_xlim(-0.2, layers + 0.2)
        axes.set_xticks(range(0, layers + 1, 1 if layers < 7 else 2))
        if index >= 4:
            axes.set_xlabel("depth, blocks")
    shown = {spec_of(record).method_name for record in records}
    handles = [
        Line2D([], [], color=colour, linestyle=line, marker="o", markersize=3, label=label)
        for method, (colour, label, line) in METHOD_STYLE.items()
        if method in shown
    ]
    drawing.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.6)
    return drawing


def _draw_metric(panel: LetteredAxes, metric: str, records: Sequence[Trajectory]) -> None:
    """Draw one metric of all methods; a band that is not finite is left out."""
    for method, values in by_method(records, metric).items():
        colour, label, line = METHOD_STYLE[method]
        mean, low, high = (np.where(np.isfinite(each), each, np.nan) for each in interval(values))
        last = spec_of(records[0]).vit.depth
        # metrics of attention have no depth 0: they begin at block 1
        depth = np.arange(last + 1 - len(mean), last + 1)
        if metric in _OF_MEAN_TOKEN:
            depth, mean, low, high = depth[1:], mean[1:], low[1:], high[1:]
        panel.axes.plot(depth, mean, color=colour, linestyle=line, marker="o", markersize=2.5, linewidth=1.1)
        panel.axes.fill_between(depth, low, high, color=colour, alpha=0.18, linewidth=0)
        panel.note_curve(f"{metric}, {label}", depth, mean, low, high)
