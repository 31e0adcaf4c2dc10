"""One page about one mean-field run: correlations, attention and loss over time."""

from __future__ import annotations

import numpy as np

from vitdyn.plotting.curves import PAIRS, attention_by_pair, by_pair, draw_curve, log_clock
from vitdyn.plotting.drawing import Drawing, drawn_in_style
from vitdyn.plotting.style import BLACK, PAGE_WIDTH, panel_title
from vitdyn.trajectory import Trajectory

_ATTENTION = ("local to own", "local to global", "global to own")


@drawn_in_style
def flow_page(trajectory: Trajectory) -> Drawing:
    """Draw Φ, area attention and the loss of a mean-field run against time; colours tell the kinds of pairs."""
    drawing = Drawing.of_size(PAGE_WIDTH, 3.2)
    panels = np.asarray(drawing.figure.subplots(1, 3))
    clock = trajectory["time"].to_numpy().astype(float)
    panel_title(panels[0], "a", "correlations")
    for pair, look in PAIRS.items():
        values = by_pair(trajectory, "feature_position", pair)
        draw_curve(panels[0], drawing, "a", pair, clock, values, color=look.colour, linestyle=look.dashes)
    panel_title(panels[1], "b", "attention to areas")
    for pair in _ATTENTION:
        look, values = PAIRS[pair], attention_by_pair(trajectory, pair)
        draw_curve(panels[1], drawing, "b", pair, clock, values, color=look.colour, linestyle=look.dashes)
    panels[1].set_ylim(-0.03, 1.03)
    panel_title(panels[2], "c", "loss")
    loss = trajectory["loss"].to_numpy()
    draw_curve(panels[2], drawing, "c", "loss", clock, loss / np.abs(loss[0]), color=BLACK)
    labels = (r"correlation $\Phi$", "area attention $A$", "loss over that at the start")
    for axes, label in zip(panels, labels, strict=True):
        axes.set(ylabel=label, xlabel="time of the flow")
        log_clock(axes, clock)
        axes.set_xlim(0, 3 * clock[-1])
    drawing.figure.legend(
        panels[0].lines, [look.words for look in PAIRS.values()], loc="outside lower center", ncols=3
    )
    return drawing
