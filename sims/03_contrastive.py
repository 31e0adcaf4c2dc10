"""Figure 3: contrast draws every query, local ones too, to the global area, at either sign of the information gap.

Correlations and area attention over training at Δ = +0.4 and Δ = -0.3. Local and global queries move alike:
mean pooling treats all queries alike, so that from Q = 0 their rows of Φ and Υ stay equal.
The predicted levels are those at which attention shifts, not final values, and hold to leading order in
log P: constants that they leave out, such as log(1/(1 - γ))/z, about 0.6 here, are visible at P = 256.

Claims: CL-GLOBAL.
Run:    python sims/03_contrastive.py [--quick | --full] [--redraw]
Takes:  0.6 minutes on two cores (--full trains four times as many seeds); on a GPU: not measured.
"""

from vitdyn.claims import CL_GLOBAL, Case, judge
from vitdyn.claims.limits import limit_experiments
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive
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
from vitdyn.theory import Regime, contrastive_level
from vitdyn.trajectory import Trajectory


def experiments(scale: str) -> tuple[Experiment, ...]:
    """Return the runs of the claim, first Δ > 0, then Δ < 0."""
    return limit_experiments(Contrastive(), scale)


def column(experiment: Experiment, trajectory: Trajectory) -> Column:
    """Bring together a run, what is predicted for it and what it says of the claim."""
    generator = experiment.training.generator
    regime, distribution = Regime.of(generator.layout), generator.latents
    level = contrastive_level(regime, distribution)
    return Column(
        title=gap_words(regime.information_gap),
        trajectory=trajectory,
        predictions={"local to global": level, "global to own": level},
        verdict=judge(CL_GLOBAL, Case.of(experiment), (trajectory,)),
    )


def draw(columns: list[Column]) -> Drawing:
    """Draw the figure."""
    return draw_dynamics(columns, target="global")


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    runs = experiments(options.scale)
    columns = [column(*each) for each in zip(runs, options.store.all(runs), strict=True)]
    print(verdict_table({each.title: each.verdict for each in columns}))
    print(save_figure(draw(columns), options.out / "03_contrastive"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
