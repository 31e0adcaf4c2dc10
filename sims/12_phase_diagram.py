"""Figure 12: what is learned does not depend on the exponents, the route does.

Mean-field flows at P = 10^6 over a grid of (κ_c, κ_s), followed until attention is 0.99: (a) attention of local
queries to their own area in masked reconstruction, (b) to the global area in contrast (K = 16 clusters), (c) how
far φ_1 has fallen on the way, in units of log P, in masked reconstruction: zero below the line Δ = 0, where
there is no first phase. Crosses are flows that stall before 0.99.

Claims: none; it shows MAE-AREA and CL-GLOBAL on both sides of Δ = 0.
Run:    python sims/12_phase_diagram.py [--quick | --full] [--redraw]
Takes:  0.4 minutes on two cores (--full has a grid of 40 x 40: 5 minutes); it needs no GPU.
The numbers drawn are kept with the figure, not the flows; --redraw reads them there.
"""

from math import log
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vitdyn._tables import text_table
from vitdyn.data import AreaSizes
from vitdyn.experiments import Experiment, run
from vitdyn.lumped import MeanField
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.curves import attention_by_pair, by_pair
from vitdyn.plotting.lumped import Map, draw_phase_diagram, followed, read_maps

PATCHES, STEM = 1e6, "12_phase_diagram"
TITLES = ("MAE: to the own area", "CL: to the global area", r"MAE: $\varphi_1\,/\,\log P$")


def axes_of(scale: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of κ_c and of κ_s."""
    count = 40 if scale == "full" else 12
    return np.linspace(0.54, 0.98, count), np.linspace(0.05, 0.5, count)


def experiment(objective: Objective, kappa_c: float, kappa_s: float) -> Experiment:
    """Return the flow of one cell."""
    sizes = AreaSizes.from_exponents(PATCHES, float(kappa_c), float(kappa_s))
    clusters = 16 if isinstance(objective, Contrastive) else 1
    spec = MeanField(sizes=sizes, objective=objective, clusters=clusters, nodes=12, frames=8)
    return Experiment(name="phase-diagram", training=spec)


def cell(kappa_c: float, kappa_s: float) -> tuple[float, float, float]:
    """Return the three numbers of one cell; NaN where a flow stalls."""
    found = followed(run, experiment(MaskedReconstruction(), kappa_c, kappa_s))
    contrast = followed(run, experiment(Contrastive(), kappa_c, kappa_s))
    return (
        attention_by_pair(found, "local to own")[-1, 0] if found else np.nan,
        attention_by_pair(contrast, "local to global")[-1, 0] if contrast else np.nan,
        by_pair(found, "feature_position", "local to global")[-1, 0] / log(PATCHES) if found else np.nan,
    )


def values_of(options: FigureOptions, table: Path) -> list[np.ndarray]:
    """Follow the flows of all cells, or read what was drawn."""
    if options.redraw:
        return read_maps(table, "abc")
    across, up = axes_of(options.scale)
    cells = [(kappa_c, kappa_s) for kappa_s in up for kappa_c in across]
    found = [cell(*each) for each in tqdm(cells, desc="cells", leave=False)]
    return list(np.array(found).T.reshape(3, len(up), len(across)))


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
