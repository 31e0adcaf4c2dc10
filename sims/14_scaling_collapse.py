"""Figure 14: curves at P = 10^4 to 10^16 fall together once time is divided by its predicted power of P.

Mean-field flows at κ_c = 0.9, κ_s = 0.3: φ_a/log P and own-area attention of a local query in masked
reconstruction against t/P^{1 − κ_s}, and attention to the global area in contrast (K = 16 clusters) against
t/P^{1 + 2(1 − κ_c)}; on the left as they are, on the right rescaled.

Claims: none; it shows the rates of MAE-AREA and CL-GLOBAL.
Run:    python sims/14_scaling_collapse.py [--quick | --full] [--redraw]
Takes:  0.1 minutes on two cores (--full has twice as many sizes); it needs no GPU.
"""

from math import log

import numpy as np

from vitdyn._tables import text_table
from vitdyn.data import AreaSizes
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.curves import attention_by_pair, by_pair
from vitdyn.plotting.reduced import CollapseRow, draw_collapse
from vitdyn.reduced import MeanField, crossing_time
from vitdyn.theory import Regime, contrastive_time, local_area_time
from vitdyn.trajectory import Trajectory

KAPPA_C, KAPPA_S = 0.9, 0.3


def experiments(scale: str) -> tuple[Experiment, ...]:
    """Return the flows, P rising, of masked reconstruction first."""
    return tuple(
        Experiment(
            name="collapse",
            training=MeanField(
                sizes=AreaSizes.from_exponents(float(patches), KAPPA_C, KAPPA_S),
                objective=objective,
                clusters=clusters,
                frames=256,
            ),
        )
        for objective, clusters in ((MaskedReconstruction(), 1), (Contrastive(), 16))
        for patches in np.logspace(4, 16, 13 if scale == "full" else 7)
    )


def rows(found: list[tuple[float, Trajectory]]) -> list[CollapseRow]:
    """Bring together curves and predicted exponents."""
    half = len(found) // 2
    regime = Regime(patches=found[-1][0], kappa_c=KAPPA_C, kappa_s=KAPPA_S)
    local, contrast = local_area_time(regime).exponent, contrastive_time(regime).exponent

    def clock(trajectory: Trajectory) -> np.ndarray:
        return trajectory["time"].to_numpy()

    levels = [
        (P, clock(t), by_pair(t, "feature_position", "local to own")[:, 0] / log(P)) for P, t in found[:half]
    ]
    own = [(P, clock(t), attention_by_pair(t, "local to own")[:, 0]) for P, t in found[:half]]
    central = [(P, clock(t), attention_by_pair(t, "local to global")[:, 0]) for P, t in found[half:]]
    return [
        CollapseRow(title="MAE", symbol=r"$\varphi_a\,/\,\log P$", exponent=local, curves=levels),
        CollapseRow(title="MAE", symbol="own-area attention", exponent=local, curves=own),
        CollapseRow(title="CL", symbol="attention to global", exponent=contrast, curves=central),
    ]


def draw(made: list[CollapseRow]) -> Drawing:
    """Draw the figure."""
    return draw_collapse(made)


def main(options: FigureOptions) -> None:
    """Follow the flows that are not there yet, print the rescaled times and save the figure."""
    store = options.store
    chosen = experiments(options.scale)
    found = [(each.training.sizes.patches, store(each)) for each in chosen]
    made, half = rows(found), len(found) // 2
    table = [
        (f"{size:.0e}", row.title, crossing_time(trajectory, values, 0.5) / size**row.exponent)
        for row, part in zip(made[1:], (found[:half], found[half:]), strict=True)
        for (size, _, values), (_, trajectory) in zip(row.curves, part, strict=True)
    ]
    print(text_table(("P", "objective", "rescaled time of attention 1/2"), table))
    print(save_figure(draw(made), options.out / "14_scaling_collapse"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
