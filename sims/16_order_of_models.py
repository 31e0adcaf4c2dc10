"""Figure 16: does LiDAR order models by what a probe reads better than RankMe does? It depends on the data.

54 models: masked reconstruction, contrast and mixtures at several mask ratios, temperatures and weights, each
after 50, 150 and 400 steps. Quality is R² of a linear map from an image's representation to the latents of local areas.
(a, d) κ = (0.6, 0.5), images of one cluster at a time: LiDAR orders them, RankMe does not. (b, e) The same models,
images of both clusters together: what tells clusters apart drowns LiDAR's count. (c, f) κ = (0.9, 0.4): beside a
large global area local ones hardly count, LiDAR stays near 1, and both order models about equally well. --quick: every
sixth setting, 9 models.

Claims: LIDAR-ORDER.
Run:    python sims/16_order_of_models.py [--quick | --full] [--redraw]
Takes:  0.8 minutes on two cores, a sixth with --quick (--full trains five times as many seeds); on a GPU: not measured.
"""

from dataclasses import replace

from vitdyn._tables import text_table
from vitdyn.claims import LIDAR_ORDER, Control, judge
from vitdyn.claims.representations import (
    COMPARABLE_AREAS,
    ORDERED_STEPS,
    WITHIN_CLUSTER,
    ordered_runs,
    over_models,
)
from vitdyn.experiments import Experiment
from vitdyn.metrics import agreement_interval
from vitdyn.observables import RECORD
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure, verdict_table
from vitdyn.plotting.learned import Ordering, draw_orderings
from vitdyn.trajectory import Trajectory

TOGETHER = "together_"
METRICS = {"LiDAR": "lidar", "RankMe": "rank_me"}
WAYS = {
    "one cluster at a time": ("gap-negative", True, None),
    "clusters together": ("gap-negative", False, WITHIN_CLUSTER),
    "large global area": ("gap-positive", True, COMPARABLE_AREAS),
}


def experiments(scale: str, every: int = 1) -> dict[str, Experiment]:
    """Return all runs, by their gap and a number; at Δ < 0 images are compared in both ways, by one training."""
    found = {}
    for gap in ("gap-negative", "gap-positive"):
        for index, run in enumerate(ordered_runs(gap, scale)[::every]):
            found[f"{gap} {index}"] = run
    for index, run in enumerate(ordered_runs("gap-negative", scale, within_cluster=False)[::every]):
        alone = found[f"gap-negative {index}"]
        more = (replace(each, name=TOGETHER + each.name) for each in run.training.observables[len(RECORD) :])
        training = replace(alone.training, observables=(*alone.training.observables, *more))
        found[f"gap-negative {index}"] = replace(alone, training=training)
    return found


def comparing_together(run: Trajectory) -> Trajectory:
    """Return a run with the metrics of all clusters' images under their own names."""
    other = {name.removeprefix(TOGETHER): run[name] for name in run.dataset if name.startswith(TOGETHER)}
    return Trajectory(run.dataset.assign(other))


def ordering(title: str, runs: tuple[Experiment, ...], trajectories: tuple[Trajectory, ...]) -> Ordering:
    """Bring together the models of one grid."""
    return Ordering(
        title=title,
        metrics={words: over_models(trajectories, name) for words, name in METRICS.items()},
        quality=over_models(trajectories, "local_r_squared"),
        objectives=[run.name.split("-")[0] for run in runs for _ in ORDERED_STEPS],
    )


def draw(orderings: list[Ordering]) -> Drawing:
    """Draw the figure."""
    return draw_orderings(orderings)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the tables and save the figure."""
    every = 6 if options.quick else 1
    found = options.store.named(experiments(options.scale, every))
    orderings, verdicts, rows = [], {}, []
    for way, (gap, within, removes) in WAYS.items():
        grid = ordered_runs(gap, options.scale, within_cluster=within)[::every]
        trajectories = tuple(run for name, run in found.items() if name.startswith(gap))
        trajectories = trajectories if within else tuple(map(comparing_together, trajectories))
        orderings.append(ordering(way, grid, trajectories))
        case = Control(name=way, runs=grid, removes=removes)
        verdicts[way] = judge(LIDAR_ORDER, case, trajectories)
        for words, scores in orderings[-1].metrics.items():
            for coefficient in ("spearman", "kendall"):
                interval = agreement_interval(scores, orderings[-1].quality, convention=coefficient)
                rows.append((way, words, coefficient, *interval))
    print(text_table(("models", "metric", "coefficient", "value", "low", "high"), rows))
    print(verdict_table(verdicts))
    print(save_figure(draw(orderings), options.out / "16_order_of_models"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
