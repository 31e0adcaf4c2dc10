"""Figure 11: the route to the own area, by the sign of the information gap Δ.

φ_1 against φ_a of a local query, both over log P, in the mean-field flow of masked reconstruction at P = 10^12,
κ_s = 0.3 and several κ_c. With Δ > 0 the path first goes down, to a corner predicted at −(Δ/2)/z for some z
in [L, U] (at the mask ratio 1/2 of these runs), then right; with Δ < 0 it goes right from the start.

Claims: none; it shows the phases of which MAE-AREA is the end.
Run:    python sims/11_phase_portrait.py [--quick | --full] [--redraw]
Takes:  0.1 minutes on two cores (--full is at P = 10^24); it needs no GPU.
"""

from math import log

from vitdyn._tables import text_table
from vitdyn.data import AreaSizes
from vitdyn.experiments import Experiment
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.curves import by_pair
from vitdyn.plotting.reduced import PortraitPath, draw_portrait
from vitdyn.reduced import MeanField
from vitdyn.theory import Regime, take_over_level
from vitdyn.trajectory import Trajectory

KAPPAS_C, KAPPA_S = (0.55, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95), 0.3


def experiments(scale: str) -> tuple[Experiment, ...]:
    """Return one flow for each κ_c, Δ rising."""
    patches = 1e24 if scale == "full" else 1e12
    return tuple(
        Experiment(
            name="portrait",
            training=MeanField(
                sizes=AreaSizes.from_exponents(patches, kappa_c, KAPPA_S), until=0.9, frames=192
            ),
        )
        for kappa_c in KAPPAS_C
    )


def path(experiment: Experiment, trajectory: Trajectory) -> PortraitPath:
    """Bring together a flow and its predicted corner."""
    sizes = experiment.training.sizes
    kappa_c, kappa_s = sizes.exponents
    regime = Regime(patches=sizes.patches, kappa_c=kappa_c, kappa_s=kappa_s)
    return PortraitPath(
        gap=sizes.information_gap,
        log_patches=log(sizes.patches),
        trajectory=trajectory,
        corner=take_over_level(regime, experiment.training.latents),
    )


def row(each: PortraitPath) -> tuple[float, ...]:
    """Return Δ, the predicted interval and the final φ_1 over log P."""
    final = by_pair(each.trajectory, "feature_position", "local to global")[-1, 0]
    return each.gap, *(value / each.log_patches for value in (each.corner.low, each.corner.high, final))


def draw(paths: list[PortraitPath]) -> Drawing:
    """Draw the figure."""
    return draw_portrait(paths)


def main(options: FigureOptions) -> None:
    """Follow the flows that are not there yet, print the corners and save the figure."""
    store = options.store
    paths = [path(each, store(each)) for each in experiments(options.scale)]
    print(
        text_table(("Δ", "predicted low", "predicted high", "φ_1/log P at the end"), [row(p) for p in paths])
    )
    print(save_figure(draw(paths), options.out / "11_phase_portrait"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
