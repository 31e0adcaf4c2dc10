"""What the theory's models learned, as the field measures it: metrics over training, and how they order models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from vitdyn.metrics import agreement_interval
from vitdyn.plotting.curves import draw_curve, log_clock
from vitdyn.plotting.drawing import Drawing, drawn_in_style
from vitdyn.plotting.style import BLUE, GREEN, GREY, PAGE_WIDTH, VERMILLION, panel_title
from vitdyn.trajectory import Trajectory

OBJECTIVE_COLOURS = {"mae": BLUE, "cl": VERMILLION, "mixture": GREEN}
_OBJECTIVE_WORDS = {"mae": "masked reconstruction", "cl": "contrast", "mixture": "mixture"}
_LABELS = {
    "attention_distance": "attention distance [patches]",
    "mutual_information": "mutual information (NMI)",
    "token_similarity": "similarity of patches [cos]",
    "high_frequency": r"high frequency [$\Delta$ log amp]",
}
_DASHES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Runs on one kind of data: by objective over time, and of the mixture by its weight λ."""

    title: str
    runs: Mapping[str, Trajectory]
    mixtures: Mapping[float, Trajectory]


@drawn_in_style
def draw_learning(kinds: Sequence[Learning]) -> Drawing:
    """Draw four metrics over training and two over the mixture's weight; one colour an objective, one dash a kind.

    Lines are medians over seeds, bands reach from the least to the largest seed.
    """
    drawing = Drawing.of_size(PAGE_WIDTH, 4.6)
    grid = drawing.figure.subplots(2, 3).ravel()
    over_time = dict(zip("abde", _LABELS, strict=True))
    for axes, panel in zip(grid[[0, 1, 3, 4]], over_time, strict=True):
        name = over_time[panel]
        for kind, dashes in zip(kinds, _DASHES, strict=False):
            for objective, trajectory in kind.runs.items():
                look = {"color": OBJECTIVE_COLOURS[objective], "linestyle": dashes}
                steps = trajectory["step"].to_numpy().astype(float)
                values = trajectory[name].to_numpy()
                draw_curve(axes, drawing, panel, f"{objective}, {kind.title}", steps, values, **look)
                log_clock(axes, steps)
        panel_title(axes, panel, _LABELS[name].split(" [")[0])
        axes.set_ylabel(_LABELS[name])
        axes.set_xlabel("steps of descent")
    for axes, panel, name in ((grid[2], "c", "attention_distance"), (grid[5], "f", "mutual_information")):
        _over_weights(axes, drawing, panel, name, kinds)
    handles = [
        Line2D([], [], color=OBJECTIVE_COLOURS[name], label=_OBJECTIVE_WORDS[name])
        for name in OBJECTIVE_COLOURS
    ]
    handles += [
        Line2D([], [], color=GREY, linestyle=dashes, label=kind.title)
        for kind, dashes in zip(kinds, _DASHES, strict=False)
    ]
    drawing.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return drawing


def _over_weights(axes: Axes, drawing: Drawing, panel: str, name: str, kinds: Sequence[Learning]) -> None:
    for kind, dashes in zip(kinds, _DASHES, strict=False):
        weights = np.array(sorted(kind.mixtures))
        values = np.stack([kind.mixtures[weight].final[name].to_numpy() for weight in weights])
        look = {"color": OBJECTIVE_COLOURS["mixture"], "linestyle": dashes, "marker": ".", "markersize": 4}
        draw_curve(axes, drawing, panel, f"mixture, {kind.title}", weights, values, **look)
    panel_title(axes, panel, "the mixture, at the end")
    axes.set_ylabel(_LABELS[name])
    axes.set_xlabel(r"weight $\lambda$ of contrast")


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """Metrics of many models, one row a seed, with each model's objective."""

    title: str
    metrics: Mapping[str, Float[torch.Tensor, "seed model"]]
    quality: Float[torch.Tensor, "seed model"]
    objectives: Sequence[str]


@drawn_in_style
def draw_orderings(orderings: Sequence[Ordering]) -> Drawing:
    """Draw quality against each metric, one column an ordering; a dot is a model in the mean over seeds."""
    names = list(orderings[0].metrics)
    drawing = Drawing.of_size(PAGE_WIDTH, 0.5 + 2.1 * len(names))
    grid = drawing.figure.subplots(len(names), len(orderings), squeeze=False, sharey=True)
    for row, name in enumerate(names):
        for column, ordering in enumerate(orderings):
            axes, panel = grid[row, column], chr(ord("a") + row * len(orderings) + column)
            scores, quality = ordering.metrics[name].mean(0), ordering.quality.mean(0)
            for objective in dict.fromkeys(ordering.objectives):
                chosen = [index for index, each in enumerate(ordering.objectives) if each == objective]
                axes.scatter(
                    scores[chosen],
                    quality[chosen],
                    s=11,
                    linewidths=0,
                    color=OBJECTIVE_COLOURS[objective],
                    alpha=0.8,
                )
                for index in chosen:
                    drawing.note_point(panel, objective, float(scores[index]), float(quality[index]))
            rho, low, high = agreement_interval(ordering.metrics[name], ordering.quality)
            panel_title(axes, panel, ordering.title if row == 0 else "")
            axes.text(
                0.98,
                0.42,
                rf"$\rho$ = {rho:.2f} [{low:.2f}, {high:.2f}]",
                transform=axes.transAxes,
                ha="right",
            )
            drawing.note_level(panel, f"spearman {rho}", low, high)
            axes.set_xlabel(name)
        grid[row, 0].set_ylabel(r"$R^2$ of local latents")
    handles = [
        Line2D(
            [],
            [],
            color=OBJECTIVE_COLOURS[name],
            linestyle="",
            marker="o",
            markersize=3.5,
            label=_OBJECTIVE_WORDS[name],
        )
        for name in OBJECTIVE_COLOURS
    ]
    drawing.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return drawing
