"""Figure 10: how long training takes, as a power of the number of patches, from P = 10^4 to 10^24.

Times T at which mean attention passes 1/2 in the mean-field flow: of masked reconstruction, local queries to
their own area (predicted exponent 1 - κ_s) and global queries (1 - κ_c); of contrast with K = 16 clusters, all
queries to the global area (1 + 2(1 - κ_c)). Lines have the predicted slopes. The last panel shows how the slope
between neighbouring P approaches the prediction.

Claims: none; the mean field stands in for simulations that no machine could hold.
Run:    python sims/10_exponents.py [--quick | --full] [--redraw]
Takes:  0.3 minutes on two cores (--full has twice as many sizes); it needs no GPU.
"""

import numpy as np

from vitdyn._tables import text_table
from vitdyn.data import AreaSizes
from vitdyn.experiments import Experiment, ResultStore
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.curves import attention_by_pair
from vitdyn.plotting.reduced import PowerLaw, draw_exponents, followed
from vitdyn.reduced import MeanField, crossing_time
from vitdyn.theory import Regime, contrastive_time, global_area_time, local_area_time

MAE, CL = MaskedReconstruction(), Contrastive()
CURVES = (
    ("MAE, local", "local to own", MAE, local_area_time, ((0.9, 0.1), (0.9, 0.3), (0.9, 0.5))),
    ("MAE, global", "global to own", MAE, global_area_time, ((0.6, 0.3), (0.75, 0.3), (0.9, 0.3))),
    ("CL, all queries", "local to global", CL, contrastive_time, ((0.6, 0.3), (0.75, 0.3), (0.9, 0.3))),
)


def sizes(scale: str) -> np.ndarray:
    """Return the numbers of patches."""
    return np.logspace(4, 24, 21 if scale == "full" else 11)


def experiment(objective: Objective, patches: float, kappa_c: float, kappa_s: float) -> Experiment:
    """Return one flow, followed until attention is 0.9."""
    spec = MeanField(
        sizes=AreaSizes.from_exponents(float(patches), kappa_c, kappa_s),
        objective=objective,
        clusters=16 if objective is CL else 1,
        until=0.9,
    )
    return Experiment(name="exponents", training=spec)


def experiments(scale: str) -> tuple[Experiment, ...]:
    """Return all flows."""
    return tuple(
        experiment(objective, patches, *kappas)
        for _, _, objective, _, cases in CURVES
        for kappas in cases
        for patches in sizes(scale)
    )


def laws(store: ResultStore, scale: str) -> list[PowerLaw]:
    """Follow the flows and read off their times."""
    made = []
    for panel, pair, objective, rate, cases in CURVES:
        for kappas in cases:
            times = []
            for patches in sizes(scale):
                found = followed(store, experiment(objective, patches, *kappas))
                attention = attention_by_pair(found, pair)[:, 0] if found else None
                times.append(np.nan if attention is None else crossing_time(found, attention, 0.5))
            regime = Regime(patches=sizes(scale)[-1], kappa_c=kappas[0], kappa_s=kappas[1])
            symbol = (
                rf"$\kappa_s = {kappas[1]:g}$" if pair == "local to own" else rf"$\kappa_c = {kappas[0]:g}$"
            )
            exponent = rate(regime).exponent
            made.append(
                PowerLaw(
                    panel=panel, label=symbol, patches=sizes(scale), times=np.array(times), exponent=exponent
                )
            )
    return made


def draw(found: list[PowerLaw]) -> Drawing:
    """Draw the figure."""
    return draw_exponents(found)


def main(options: FigureOptions) -> None:
    """Follow the flows that are not there yet, print the slopes and save the figure."""
    found = laws(options.store, options.scale)
    rows = [(law.panel, law.label.strip("$"), law.exponent, law.slopes[0], law.slopes[-1]) for law in found]
    print(text_table(("times", "case", "predicted", "slope at least P", "slope at largest P"), rows))
    print(save_figure(draw(found), options.out / "10_exponents"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
