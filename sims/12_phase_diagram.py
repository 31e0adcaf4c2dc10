"""Figure 12: what is learned does not depend on the exponents, the route does.

Mean-field flows at P = 10^6 over a grid of (κ_c, κ_s), followed until attention is 0.99: (a) attention of local
queries to their own area in masked reconstruction, (b) to the global area in contrast (K = 16 clusters), (c) how
far φ_1 has fallen on the way, in units of log P, in masked reconstruction: zero below the line Δ = 0, where
there is no first phase. Crosses are flows that stall before 0.99.

Claims: none; it shows MAE-AREA and CL-GLOBAL on both sides of Δ = 0.
Run:    python sims/12_phase_diagram.py [--quick | --full] [--redraw]
Takes:  0.3 minutes on two cores (--full has a grid of 40 x 40: 0.5 minutes); it needs no GPU.
The numbers drawn are kept with the figure, not the flows; --redraw reads them there.
"""

from math import log
from pathlib import Path

import numpy as np

from vitdyn._tables import text_table
from vitdyn.data import AreaSizes
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.reduced import Map, draw_phase_diagram, read_maps
from vitdyn.reduced import MeanField, integrate_batch
from vitdyn.reduced.attention import ORDER_PARAMETERS

PATCHES, STEM = 1e6, "12_phase_diagram"
LOCAL_TO_GLOBAL, LOCAL_TO_OWN = map(ORDER_PARAMETERS.index, ("local φ_1", "local φ_a"))
TITLES = ("MAE: to the own area", "CL: to the global area", r"MAE: $\varphi_1\,/\,\log P$")


def axes_of(scale: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of κ_c and of κ_s."""
    count = 40 if scale == "full" else 20
    return np.linspace(0.54, 0.98, count), np.linspace(0.05, 0.5, count)


def cells(objective: Objective, scale: str) -> list[MeanField]:
    """Return the flows of all cells, κ_c running fastest."""
    across, up = axes_of(scale)
    clusters = 16 if isinstance(objective, Contrastive) else 1
    return [
        MeanField(
            sizes=AreaSizes.from_exponents(PATCHES, float(kappa_c), float(kappa_s)),
            objective=objective,
            clusters=clusters,
            nodes=12,
            tolerance=1e-4,
        )
        for kappa_s in up
        for kappa_c in across
    ]


def values_of(options: FigureOptions, table: Path) -> list[np.ndarray]:
    """Follow the flows of all cells, all at once, or read what was drawn; NaN where a flow stalls."""
    if options.redraw:
        return read_maps(table, "abc")
    rebuilt = integrate_batch(cells(MaskedReconstruction(), options.scale))
    contrast = integrate_batch(cells(Contrastive(), options.scale))
    pictures = (
        np.where(rebuilt.stalled, np.nan, rebuilt.attention[:, LOCAL_TO_OWN]),
        np.where(contrast.stalled, np.nan, contrast.attention[:, LOCAL_TO_GLOBAL]),
        np.where(rebuilt.stalled, np.nan, rebuilt.state[:, LOCAL_TO_GLOBAL] / log(PATCHES)),
    )
    across, up = axes_of(options.scale)
    return [picture.reshape(len(up), len(across)) for picture in pictures]


def maps_of(values: list[np.ndarray], scale: str) -> list[Map]:
    """Bring together pictures and their axes."""
    across, up = axes_of(scale)
    return [
        Map(title=title, x=across, y=up, values=each, share=title != TITLES[2])
        for title, each in zip(TITLES, values, strict=True)
    ]


def draw(maps: list[Map]) -> Drawing:
    """Draw the figure."""
    return draw_phase_diagram(maps)


def main(options: FigureOptions) -> None:
    """Fill the grid, print its extremes and save the figure."""
    values = values_of(options, options.out / f"{STEM}.csv")
    rows = [
        (title, np.nanmin(each), np.nanmax(each), int(np.isnan(each).sum()))
        for title, each in zip(("MAE own", "CL global", "MAE φ_1/log P"), values, strict=True)
    ]
    print(text_table(("map", "least", "largest", "stalled"), rows))
    print(save_figure(draw(maps_of(values, options.scale)), options.out / STEM))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
