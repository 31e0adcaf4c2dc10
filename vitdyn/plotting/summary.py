"""One page about one run: what was trained, and what it learned."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vitdyn._axes import GLOBAL_AREA
from vitdyn._specs import decode
from vitdyn.data import PatchLayout
from vitdyn.observables import least_global_attention, least_own_area_attention
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.curves import (
    ATTENTION_PAIRS,
    PAIRS,
    by_pair,
    draw_attention,
    draw_correlations,
    log_clock,
)
from vitdyn.plotting.drawing import Drawing, LetteredAxes, drawn_in_style, present
from vitdyn.plotting.style import BLACK, ORANGE, PAGE_WIDTH, SHARE_MAP, VERMILLION
from vitdyn.trajectory import Trajectory

_CONTENT = (
    ("content_position", "Ψ", r"$\Psi$ local to own", BLACK, "-"),
    ("content_content", "Ξ", r"$\Xi$ local to own", ORANGE, "--"),
)


@drawn_in_style
def summary_page(trajectory: Trajectory) -> Drawing:
    """Draw one page about a run of any objective.

    The panels are the correlations Φ, area attention, the loss and its excess over the lower bound, the other
    correlations, and the final attention between areas for the first two clusters (with one cluster, the
    diversity of attention takes the second place). Of a model without correlations the error of reconstruction and the
    positions that attend least stand in their places; a panel says what was not recorded. Lines are medians over seeds
    of means over positions, bands reach from the least to the largest seed. The specification stands on top, in words.
    """
    drawing = Drawing.of_size(PAGE_WIDTH, 8.6)
    head, body = np.asarray(drawing.figure.subfigures(2, 1, height_ratios=[0.2, 1]))
    _write_head(head, trajectory)
    panels = drawing.panels(body.subplots(3, 2).flat)
    clock = trajectory["step"].to_numpy().astype(float)

    _draw_correlations(panels[0], clock, trajectory)
    panels[1].title("attention to areas")
    if _has(trajectory, "area_attention", panels[1]):
        draw_attention(panels[1], trajectory, clock)
    _draw_loss(panels[2], clock, trajectory)
    _draw_other_correlations(panels[3], clock, trajectory)
    for panel, label in zip(panels[1:3], ("area attention $A$", "loss"), strict=True):
        panel.axes.set_ylabel(label)
    for panel in panels[:4]:
        panel.axes.set_xlabel("steps of descent")
        log_clock(panel.axes, clock)
    _draw_last_row(panels[4:], clock, trajectory)
    return drawing


@checked
def describe_run(trajectory: Trajectory) -> list[str]:
    """Return the specification in words, one line for the data, one for training, one for the result."""
    training = trajectory.spec["training"]
    layout = decode(training["generator"]["layout"], (PatchLayout,))
    objective, distribution = training["objective"], training["generator"]["latents"]
    steps, time = (float(trajectory.final[name]) for name in ("step", "time"))
    rate = f"{time / steps:g}" if steps else "the objective's own"
    optimizer = training["optimizer"] or {"kind": "GradientDescent", "learning_rate": rate}
    source = f"a data set of {training['dataset_size']}" if training["dataset_size"] else "fresh samples"
    model = "queries carry content" if training["content_queries"] else "queries carry their position only"
    if "model" in training:
        model = f"{_name(training['model'])} ({_fields(training['model'])})"
    departures = _fields({name: each for name, each in training["generator"].items() if name != "latents"})
    beyond = f"; {departures}" if departures else ""
    attributes, count = trajectory.dataset.attrs, trajectory.dataset.sizes["seed"]
    return [
        f"{layout.describe()}; latents {_name(distribution)} ({_fields(distribution)}){beyond}",
        f"{_name(objective)} ({_fields(objective)}); {_name(optimizer)} ({_fields(optimizer)}), "
        f"{training['steps']} steps, {training['batch_size']} samples a step from {source}; {model}",
        f"{count} {'seed' if count == 1 else 'seeds'}, {training['precision']} on {attributes['device']}, "
        f"{attributes['seconds']:.0f} s; {attributes['versions'].split()[0].replace('=', ' ')}",
    ]


def _fields(spec: dict[str, Any]) -> str:
    shown = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in spec.items()
        if name not in ("kind", "layout", "code")
    ]
    return ", ".join(text if len(text) < 60 else f"{text[:57]}..." for text in shown)


def _name(spec: dict[str, Any]) -> str:
    """Return the class of a specification, of a user's own without its module."""
    return spec["kind"].rpartition(":")[2]


def _write_head(head: SubFigure, trajectory: Trajectory) -> None:
    kind = _name(trajectory.spec["training"]["objective"])
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in kind).strip().lower()
    model = trajectory.spec["training"].get("model")
    who = f"a {_name(model)}" if model else "one layer"
    head.text(0.01, 0.97, f"What {who} learned: {words}", fontsize=10.5, fontweight="bold", va="top")
    lines = [line for text in describe_run(trajectory) for line in textwrap.wrap(text, 122)]
    head.text(0.01, 0.78, "\n".join(lines[:6]), fontsize=7.5, va="top", linespacing=1.35)
    keys = [
        Line2D([], [], color=look.colour, linestyle=look.dashes, label=f"{look.symbol}  {look.words}")
        for look in PAIRS.values()
    ]
    head.legend(handles=keys, loc="lower left", ncols=3, bbox_to_anchor=(0, -0.06), columnspacing=1.5)


def _has(trajectory: Trajectory, name: str, panel: LetteredAxes) -> bool:
    """Return whether a trajectory holds an observable; where it does not, say so in the panel."""
    found = name in trajectory.dataset
    if not found:
        words = f"not recorded: {name.replace('_', ' ')}"
        panel.axes.text(0.5, 0.5, words, ha="center", transform=panel.axes.transAxes)
    return found


