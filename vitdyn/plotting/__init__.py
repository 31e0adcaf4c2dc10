"""Figures: trajectories, verdicts and layouts drawn in one style. The only room that knows matplotlib.

>>> sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=0.3)
>>> drawing = vd.plot.flow_page(vd.integrate(vd.MeanField(sizes=sizes)))
>>> drawing.rows[0][:2]
('a', 'local to own')
"""

import vitdyn.plotting._home  # noqa: F401  (before matplotlib, which looks for its folder once)
from vitdyn.plotting.areas import draw_data
from vitdyn.plotting.by_head import draw_by_head
from vitdyn.plotting.claim_figure import draw_verdicts
from vitdyn.plotting.drawing import Drawing, save_figure
from vitdyn.plotting.dynamics import Column, draw_dynamics
from vitdyn.plotting.flow_page import flow_page
from vitdyn.plotting.photograph import Photograph, draw_photographs
from vitdyn.plotting.script import FigureOptions, gap_words, run_script, verdict_table
from vitdyn.plotting.summary import summary_page

__all__ = [
    "Column",
    "Drawing",
    "FigureOptions",
    "Photograph",
    "draw_by_head",
    "draw_data",
    "draw_dynamics",
    "draw_photographs",
    "draw_verdicts",
    "flow_page",
    "gap_words",
    "run_script",
    "save_figure",
    "summary_page",
    "verdict_table",
]
