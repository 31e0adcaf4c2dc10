"""What the theory's models learned, as the field measures it: metrics over training, and how they order models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.lines import Line2D

from vitdyn.metrics import agreement_interval
from vitdyn.plotting.curves import log_clock
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style
from vitdyn.plotting.style import BLUE, GREEN, GREY, PAGE_WIDTH, VERMILLION
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
    panels = drawing.panels(drawing.figure.subplots(2, 3).flat)
    for place, name in zip((0, 1, 3, 4), _LABELS, strict=True):
        panel = panels[place]
        for kind, dashes in zip(kinds, _DASHES, strict=False):
            for objective, trajectory in kind.runs.items():
                look = {"color": OBJECTIVE_COLOURS[objective], "linestyle": dashes}
                steps = trajectory["step"].to_numpy().astype(float)
                values = trajectory[name].to_numpy()
                panel.curve(f"{objective}, {kind.title}", steps, values, **look)
                log_clock(panel.axes, steps)
        panel.title(_LABELS[name].split(" [")[0])
        panel.axes.set(ylabel=_LABELS[name], xlabel="steps of descent")
    for place, name in ((2, "attention_distance"), (5, "mutual_information")):
        _over_weights(panels[place], name, kinds)
    handles = _objective_handles()
    handles += [
        Line2D([], [], color=GREY, linestyle=dashes, label=kind.title)
        for kind, dashes in zip(kinds, _DASHES, strict=False)
    ]
    drawing.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return drawing


def _objective_handles(**look: Any) -> list[Line2D]:
    """Return the entries of a legend, one for each objective."""
    return [
        Line2D([], [], color=colour, label=_OBJECTIVE_WORDS[name], **look)
        for name, colour in OBJECTIVE_COLOURS.items()
    ]


def _over_weights(panel: LetteredAxes, name: str, kinds: Sequence[Learning]) -> None:
    for kind, dashes in zip(kinds, _DASHES, strict=False):
        weights = np.array(sorted(kind.mixtures))
        values = np.stack([kind.mixtures[weight].final[name].to_numpy() for weight in weights])
        look = {"color": OBJECTIVE_COLOURS["mixture"], "linestyle": dashes, "marker": ".", "markersize": 4}
        panel.curve(f"mixture, {kind.title}", weights, values, **look)
    panel.title("the mixture, at the end")
    panel.axes.set(ylabel=_LABELS[name], xlabel=r"weight $\lambda$ of contrast")


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
    panels = iter(drawing.panels(grid.flat))
    for row, name in enumerate(names):
        for ordering in orderings:
            panel = next(panels)
            panel.title(ordering.title if row == 0 else "")
            panel.axes.set_xlabel(name)
            _draw_ordering(panel, ordering, name)
        grid[row, 0].set_ylabel(r"$R^2$ of local latents")
    handles = _objective_handles(linestyle="", marker="o", markersize=3.5)
    drawing.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return drawing


def _draw_ordering(panel: LetteredAxes, ordering: Ordering, name: str) -> None:
    """Draw each model as a dot, and write the rank correlation with its interval beside them."""
    # Dots are means over seeds; the correlation beside them is the mean of each seed's own.
    scores, quality = ordering.metrics[name].mean(0), ordering.quality.mean(0)
    for objective in dict.fromkeys(ordering.objectives):
        own = [index for index, each in enumerate(ordering.objectives) if each == objective]
        look: dict[str, Any] = {"color": OBJECTIVE_COLOURS[objective], "s": 11, "linewidths": 0, "alpha": 0.8}
        panel.axes.scatter(scores[own], quality[own], **look)
        panel.note_points(objective, scores[own].tolist(), quality[own].tolist())
    rho, low, high = agreement_interval(ordering.metrics[name], ordering.quality)
    words = rf"$\rho$ = {rho:.2f} [{low:.2f}, {high:.2f}]"
    panel.axes.text(0.98, 0.42, words, transform=panel.axes.transAxes, ha="right")
    panel.note_level(f"spearman {rho}", low, high)