def _draw_correlations(
    panel: LetteredAxes, clock: Float[np.ndarray, " frame"], trajectory: Trajectory
) -> None:
    """Draw Φ, or, of a model that has none, the error of masked patches of local areas and of the global one."""
    if "feature_position" in trajectory.dataset:
        panel.title("feature-position correlations")
        panel.axes.set_ylabel(r"correlation $\Phi$")
        draw_correlations(panel, trajectory, clock)
        return
    panel.title("reconstruction")
    panel.axes.set_ylabel(r"mean $\frac{1}{2}\|F_p - X_p\|^2$")
    if _has(trajectory, "reconstruction_error", panel):
        errors = trajectory["reconstruction_error"]
        areas = {"local": slice(GLOBAL_AREA + 1, None), "global": slice(GLOBAL_AREA, GLOBAL_AREA + 1)}
        for words, where in areas.items():
            look = PAIRS[f"{words} to own"]
            values = errors.isel(query_area=where).mean(("cluster", "query_area")).to_numpy().astype(float)
            panel.curve(f"{words} queries", clock, values, color=look.colour, ls=look.dashes)


def _draw_loss(panel: LetteredAxes, clock: Float[np.ndarray, " frame"], trajectory: Trajectory) -> None:
    panel.title("objective")
    if not _has(trajectory, "loss", panel):
        return
    for name, words, colour in (("loss", "loss", BLACK), ("excess_loss", "above its lower bound", ORANGE)):
        values = trajectory.dataset.get(name, trajectory["loss"] * np.nan).to_numpy().astype(float)
        if name == "loss" or not np.isnan(values).all():  # of some models no bound is known
            panel.curve(words, clock, np.where(values > 0, values, np.nan), color=colour, label=words)
    low, high = panel.axes.dataLim.intervaly
    # A linear axis would hide the end of a loss that falls by a factor of ten.
    panel.axes.set_yscale("log" if high > 10 * low > 0 else "linear")
    panel.axes.legend(loc="best")


def _draw_other_correlations(
    panel: LetteredAxes, clock: Float[np.ndarray, " frame"], trajectory: Trajectory
) -> None:
    if "position_position" not in trajectory.dataset:
        _draw_least(panel, clock, trajectory)
        return
    panel.axes.set_ylabel("correlation")
    content = "content_position" in trajectory.dataset
    words = (
        r"position ($\Upsilon$) and content ($\Psi$, $\Xi$)" if content else "position-position correlations"
    )
    panel.title(words)
    for pair in ATTENTION_PAIRS:
        values, look = by_pair(trajectory, "position_position", pair), PAIRS[pair]
        panel.curve(f"Υ {pair}", clock, values, color=look.colour, linestyle=look.dashes)
    if not content:
        return
    for name, symbol, words, colour, dashes in _CONTENT:
        values = by_pair(trajectory, name, "local to own")
        panel.curve(f"{symbol} local to own", clock, values, color=colour, ls=dashes, label=words)
    low, high = panel.axes.get_ylim()
    panel.axes.set_ylim(low, high + 0.2 * (high - low))  # room for the legend
    panel.axes.legend(loc="upper left", ncols=2)


def _draw_least(panel: LetteredAxes, clock: Float[np.ndarray, " frame"], trajectory: Trajectory) -> None:
    """Draw what the position that attends least gives to its own area, and to the global one."""
    panel.title("the position that attends least")
    panel.axes.set_ylabel("area attention $A$")
    if _has(trajectory, "own_area_attention", panel) and _has(trajectory, "area_attention", panel):
        for words, pair, least in (
            ("its own area", "local to own", least_own_area_attention),
            ("the global area", "local to global", least_global_attention),
        ):
            values = least(trajectory).astype(float)
            panel.curve(f"least to {words}", clock, values, color=PAIRS[pair].colour, label=f"to {words}")
        panel.axes.legend(loc="best")


def _draw_last_row(
    panels: list[LetteredAxes], clock: Float[np.ndarray, " frame"], trajectory: Trajectory
) -> None:
    clusters = trajectory.dataset.sizes.get("cluster", 1)
    for index, panel in enumerate(panels):
        if index < clusters:
            panel.title(f"final attention, cluster {index + 1}")
            if _has(trajectory, "area_attention", panel):
                _draw_matrix(panel, trajectory, index)
            continue
        panel.title("diversity of attention")
        if not _has(trajectory, "top_key_concentration", panel):
            continue
        values = trajectory["top_key_concentration"].to_numpy().astype(float)
        panel.curve("top-key concentration", clock, values, color=VERMILLION)
        panel.axes.set(xlabel="steps of descent", ylabel="mean of the 10 largest key scores")
        log_clock(panel.axes, clock)


def _draw_matrix(panel: LetteredAxes, trajectory: Trajectory, cluster: int) -> None:
    axes, attention = panel.axes, trajectory.final["area_attention"].sel(statistic="mean")
    values = attention.isel(cluster=cluster).to_numpy().astype(float)
    # Areas that this cluster does not have are left out.
    exists = ~np.isnan(values).all((0, 1))
    matrix = present(np.nanmedian, values, 0)[np.ix_(exists, exists)]
    picture = axes.imshow(matrix, cmap=SHARE_MAP, vmin=0, vmax=1, aspect="equal")
    panel.note_grid(f"final area attention, cluster {cluster + 1}", matrix)
    axes.set(xlabel="area attended to (0: global)", ylabel="area of the query")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))
    bar = axes.figure.colorbar(picture, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("area attention $A$")
