"""One page about one run in order parameters: correlations, attention and, where recorded, the loss over time."""

from __future__ import annotations

import numpy as np

from vitdyn.plotting.curves import PAIRS, draw_attention, draw_correlations, log_clock
from vitdyn.plotting.drawing import Drawing, drawn_in_style
from vitdyn.plotting.style import BLACK, PAGE_WIDTH
from vitdyn.trajectory import Trajectory


@drawn_in_style
def flow_page(trajectory: Trajectory) -> Drawing:
    """Draw Φ, area attention and the loss, where it is recorded, against time; colours tell the kinds of pairs."""
    drawing = Drawing.of_size(PAGE_WIDTH, 3.2)
    has_loss = "loss" in trajectory.dataset
    grid = drawing.figure.subplots(1, 3 if has_loss else 2)
    panels = drawing.panels(grid)
    correlations, attention = panels[:2]
    clock = trajectory["time"].to_numpy().astype(float)
    correlations.title("correlations")
    draw_correlations(correlations, trajectory, clock)
    attention.title("attention to areas")
    draw_attention(attention, trajectory, clock)
    if has_loss:
        panels[2].title("loss")
        loss = trajectory["loss"].to_numpy()
        panels[2].curve("loss", clock, loss / np.abs(loss[0]), color=BLACK)
    labels = (r"correlation $\Phi$", "area attention $A$", "loss over that at the start")
    for axes, label in zip(grid, labels, strict=False):
        axes.set(ylabel=label, xlabel="time")
        log_clock(axes, clock)
        # What happens last would else stand on the frame.
        axes.set_xlim(0, 3 * clock[-1])
    drawing.figure.legend(
        grid[0].lines, [look.words for look in PAIRS.values()], loc="outside lower center", ncols=3
    )
    return drawing
