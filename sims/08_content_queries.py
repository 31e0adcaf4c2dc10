"""Figure 8: contrast with queries that see content too; local queries end at the global area all the same.

With content in the query, visible queries of different areas are told apart by Ψ and Ξ, and the symmetry between
rows that makes local and global queries move alike (Figure 3) is lost. Above: attention to the global area at
Δ = +0.4 and Δ = -0.3, beside the model with position queries. Below: the correlations that carry it. Ξ of a local
feature with itself, which could hold a local query at home, stays small. At Δ = +0.4 the learning rate is a
quarter of the default: the gradient of Ξ sums over all queries of the global area and would leap.

Claims: CL-GLOBAL, outside its checked runs.
Run:    python sims/08_content_queries.py [--quick | --full] [--redraw]
Takes:  0.2 minutes on two cores (--quick 4 seeds, --full 16); on a GPU: not measured.
"""

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive
from vitdyn.plotting import Drawing, FigureOptions, gap_words, run_script, save_figure
from vitdyn.plotting.curves import attention_by_pair, by_pair
from vitdyn.plotting.questions import Panel, Series, draw_panels, table_of_ends
from vitdyn.plotting.style import BLACK, BLUE, GREEN, ORANGE, VERMILLION
from vitdyn.trajectory import Trajectory

EXPONENTS = {(0.9, 0.4): 1.0, (0.6, 0.5): 4.0}
"""κ_c and κ_s, and the learning rate over P K."""
PATCHES, CLUSTERS = 64, 2
SEEDS = {"quick": 4, "full": 16}
Case = tuple[str, bool]


def experiments(scale: str) -> dict[Case, Experiment]:
    """Return a run for each sign of Δ (by its words), with content queries and without."""
    layouts = [
        (PatchLayout.from_exponents(PATCHES, *exponents, clusters=CLUSTERS), rate * PATCHES * CLUSTERS)
        for exponents, rate in EXPONENTS.items()
    ]
    return {
        (gap_words(layout.information_gap), content): Experiment(
            name=f"cl-{'content' if content else 'position'}-{layout.global_size:.0f}",
            training=Training(
                generator=PatchGenerator(layout=layout), objective=Contrastive(), content_queries=content,
                steps=120, batch_size=12, evaluation_samples=12, seeds=SEEDS[scale], schedule=Schedule(frames=24),
                optimizer=GradientDescent(learning_rate=rate),
            ),
        )
        for layout, rate in layouts
        for content in (True, False)
    }  # fmt: skip


def panels(found: dict[Case, Trajectory]) -> list[Panel]:
    """Return attention above and correlations below, one column for each sign of Δ."""

    def attention(gap):
        content, position = found[gap, True], found[gap, False]
        clock = content["step"].to_numpy().astype(float)
        looks = (
            ("position queries", position, "local to global", BLACK, ":", 2.2),
            ("content: local queries", content, "local to global", VERMILLION, "-", 1.4),
            ("content: global queries", content, "global to own", GREEN, "--", 1.4),
            ("content: local, own area", content, "local to own", BLUE, "-", 1.4),
        )
        return [
            Series(words=words, x=clock, values=attention_by_pair(run, pair), colour=colour, dashes=dashes, width=width)
            for words, run, pair, colour, dashes, width in looks
        ]  # fmt: skip

    def correlations(gap):
        run = found[gap, True]
        clock = run["step"].to_numpy().astype(float)
        looks = (
            (r"$\Phi$: local to global", "feature_position", "local to global", ORANGE, "--"),
            (r"$\Xi$: local to global", "content_content", "local to global", VERMILLION, "-"),
            (r"$\Xi$: global to global", "content_content", "global to own", GREEN, "--"),
            (r"$\Xi$: local to itself", "content_content", "local to own", BLUE, "-"),
        )
        return [
            Series(words=words, x=clock, values=by_pair(run, name, pair), colour=colour, dashes=dashes)
            for words, name, pair, colour, dashes in looks
        ]

    gaps = list(dict.fromkeys(gap for gap, _ in found))
    steps = "steps of descent"
    above = [
        Panel(title=f"{gap}: attention to the global area", across=steps, up="area attention $A$", kind="curve",
              scale="clock", series=attention(gap))
        for gap in gaps
    ]  # fmt: skip
    below = [
        Panel(title=f"{gap}: content queries", across=steps, up="correlation", kind="curve", scale="clock",
              limits=None, series=correlations(gap))
        for gap in gaps
    ]  # fmt: skip
    return above + below


def draw(made: list[Panel]) -> Drawing:
    """Draw the figure."""
    return draw_panels(made, row_height=2.75)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    found = options.store.named(experiments(options.scale))
    made = panels(found)
    print(table_of_ends(made))
    print(save_figure(draw(made), options.out / "08_content_queries"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
