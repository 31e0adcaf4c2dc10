"""Figure 29: what contrast collapses onto when the global feature is the same in all clusters.

Two clusters, P = 32; the global area holds one feature for both, local areas hold the cluster's own.
Above, across: how much latents vary, U/L of a uniform distribution. Left: first moves of φ_1 over those of the largest
local area, and the drives of the theory (dashed): what is shared counts by the variance of its latents alone. Right:
attention at the end. Below: attention while training. Left: constant latents; the discriminating local area takes all,
though clusters are unequal. Right: latents on [0.5, 2]; the shared area comes first, and is left again for local ones.

Claims: CLUSTERS-LOCAL, CLUSTERS-LEFT and CLUSTERS-START, outside their checked runs.
Run:    python sims/29_clusters.py [--quick | --full] [--redraw]
Takes:  1 minute on two cores (4 seeds; --quick 2 and fewer steps, --full 16 seeds); on a GPU: not measured.
"""

import numpy as np

from vitdyn._axes import CLUSTER, FRAME, QUERY_AREA, SEED
from vitdyn.claims.clusters import SIZES, SPREAD, clusters_run, drives, first_ratio, predicted_ratio
from vitdyn.data import Constant, Distribution, Uniform
from vitdyn.experiments import Experiment
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.questions import Panel, Series, draw_panels, table_of_ends
from vitdyn.plotting.style import BLACK, BLUE, GREEN, VERMILLION
from vitdyn.trajectory import Trajectory

SEEDS = {"quick": 4, "full": 16}
RATIOS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""U/L, at a mean of 1."""
WIDE = (24, 5, 3)
AREAS = {"global, shared": (0, BLUE), "largest local": (1, VERMILLION), "other local": (2, GREEN)}


def latents(ratio: float) -> Distribution:
    """Return uniform latents of mean 1 and this U/L; constant ones at 1."""
    low = 2 / (1 + ratio)
    return Constant(value=1.0) if ratio == 1 else Uniform(low=low, high=ratio * low)


def experiments(scale: str) -> dict[str, Experiment]:
    """Return first moves and whole runs at each U/L, and the two runs that are shown while they train."""
    seeds, made = SEEDS[scale], {}
    for ratio in RATIOS:
        made[f"first {ratio}"] = clusters_run(latents(ratio), temperature=10.0, first=True, seeds=4 * seeds)
        made[f"end {ratio}"] = clusters_run(latents(ratio), seeds=seeds)
    made["constant"] = clusters_run(Constant(value=1.0), probabilities=(0.7, 0.3), seeds=seeds)
    made["spread"] = clusters_run(SPREAD, WIDE, temperature=4.0, seeds=seeds)
    return made


def attention(trajectory: Trajectory, area: int) -> np.ndarray:
    """Return attention to an area, averaged over queries and clusters: (frame, seed)."""
    found = trajectory["area_attention"].sel(statistic="mean").isel(key_area=area)
    return found.mean((QUERY_AREA, CLUSTER)).transpose(FRAME, SEED).to_numpy()


def sweeps(runs: dict[str, Experiment], found: dict[str, Trajectory]) -> list[Panel]:
    """Return first moves and ends over U/L."""
    x = np.array(RATIOS)
    firsts = [f"first {ratio}" for ratio in RATIOS]
    moves = np.stack([first_ratio(runs[name], found[name]) for name in firsts])
    theory = np.array([[predicted_ratio(drives(runs[name].training.generator))] for name in firsts])
    first = [
        Series(words="φ_1 over φ of the largest local area", x=x, values=moves),
        Series(words="drives at Q = 0", x=x, values=theory, colour=BLACK, dashes="--", marker=""),
    ]
    ends = [
        Series(words=words, x=x, colour=colour,
               values=np.stack([attention(found[f"end {ratio}"], area)[-1] for ratio in RATIOS]))
        for words, (area, colour) in AREAS.items()
    ]  # fmt: skip
    sizes = ", ".join(map(str, SIZES))
    return [
        Panel(title=f"first moves, areas {sizes}", across="U/L", up="ratio", series=first, limits=None),
        Panel(title="end of training", across="U/L", up="attention", series=ends),
    ]


def curves(found: dict[str, Trajectory]) -> list[Panel]:
    """Return attention while training, averaged over both clusters."""
    titles = {
        "constant": "constant latents, clusters of 0.7 and 0.3",
        "spread": f"latents on [0.5, 2], areas {', '.join(map(str, WIDE))}",
    }
    return [
        Panel(title=title, across="training step", up="attention", kind="curve", scale="clock",
              series=[Series(words=words, x=found[name]["step"].to_numpy(), values=attention(found[name], area),
                             colour=colour) for words, (area, colour) in AREAS.items()])
        for name, title in titles.items()
    ]  # fmt: skip


def draw(made: list[Panel]) -> Drawing:
    """Draw the figure."""
    return draw_panels(made, row_height=2.75)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    runs = options.few(experiments(options.scale), steps=100)
    found = options.store.named(runs)
    made = sweeps(runs, found) + curves(found)
    print(table_of_ends(made))
    print(save_figure(draw(made), options.out / "29_clusters"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
