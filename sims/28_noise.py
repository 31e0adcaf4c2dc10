"""Figure 28: what noise on patches, and features that are not orthogonal, do to either regime.

P = 32, constant latents. Left: the first moves of masked local patches under reconstruction, to their own and to the
global area, and the drives of the theory at Q = 0 (dashed). Right: attention at the end; the attention that would cost
a masked local patch least if it went by position alone (dashed).
Above: noise of standard deviation s a coordinate, kept in the target and between views. It hastens the first move and
breaks reconstruction's end, before the theory's level. Below: coherence c of all features. It turns the first move to
the global area above c*, and what is learned at the end hardly changes.

Claims: NOISE-START and COHERENCE-TURN, outside their checked runs.
Run:    python sims/28_noise.py [--quick | --full] [--redraw]
Takes:  1 minute on two cores (4 seeds; --quick 2 and a quarter of the steps, --full 16 seeds); on a GPU: not measured.
"""

import numpy as np

from vitdyn.claims.perturbed import SIZES, first_drives, perturbed_run, predicted_drives
from vitdyn.data import AreaSizes
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.questions import EVERY, LOCAL, Panel, Series, draw_panels, final_attention, table_of_ends
from vitdyn.plotting.style import BLACK, BLUE, VERMILLION
from vitdyn.theory import coherence_levels, noisy_attention
from vitdyn.trajectory import Trajectory

SEEDS = {"quick": 4, "full": 16}
LEVELS = {"noise": (0.0, 0.2, 0.4, 0.6, 0.8), "coherence": (0.0, 0.3, 0.6, 0.75, 0.9)}
CONTRAST_SIZES = (16, 8, 8)
ENDS = {"mae": (BLUE, "MAE, own area"), "cl": (VERMILLION, "CL, global area")}
Case = tuple[str, float, str]


def experiments(scale: str) -> dict[Case, Experiment]:
    """Return first moves of reconstruction, and whole runs of both objectives, at each level of each perturbation."""
    seeds, made = SEEDS[scale], {}
    for kind, levels in LEVELS.items():
        for level in levels:
            mae, cl = MaskedReconstruction(), Contrastive()
            given = {kind: level}
            made[kind, level, "first"] = perturbed_run(mae, first=True, seeds=4 * seeds, **given)
            made[kind, level, "mae"] = perturbed_run(mae, seeds=seeds, **given)
            made[kind, level, "cl"] = perturbed_run(
                cl, sizes=CONTRAST_SIZES, clusters=2, seeds=seeds, **given
            )
    return made


def first_moves(kind: str, runs: dict[Case, Experiment], found: dict[Case, Trajectory]) -> Panel:
    """Return first moves of local patches over the levels of a perturbation, with the theory."""
    x, cases = np.array(LEVELS[kind]), [(kind, level, "first") for level in LEVELS[kind]]
    measured = [first_drives(runs[case].training, found[case]) for case in cases]
    theory = [predicted_drives(runs[case].training) for case in cases]
    series = []
    for area, colour in (("own", BLUE), ("global", VERMILLION)):
        moves = np.stack([each[area] for each in measured])
        drives = np.array([[each[area]] for each in theory])
        series += [
            Series(words=f"to the {area} area", x=x, values=moves, colour=colour),
            Series(words=f"{area}, drives", x=x, values=drives, colour=BLACK, dashes="--", marker="", width=0.9),
        ]  # fmt: skip
    lines = []
    if kind == "coherence":
        data = runs[cases[0]].training.generator
        level = coherence_levels(AreaSizes.of(data.layout), data.latents)["own below global"]
        lines = [(level, f"c* = {level:.2f}")]
    title = f"first moves, areas {', '.join(map(str, SIZES))}"
    return Panel(title=title, across=kind, up="dφ/dt", series=series, lines=lines, limits=None)


def ends(kind: str, runs: dict[Case, Experiment], found: dict[Case, Trajectory]) -> Panel:
    """Return attention at the end over the levels of a perturbation: of local patches to what each objective learns."""
    x = np.array(LEVELS[kind])
    series = []
    for name, (colour, words) in ENDS.items():
        to = {"mae": (LOCAL, None), "cl": (EVERY, 0)}[name]
        values = [final_attention(found[kind, level, name], *to) for level in LEVELS[kind]]
        series.append(Series(words=words, x=x, values=np.stack(values), colour=colour))
    if kind == "noise":
        data = runs[kind, LEVELS[kind][0], "mae"].training.generator
        least = [[noisy_attention(AreaSizes.of(data.layout), data.latents, level)["local"]] for level in x]
        series.append(
            Series(
                words="by position alone", x=x, values=np.array(least), colour=BLACK, dashes="--", marker=""
            )
        )
    return Panel(title="end of training", across=kind, up="attention", series=series)


def panels(runs: dict[Case, Experiment], found: dict[Case, Trajectory]) -> list[Panel]:
    """Return first moves and ends for noise, and for coherence."""
    return [panel(kind, runs, found) for kind in LEVELS for panel in (first_moves, ends)]


def draw(made: list[Panel]) -> Drawing:
    """Draw the figure."""
    return draw_panels(made, row_height=2.75)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    runs = options.few(experiments(options.scale), steps=100)
    made = panels(runs, options.store.named(runs))
    print(table_of_ends(made))
    print(save_figure(draw(made), options.out / "28_noise"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
