"""Figure 20: when contrast of cosines turns to the global area, and when it spreads its attention.

Across: q, how strongly samples of one cluster repel for each unit of attraction. SimCLR moves it by its temperature,
at two and at eight clusters; alignment with uniformity by the weight of uniformity, at one. Left: the first move of φ_1
(the same for all queries), in units of that at q = 0. Right: attention to the global area at the end.
Above: Δ > 0, where the first move turns at q*, noise of masks over noise and spread of latents; below: Δ < 0, where q*
is above 1, out of reach of any temperature. Where Δ > 0 the end follows the first move; where Δ < 0 it need not.

Claims: COSINE-THRESHOLD, COSINE-GAP and COSINE-SPREAD, outside their checked runs.
Run:    python sims/20_cosines.py [--quick | --full] [--redraw]
Takes:  1 minute on two cores (4 seeds; --quick 2 and fewer steps, --full 16 and more); on a GPU: not measured.
"""

import numpy as np

from vitdyn.claims.cosine import repulsion
from vitdyn.claims.limits import EXPONENTS
from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout
from vitdyn.dynamics import Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import AlignmentUniformity, SimCLR
from vitdyn.plotting import Drawing, FigureOptions, gap_words, run_script, save_figure
from vitdyn.plotting.questions import LOCAL, Panel, Series, draw_panels, final_attention, table_of_ends
from vitdyn.plotting.style import BLUE, GREEN, VERMILLION
from vitdyn.theory import repulsion_threshold
from vitdyn.trajectory import Trajectory

PATCHES, FIRST = 144, 4
SCALES = {"few": (2, 100), "quick": (4, 300), "full": (16, 600)}
"""Seeds and steps."""
TEMPERATURES = {2: (3.0, 1.0, 0.5, 0.3, 0.2), 8: (1.0, 0.5, 0.35, 0.25, 0.2)}
UNIFORMITY = (0.15, 0.3, 0.4, 0.5, 0.8)
SWEEPS = {
    "SimCLR, K = 2": (2, [SimCLR(temperature=each) for each in TEMPERATURES[2]], BLUE, "o"),
    "SimCLR, K = 8": (8, [SimCLR(temperature=each) for each in TEMPERATURES[8]], GREEN, "s"),
    "alignment and uniformity, K = 1": (
        1, [AlignmentUniformity(weight=each) for each in UNIFORMITY], VERMILLION, "^"
    ),
}  # fmt: skip
PLACES = range(len(UNIFORMITY))
"""Points of a sweep."""
Case = tuple[str, str, int]


def generator(gap: str, clusters: int = 1) -> PatchGenerator:
    """Return the data at one sign of Δ."""
    return PatchGenerator(layout=PatchLayout.from_exponents(PATCHES, *EXPONENTS[gap], clusters=clusters))


def experiments(scale: str) -> dict[Case, Experiment]:
    """Return a run for each sign of Δ, sweep and place in it."""
    seeds, steps = SCALES[scale]
    return {
        (gap, words, place): Experiment(
            name=f"{objectives[place].name}-{gap}-{clusters}-{place}",
            training=Training(
                generator=generator(gap, clusters), objective=objectives[place], steps=steps, seeds=seeds,
                observables=("feature_position", "area_attention"),
                schedule=Schedule(spacing="explicit", steps=(FIRST, steps))),
        )
        for gap in EXPONENTS
        for words, (clusters, objectives, *_) in SWEEPS.items()
        for place in PLACES
    }  # fmt: skip


def first_move(trajectory: Trajectory) -> np.ndarray:
    """Return φ_1 of each seed early in training."""
    early = trajectory["feature_position"].sel(statistic="mean").isel(frame=-2, key_area=0)
    return early.mean(("cluster", "query_area")).to_numpy()


def panels(runs: dict[Case, Experiment], found: dict[Case, Trajectory]) -> list[Panel]:
    """Return two panels for each sign of Δ."""
    made = []
    for gap in EXPONENTS:
        data, moves, ends = generator(gap), [], []
        level = repulsion_threshold(AreaSizes.of(data.layout), data.latents)
        for words, (clusters, _, colour, marker) in SWEEPS.items():
            cases = [(gap, words, place) for place in PLACES]
            x = np.array([repulsion(runs[case].training) for case in cases])
            move = np.stack([first_move(found[case]) for case in cases])
            # rates differ, and with them all moves: in units of what a line through them is at q = 0
            move = move / np.polyfit(x, move.mean(1), 1)[1]
            end = [final_attention(found[case], LOCAL, 0).reshape(-1, clusters).mean(1) for case in cases]
            look = {"words": words, "x": x, "colour": colour, "marker": marker}
            moves.append(Series(values=move, **look))
            ends.append(Series(values=np.stack(end), **look))
        sign, line = gap_words(data.layout.information_gap), [(level, f"q* = {level:.2f}")]
        across = "repulsion q"
        made += [
            Panel(title=f"first move, {sign}", across=across, up="φ_1 over φ_1 at q = 0", series=moves, lines=line,
                  limits=None),
            Panel(title=f"end of training, {sign}", across=across, up="attention to the global area", series=ends,
                  lines=line),
        ]  # fmt: skip
    return made


def draw(made: list[Panel]) -> Drawing:
    """Draw the figure."""
    return draw_panels(made, row_height=2.75)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    runs = experiments("few" if options.quick else options.scale)
    made = panels(runs, options.store.named(runs))
    print(table_of_ends(made))
    print(save_figure(draw(made), options.out / "20_cosines"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
