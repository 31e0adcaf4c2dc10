"""Figure 7: how few samples and how few negatives the two limits need.

Above: training on a fixed data set of four clusters, four samples a step with fresh masks. A cluster is learned
where the data set holds a sample of it; no more is needed. Below: contrast with 1 to 63 negatives, at Δ = -0.3.
With two clusters a single negative is enough for collapse, only slower; with one cluster, where all negatives
share the features of the positive, it is not there after 200 steps with any number of them.
Faint dots are seeds (above: clusters of seeds); lines join the means.

Claims: MAE-AREA and CL-GLOBAL, outside their checked runs.
Run:    python sims/07_batches_and_negatives.py [--quick | --full] [--redraw]
Takes:  0.4 minutes on two cores (--quick 4 seeds, --full 16); on a GPU: not measured.
"""

import numpy as np
import torch

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Schedule, Training
from vitdyn.dynamics.batches import BatchSource
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.curves import attention_by_pair
from vitdyn.plotting.questions import EVERY, LOCAL, Panel, Series, draw_panels, final_attention, table_of_ends
from vitdyn.plotting.style import BLACK, BLUE, GREEN, ORANGE, SKY, VERMILLION
from vitdyn.trajectory import Trajectory

PATCHES, CLUSTERS, SEEDS = 64, 4, {"quick": 4, "full": 16}
DATA_SETS = (4, 8, 16, 32, 128)
BATCHES = (2, 4, 8, 16, 64)
OBJECTIVES = {each.name: each for each in (MaskedReconstruction(), Contrastive())}
Case = tuple[str, int, int]


def experiments(scale: str) -> dict[Case, Experiment]:
    """Return a run for each objective and size of the data set, and for each number of clusters and negatives."""
    fixed = PatchLayout.from_exponents(PATCHES, 0.9, 0.4, clusters=CLUSTERS)
    runs = {
        (name, CLUSTERS, size): Training(
            generator=PatchGenerator(layout=fixed), objective=objective, dataset_size=size, batch_size=4,
            steps=150, seeds=SEEDS[scale], schedule=Schedule(frames=2))
        for name, objective in OBJECTIVES.items()
        for size in DATA_SETS
    }  # fmt: skip
    for clusters in (1, 2):
        layout = PatchLayout.from_exponents(PATCHES, 0.6, 0.5, clusters=clusters)
        for samples in BATCHES:
            runs["negatives", clusters, samples] = Training(
                generator=PatchGenerator(layout=layout), objective=Contrastive(), batch_size=samples,
                steps=200, seeds=SEEDS[scale], schedule=Schedule(frames=24))  # fmt: skip
    return {case: Experiment(name="-".join(map(str, case)), training=each) for case, each in runs.items()}


def held(experiment: Experiment) -> np.ndarray:
    """Return whether the data set of each seed holds a sample of each cluster, as one row of cases."""
    training = experiment.training
    source = BatchSource(
        training.generator, training.objective, training.seed_numbers, training.batch_size,
        training.dataset_size, torch.float32, torch.device("cpu"),
    )  # fmt: skip
    return (source.dataset().cluster[..., None] == torch.arange(CLUSTERS)).any(1).numpy().ravel()


def panels(runs: dict[Case, Experiment], found: dict[Case, Trajectory]) -> list[Panel]:
    """Return the four panels."""

    def by_data_set(name, queries, key):
        ends = np.stack([final_attention(found[name, CLUSTERS, n], queries, key) for n in DATA_SETS])
        seen = np.stack([held(runs[name, CLUSTERS, n]) for n in DATA_SETS])
        looks = (("cluster in the data set", seen, BLUE, "o"), ("cluster not in it", ~seen, VERMILLION, "^"))
        return [
            Series(words=words, x=np.array(DATA_SETS), values=np.where(kept, ends, np.nan),
                   colour=colour, marker=marker)
            for words, kept, colour, marker in looks
        ]  # fmt: skip

    def end(clusters):
        ends = [final_attention(found["negatives", clusters, n], EVERY, 0) for n in BATCHES]
        return np.stack([each.reshape(-1, clusters).mean(1) for each in ends])

    looks = zip(BATCHES, (VERMILLION, ORANGE, GREEN, SKY, BLACK), ("-", "--", "-", "--", ":"), strict=True)
    curves = [
        Series(words=f"{n - 1} negative{'s' if n > 2 else ''}", colour=colour, dashes=dashes,
               x=found["negatives", 2, n]["step"].to_numpy().astype(float),
               values=attention_by_pair(found["negatives", 2, n], "local to global"))
        for n, colour, dashes in looks
    ]  # fmt: skip
    ends = [
        Series(words=words, x=np.array(BATCHES) - 1.0, values=end(clusters), colour=colour, marker=marker)
        for clusters, words, colour, marker in ((2, "two clusters", BLUE, "o"), (1, "one cluster", ORANGE, "s"))
    ]  # fmt: skip
    sizes, counts = ([(float(n), str(n)) for n in each] for each in (DATA_SETS, (n - 1 for n in BATCHES)))
    across, to_global = "samples in the data set", "attention to the global area"
    return [
        Panel(title="reconstruction, fixed data set", across=across, up="own-area attention", scale="logarithmic",
              ticks=sizes, series=by_data_set("mae", LOCAL, None)),
        Panel(title="contrast, fixed data set", across=across, up=to_global, scale="logarithmic",
              ticks=sizes, series=by_data_set("cl", EVERY, 0)),
        Panel(title="contrast, two clusters", across="steps of descent", up=to_global, kind="curve",
              scale="clock", series=curves),
        Panel(title="contrast, end of training", across="negatives of a sample", up=to_global,
              scale="logarithmic", ticks=counts, series=ends),
    ]  # fmt: skip


def draw(made: list[Panel]) -> Drawing:
    """Draw the figure."""
    return draw_panels(made, row_height=2.75)


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    runs = experiments(options.scale)
    made = panels(runs, options.store.named(runs))
    print(table_of_ends(made))
    print(save_figure(draw(made), options.out / "07_batches_and_negatives"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
