"""One page about one run: what was trained, and what it learned."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from vitdyn._specs import decode
from vitdyn.data import PatchLayout
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.curves import PAIRS, attention_by_pair, by_pair, draw_curve, log_clock, present
from vitdyn.plotting.drawing import Drawing, drawn_in_style
from vitdyn.plotting.style import BLACK, ORANGE, PAGE_WIDTH, SHARE_MAP, VERMILLION, panel_title
from vitdyn.trajectory import Trajectory

_ATTENTION = ("local to own", "local to global", "global to own")
_CONTENT = (
    ("content_position", "Ψ", r"$\Psi$ local to own", BLACK, "-"),
    ("content_content", "Ξ", r"$\Xi$ local to own", ORANGE, "--"),
)


@drawn_in_style
def summary_page(trajectory: Trajectory) -> Drawing:
    """Draw one page about a run of any objective.

    The panels are the correlations Φ, area attention, the loss and its excess over the lower bound, the other
    correlations, and the final attention between areas for the first two clusters (with one cluster, the
    diversity of attention takes the second place). Lines are medians over seeds of means over positions,
    bands reach from the least to the largest seed. The specification stands on top, in words.
    """
    drawing = Drawing.of_size(PAGE_WIDTH, 8.6)
    head, body = np.asarray(drawing.figure.subfigures(2, 1, height_ratios=[0.2, 1]))
    _write_head(head, trajectory)
    panels = body.subplots(3, 2).ravel()
    clock = trajectory["step"].to_numpy().astype(float)

    panel_title(panels[0], "a", "feature-position correlations")
    for pair, look in PAIRS.items():
        values = by_pair(trajectory, "feature_position", pair)
        draw_curve(panels[0], drawing, "a", pair, clock, values, color=look.colour, linestyle=look.dashes)
    panel_title(panels[1], "b", "attention to areas")
    for pair in _ATTENTION:
        look, values = PAIRS[pair], attention_by_pair(trajectory, pair)
        draw_curve(panels[1], drawing, "b", pair, clock, values, color=look.colour, linestyle=look.dashes)
    panels[1].set_ylim(-0.03, 1.03)
    _draw_loss(panels[2], drawing, clock, trajectory)
    _draw_other_correlations(panels[3], drawing, clock, trajectory)
    for axes, label in zip(
        panels, (r"correlation $\Phi$", "area attention $A$", "loss", "correlation"), strict=False
    ):
        axes.set(ylabel=label, xlabel="steps of descent")
        log_clock(axes, clock)
    _draw_last_row(panels[4:], drawing, clock, trajectory)
    return drawing


@checked
def describe_run(trajectory: Trajectory) -> list[str]:
    """Return the specification in words, one line for the data, one for training, one for the result."""
    training = trajectory.spec["training"]
    layout = decode(training["generator"]["layout"], (PatchLayout,))
    objective, law = training["objective"], training["generator"]["latents"]
    steps, time = (float(trajectory.final[name]) for name in ("step", "time"))
    rate = f"{time / steps:g}" if steps else "the objective's own"
    descent = training["descent"] or {"kind": "GradientDescent", "learning_rate": rate}
    source = f"a data set of {training['data_set_size']}" if training["data_set_size"] else "fresh samples"
    queries = "queries carry content" if training["content_queries"] else "queries carry their position only"
    attributes, count = trajectory.dataset.attrs, trajectory.dataset.sizes["seed"]
    return [
        f"{layout.describe()}; latents {law['kind']} ({_fields(law)})",
        f"{objective['kind']} ({_fields(objective)}); {descent['kind']} ({_fields(descent)}), "
        f"{training['steps']} steps, {training['samples']} samples a step from {source}; {queries}",
        f"{count} {'seed' if count == 1 else 'seeds'}, {training['precision']} on {attributes['device']}, "
        f"{attributes['seconds']:.0f} s; {attributes['versions'].split()[0].replace('=', ' ')}",
    ]


def _fields(spec: dict[str, Any]) -> str:
    shown = [
        f"{name.replace('_', ' ')} {value}" for name, value in spec.items() if name not in ("kind", "layout")
    ]
    return ", ".join(text if len(text) < 60 else f"{text[:57]}..." for text in shown)


def _write_head(head: SubFigure, trajectory: Trajectory) -> None:
    kind = trajectory.spec["training"]["objective"]["kind"]
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in kind).strip().lower()
    head.text(0.01, 0.97, f"What one layer learned: {words}", fontsize=10.5, fontweight="bold", va="top")
    lines = [line for text in describe_run(trajectory) for line in textwrap.wrap(text, 122)]
    head.text(0.01, 0.78, "\n".join(lines[:6]), fontsize=7.5, va="top", linespacing=1.35)
    keys = [
        Line2D([], [], color=look.colour, linestyle=look.dashes, label=f"{look.symbol}  {look.words}")
        for look in PAIRS.values()
    ]
    head.legend(handles=keys, loc="lower left", ncols=3, bbox_to_anchor=(0, -0.06), columnspacing=1.5)


def _draw_loss(
    axes: Axes, drawing: Drawing, clock: Float[np.ndarray, " frame"], trajectory: Trajectory
) -> None:
    panel_title(axes, "c", "objective")
    for name, words, colour in (("loss", "loss", BLACK), ("excess_loss", "above its lower bound", ORANGE)):
        values = trajectory[name].to_numpy().astype(float)
        draw_curve(
            axes, drawing, "c", words, clock, np.where(values > 0, values, np.nan), color=colour, label=words
        )
    low, high = axes.dataLim.intervaly
    axes.set_yscale("log" if high > 10 * low > 0 else "linear")
    axes.legend(loc="best")


def _draw_other_correlations(
    axes: Axes, drawing: Drawing, clock: Float[np.ndarray, " frame"], trajectory: Trajectory
) -> None:
    content = "content_position" in trajectory.dataset
    words = (
        r"position ($\Upsilon$) and content ($\Psi$, $\Xi$)" if content else "position-position correlations"
    )
    panel_title(axes, "d", words)
    for pair in _ATTENTION:
        values, look = by_pair(trajectory, "position_position", pair), PAIRS[pair]
        draw_curve(axes, drawing, "d", f"Υ {pair}", clock, values, color=look.colour, linestyle=look.dashes)
    if not content:
        return
    for name, symbol, words, colour, dashes in _CONTENT:
        values = by_pair(trajectory, name, "local to own")
        draw_curve(
            axes, drawing, "d", f"{symbol} local to own", clock, values, color=colour, ls=dashes, label=words
        )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.2 * (high - low))  # room for the legend
    axes.legend(loc="upper left", ncols=2)


def _draw_last_row(
    panels: np.ndarray, drawing: Drawing, clock: Float[np.ndarray, " frame"], trajectory: Trajectory
) -> None:
    clusters = trajectory.dataset.sizes["cluster"]
    for index, axes in enumerate(panels):
        if index < clusters:
            _draw_matrix(axes, drawing, "ef"[index], trajectory, index)
            continue
        panel_title(axes, "f", "diversity of attention")
        values = trajectory["attention_diversity"].to_numpy().astype(float)
        draw_curve(axes, drawing, "f", "attention diversity", clock, values, color=VERMILLION)
        axes.set(xlabel="steps of descent", ylabel="mean of the 10 largest key scores")
        log_clock(axes, clock)


def _draw_matrix(axes: Axes, drawing: Drawing, panel: str, trajectory: Trajectory, cluster: int) -> None:
    values = (
        trajectory.final["area_attention"]
        .sel(statistic="mean")
        .isel(cluster=cluster)
        .to_numpy()
        .astype(float)
    )
    exists = ~np.isnan(values).all((0, 1))
    matrix = present(np.nanmedian, values, 0)[np.ix_(exists, exists)]
    picture = axes.imshow(matrix, cmap=SHARE_MAP, vmin=0, vmax=1, aspect="equal")
    drawing.note_grid(panel, f"final area attention, cluster {cluster + 1}", matrix)
    panel_title(axes, panel, f"final attention, cluster {cluster + 1}")
    axes.set(xlabel="area attended to (0: global)", ylabel="area of the query")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))
    bar = axes.figure.colorbar(picture, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label("area attention $A$")
