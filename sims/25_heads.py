"""Figure 25: heads from random initialisation of size σ: they part, take an area one after another, and end as copies.

(a) How far two heads' log odds of own-area attention lie apart, in units of σ/σ_part; dotted: the theory along the
smallest start. (b) At their farthest: 1 to leading order, less where σ > σ_part. (c, d) Share of queries for which two
heads attend most to different areas: copies, from disorder too, later. (e) Least attention at the end over σ; upright
lines: disorder. (f) The same over the learning rate, in units of H times one head's: a slow or disordered run waits.
(g) Equal heads at one rate: gradient descent takes H times as long, Adam no longer. (h) Heads with trained values of
their own need not become copies, and under contrast do not.

Claims: HEADS-AREA, HEADS-GLOBAL, HEADS-COPY and HEADS-PART, outside their checked runs.
Run:    python sims/25_heads.py [--quick | --full] [--redraw]
Takes:  half a minute on two cores (four seeds; --quick two and 40 steps, --full 16); on a GPU: not measured.
"""

from typing import Any

from vitdyn.claims.heads import HEAD_GAP, heads_run
from vitdyn.data import AreaSizes, Constant, PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import Adam, GradientDescent, Schedule
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import FigureOptions, run_script, save_figure
from vitdyn.plotting.heads_and_values import curves, ends, pace_panel, parting_panels
from vitdyn.plotting.questions import Panel, draw_panels, table_of_ends
from vitdyn.theory import disorder_size, parting_size
from vitdyn.trajectory import Trajectory

SEEDS, OBJECTIVES = {"quick": 4, "full": 16}, {"MAE": MaskedReconstruction(), "CL": Contrastive()}
LAYOUTS = {
    name: PatchLayout.from_exponents(32, 0.9, 0.4, clusters=clusters)
    for name, clusters in {"MAE": 1, "CL": 2}.items()
}
PARTED, ONE = PatchLayout.from_sizes([32, 16, 16]), Constant(value=1.25)
PARTS, SIGMAS, ETAS, HEADS = (0.25, 1.0, 4.0), (0.1, 0.4, 1.0, 2.0, 4.0), (0.25, 1.0, 4.0), (2, 4)
NUMBERS, VALUES = (1, 2, 4, 8), ("identity", "scalar", "matrix")
OBSERVED = ("own_area_attention", "area_attention", "head_specialisation")
Key = tuple[Any, ...]


def experiments(scale: str) -> dict[Key, Experiment]:
    """Return the runs of each panel: parting, σ and H, rates, equal heads, values of their own."""
    seeds = range(SEEDS[scale])
    unit = float(parting_size(AreaSizes.of(PARTED), ONE))
    made: dict[Key, Experiment] = {
        ("part", part): heads_run(
            OBJECTIVES["MAE"], PARTED, seeds, size=part * unit, steps=60, optimizer=GradientDescent(learning_rate=2.0),
            generator=PatchGenerator(layout=PARTED, latents=ONE), schedule=Schedule(frames=24),
            observables=(HEAD_GAP, "own_area_attention"))
        for part in PARTS
    }  # fmt: skip
    for name, objective in OBJECTIVES.items():
        layout, shown = LAYOUTS[name], {"observables": OBSERVED, "schedule": Schedule(frames=12)}
        own_rate = objective.default_learning_rate(layout)
        for size in SIGMAS:
            for heads in HEADS:
                made["size", name, heads, size] = heads_run(
                    objective, layout, seeds, size=size, heads=heads, **shown
                )
        for rate in ETAS:
            for size in (0.4, 2.0):
                made["rate", name, size, rate] = heads_run(
                    objective, layout, seeds, size=size,
                    optimizer=GradientDescent(learning_rate=2 * rate * own_rate), **shown)  # fmt: skip
        for values in VALUES:
            made["values", name, values] = heads_run(
                objective, layout, seeds, size=2.0, values=values, steps=300, optimizer=Adam(learning_rate=0.1), **shown
            )  # fmt: skip
    for heads in NUMBERS:
        for words, optimizer in (
            ("gradient descent", GradientDescent(learning_rate=2.0)),
            ("Adam", Adam(learning_rate=0.1)),
        ):
            made["pace", words, heads] = heads_run(
                OBJECTIVES["MAE"], LAYOUTS["MAE"], seeds, size=0.0, heads=heads, steps=100, optimizer=optimizer,
                schedule=Schedule(spacing="linear", frames=51), observables=("own_area_attention",))  # fmt: skip
    return made


def panels(found: dict[Key, Trajectory]) -> list[Panel]:
    """Return the panels."""
    disorder = disorder_size(AreaSizes.of(LAYOUTS["MAE"]), Uniform())
    ended = f"after {int(found['rate', 'MAE', 0.4, 1.0]['step'][-1])} steps"
    lines = [(float(disorder.low), ""), (float(disorder.high), "disorder")]
    swept = {
        f"{name}, H = {heads}": {size: found["size", name, heads, size] for size in SIGMAS}
        for name in OBJECTIVES for heads in HEADS
    }  # fmt: skip
    rates = {
        f"{name}, σ = {size:g}": {rate: found["rate", name, size, rate] for rate in ETAS}
        for name in OBJECTIVES for size in (0.4, 2.0)
    }  # fmt: skip
    copies = [
        curves(f"{name}, two heads, by σ", "queries with heads apart",
               {f"{size:g}": found["size", name, 2, size] for size in SIGMAS}, "head_specialisation")
        for name in OBJECTIVES
    ]  # fmt: skip
    own = {
        f"{name}, {values}": found["values", name, values]
        for name in OBJECTIVES for values in VALUES if (name, values) != ("MAE", "identity")
    }  # fmt: skip
    return [
        *parting_panels({part: found["part", part] for part in PARTS}),
        *copies,
        ends(ended, "σ", swept, lines),
        ends(f"{ended}, H = 2", "learning rate, of H times one head's", rates),
        pace_panel({words: {heads: found["pace", words, heads] for heads in NUMBERS}
                    for words in ("gradient descent", "Adam")}),
        curves("values of their own, σ = 2, by Adam", "queries with heads apart", own, "head_specialisation"),
    ]  # fmt: skip


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    made = panels(options.store.named(options.few(experiments(options.scale), steps=40)))
    print(table_of_ends(made))
    print(save_figure(draw_panels(made), options.out / "25_heads"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
