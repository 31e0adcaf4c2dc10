"""Figure 15: Park et al.'s findings on real ViTs, on the theory's layer: where attention goes, and what is kept.

(a, b, d, e) Attention distance, mutual information of query and key, cosine similarity of the patches' representations
and their relative log amplitude at the highest frequency, over training by masked reconstruction and by contrast, at
Δ = +0.4 and Δ = -0.3 on connected areas of a 12 × 12 grid. (c, f) Distance and mutual information of the mixture
(1 - λ) MAE + λ CL after 400 steps on one clock: it stays with masked reconstruction up to a threshold.
After contrast with position queries, and before training, patches have equal representations by symmetry: their mutual
information is 0, and their amplitude, below -10, is round-off against the offset of the convention.

Claims: PARK-DISTANCE, PARK-FREQUENCY, PARK-MIXTURE (PARK-HOMOGENEITY takes content queries, free of that symmetry).
Run:    python sims/15_what_they_learn.py [--quick | --full] [--redraw]
Takes:  0.6 minutes on two cores (--quick: three weights, 100 steps; --full trains five times as many seeds); on a
        GPU: not measured.
"""

from vitdyn.claims import (
    PARK_DISTANCE,
    PARK_FREQUENCY,
    PARK_MIXTURE,
    Case,
    Verdict,
    judge,
)
from vitdyn.claims.representations import measured_run, mixture_runs
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import Drawing, FigureOptions, gap_words, run_script, save_figure, verdict_table
from vitdyn.plotting.learned import Learning, draw_learning
from vitdyn.trajectory import Trajectory

GAPS = {"gap-positive": gap_words(0.4), "gap-negative": gap_words(-0.3)}
WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0)
JUDGED = (0.0, 0.7, 1.0)


def experiments(scale: str, weights: tuple[float, ...]) -> dict[str, Experiment]:
    """Return all runs by kind of data and objective or weight."""
    found = {}
    for gap in GAPS:
        for objective in (MaskedReconstruction(), Contrastive()):
            found[f"{gap} {objective.name}"] = measured_run(objective, gap, scale)
        for weight, run in zip(weights, mixture_runs(gap, scale, weights), strict=True):
            found[f"{gap} {weight}"] = run
    return found


def learning(gap: str, found: dict[str, Trajectory], weights: tuple[float, ...]) -> Learning:
    """Bring together the runs on one kind of data."""
    return Learning(
        title=GAPS[gap],
        runs={name: found[f"{gap} {name}"] for name in ("mae", "cl")},
        mixtures={weight: found[f"{gap} {weight}"] for weight in weights},
    )


def verdicts(gap: str, runs: dict[str, Experiment], kind: Learning) -> dict[str, Verdict]:
    """Return what these runs say of the claims."""
    pair = Case(name=gap, runs=(runs[f"{gap} cl"], runs[f"{gap} mae"]))
    mixed = Case(name=gap, runs=tuple(runs[f"{gap} {weight}"] for weight in JUDGED))
    found = {
        f"{claim.id}, {kind.title}": judge(claim, pair, (kind.runs["cl"], kind.runs["mae"]))
        for claim in (PARK_DISTANCE, PARK_FREQUENCY)
    }
    trajectories = tuple(kind.mixtures[weight] for weight in JUDGED)
    role = "" if gap == "gap-positive" else ", control"
    return {**found, f"{PARK_MIXTURE.id}, {kind.title}{role}": judge(PARK_MIXTURE, mixed, trajectories)}


def draw(kinds: list[Learning]) -> Drawing:
    """Draw the figure."""
    return draw_learning(kinds)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    weights = JUDGED if options.quick else WEIGHTS
    runs = options.few(experiments(options.scale, weights), steps=100)
    found = options.store.named(runs)
    kinds = {gap: learning(gap, found, weights) for gap in GAPS}
    table = {name: each for gap, kind in kinds.items() for name, each in verdicts(gap, runs, kind).items()}
    print(verdict_table(table))
    print(save_figure(draw(list(kinds.values())), options.out / "15_what_they_learn"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
