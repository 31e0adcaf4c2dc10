"""Figure 6: momentum and Adam reach the limits of gradient descent; Adam takes another way there.

Portraits of a local query (left) and the least attention of any patch over training (right), at Δ = +0.4.
Under masked reconstruction plain descent and momentum first move left (phase I: φ_1 falls), then up (phase II:
φ_a grows). Adam gives every correlation a step of its own size, so that the small gradient of φ_a counts as much
as the large one of φ_1, and both move at once. Momentum has a learning rate ten times smaller, which makes its
effective rate η/(1 − μ) that of plain descent.

Claims: MAE-AREA and CL-GLOBAL, outside their checked runs.
Run:    python sims/06_optimisers.py [--quick | --full] [--redraw]
Takes:  0.4 minutes on two cores (--quick 4 seeds, --full 16); on a GPU: not measured.
"""

import numpy as np

from vitdyn._tables import text_table
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Adam, GradientDescent, Momentum, Optimizer, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective
from vitdyn.observables import least_global_attention, least_own_area_attention
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.curves import by_pair
from vitdyn.plotting.questions import Panel, Series, draw_panels, events_in_order
from vitdyn.plotting.style import BLUE, ORANGE, VERMILLION
from vitdyn.trajectory import Trajectory

LAYOUT = PatchLayout.from_exponents(128, 0.9, 0.4, clusters=2)
OBJECTIVES = {each.name: each for each in (MaskedReconstruction(), Contrastive())}
LOOKS = {
    "gradient descent": (BLUE, "-", "o"),
    "momentum 0.9": (ORANGE, "--", "s"),
    "Adam": (VERMILLION, "-", "^"),
}
SEEDS = {"quick": 4, "full": 16}


def rules(objective: Objective) -> dict[str, Optimizer]:
    """Return the three rules: a quarter of the default learning rate, the same effective one, and Adam's own."""
    rate = objective.default_learning_rate(LAYOUT) / 4
    made = (GradientDescent(learning_rate=rate), Momentum(learning_rate=rate / 10), Adam(learning_rate=0.03))
    return dict(zip(LOOKS, made, strict=True))


def experiments(scale: str) -> dict[tuple[str, str], Experiment]:
    """Return a run for each objective and optimizer."""
    return {
        (name, words): Experiment(
            name=f"{name}-{words.split()[0]}",
            training=Training(
                generator=PatchGenerator(layout=LAYOUT), objective=objective, optimizer=rule, steps=400,
                seeds=SEEDS[scale],
            ),
        )
        for name, objective in OBJECTIVES.items()
        for words, rule in rules(objective).items()
    }  # fmt: skip


def panels(found: dict[tuple[str, str], Trajectory]) -> list[Panel]:
    """Return a portrait and the least attention, for reconstruction above and for contrast below."""

    def portrait(name, across, up):
        phi = "feature_position"
        return [
            Series(words=words, x=by_pair(found[name, words], phi, across), values=by_pair(found[name, words], phi, up),
                   colour=colour, dashes=dashes, marker=marker)
            for words, (colour, dashes, marker) in LOOKS.items()
        ]  # fmt: skip

    def over_time(name, measure):
        return [
            Series(words=words, x=found[name, words]["step"].to_numpy().astype(float),
                   values=measure(found[name, words]).astype(float), colour=colour, dashes=dashes)
            for words, (colour, dashes, _) in LOOKS.items()
        ]  # fmt: skip

    to_global = r"$\varphi_1$: local query to the global area"
    least, steps = "least attention of any patch", "steps of descent"
    return [
        Panel(title="reconstruction: portrait", across=to_global, up=r"$\varphi_a$: to its own area",
              kind="portrait", limits=None, series=portrait("mae", "local to global", "local to own")),
        Panel(title="reconstruction: to the own area", across=steps, up=least, kind="curve", scale="clock",
              series=over_time("mae", least_own_area_attention)),
        Panel(title="contrast: portrait", across=to_global, up=r"$\varphi_o$: to other local areas",
              kind="portrait", limits=None, series=portrait("cl", "local to global", "local to other")),
        Panel(title="contrast: to the global area", across=steps, up=least, kind="curve", scale="clock",
              series=over_time("cl", least_global_attention)),
    ]  # fmt: skip


def draw(made: list[Panel]) -> Drawing:
    """Draw the figure."""
    return draw_panels(made, row_height=2.75)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    found = options.store.named(experiments(options.scale))
    least = {"mae": least_own_area_attention, "cl": least_global_attention}
    rows = []
    for (name, words), run in found.items():
        last = least[name](run)[-1]
        phi = [by_pair(run, "feature_position", f"local to {key}") for key in ("global", "own", "other")]
        share = events_in_order(phi[0], phi[1])
        ends = [float(np.median(each[-1])) for each in phi]
        rows.append((name, words, float(last.min()), float(last.max()), *ends, float(np.median(share)),
                     float(share.min()), float(share.max())))  # fmt: skip
    heads = ("objective", "optimizer", "least", "most", "φ_1", "φ_a", "φ_o", "early share", "from", "to")
    print(text_table(heads, rows))
    print(save_figure(draw(panels(found)), options.out / "06_optimisers"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
