"""Figure 2: masked reconstruction learns every area, local or global, at either sign of the information gap.

Correlations and area attention over training at Δ = +0.4, where φ_1 of a local query falls before its φ_a
grows (two phases), and at Δ = -0.3 (one phase).
The predicted levels are those at which attention shifts, not final values, and hold to leading order in
log P: constants that they leave out, such as log(1/(1 - γ))/z, about 0.6 here, are visible at P = 256.

Claims: MAE-AREA.
Run:    python sims/02_masked_reconstruction.py [--quick | --full] [--redraw]
Takes:  0.4 minutes on two cores (--full trains four times as many seeds); on a GPU: not measured.
"""

from vitdyn.claims import MAE_AREA, Case, judge
from vitdyn.claims.limits import limit_experiments
from vitdyn.experiments import Experiment
from vitdyn.objectives import MaskedReconstruction
from vitdyn.plotting import (
    Column,
    Drawing,
    FigureOptions,
    draw_dynamics,
    gap_words,
    run_script,
    save_figure,
    verdict_table,
)
from vitdyn.theory import Regime, global_query_level, own_area_level, take_over_level
from vitdyn.trajectory import Trajectory


def experiments(scale: str) -> tuple[Experiment, ...]:
    """Return the runs of the claim, first Δ > 0, then Δ < 0."""
    return limit_experiments(MaskedReconstruction(), scale)


def column(experiment: Experiment, trajectory: Trajectory) -> Column:
    """Bring together a run, what is predicted for it and what it says of the claim."""
    generator = experiment.training.generator
    regime, distribution = Regime.of(generator.layout), generator.latents
    predictions = {
        "local to own": own_area_level(regime, distribution),
        "local to global": take_over_level(regime, distribution),
        "global to own": global_query_level(regime, distribution),
    }
    return Column(
        title=gap_words(regime.information_gap),
        trajectory=trajectory,
        predictions=predictions,
        verdict=judge(MAE_AREA, Case.of(experiment), (trajectory,)),
    )


def draw(columns: list[Column]) -> Drawing:
    """Draw the figure."""
    return draw_dynamics(columns, target="own")


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    runs = experiments(options.scale)
    columns = [column(*each) for each in zip(runs, options.store.all(runs), strict=True)]
    print(verdict_table({each.title: each.verdict for each in columns}))
    print(save_figure(draw(columns), options.out / "02_masked_reconstruction"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
