"""Figure 19: eleven small Vision Transformers on digits: whether the order of the theory's layer appears.

Encoders are trained by losses of single patches (reconstruction, RC-MAE, data2vec), by losses of whole images (MoCo v3,
SimCLR, VICReg, BYOL, DINO, labels) and by a mixture, from five seeds; losses of images at a third of the learning rate
too. On the theory's layer only the first can give each patch a map of its own, and the second have all attend alike.
Tables give every metric by depth, and what training did to the last block, with 95 % intervals over seeds and the signs
that were written down beforehand.

Claims: none. The theory is about one layer; what is seen of it here is reported, not judged.
Run:    python sims/19_families_on_digits.py [--quick | --full] [--redraw]
Takes:  a quarter of a minute with --quick (one seed, few steps: that it runs, no result); with --full, the result,
        6 minutes on two cores; it needs no GPU
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from vitdyn.experiments import Experiment
from vitdyn.plotting import FigureOptions, run_script, save_figure
from vitdyn.plotting.methods import draw_methods
from vitdyn.vits import METHODS, Evaluation, Pretraining, effect_table, effects, value_table

STEM = "19_families_on_digits"
RATE, SLOW = 6e-3, 2e-3
SEEDS, STEPS = 5, {"patches": 500, "both": 300, "image": 300}
WHOLE, FEW = Evaluation(), Evaluation(images=64, objects=20, views=10)


def runs(scale: str) -> dict[str, tuple[Pretraining, ...]]:
    """Return the runs of all methods and seeds, and the slow ones of losses of images, each with the untrained."""
    if scale == "quick":
        few = dict.fromkeys(STEPS, 10)
        return {f"rate {RATE:g}": trained(METHODS, RATE, seeds=1, steps=few, evaluation=FEW)}
    slow = [name for name, kind in METHODS.items() if kind.reads == "image" and name != "supervised"]
    return {f"rate {rate:g}": trained(names, rate) for rate, names in ((RATE, METHODS), (SLOW, slow))}


def trained(
    names: Iterable[str],
    rate: float,
    *,
    seeds: int = SEEDS,
    steps: Mapping[str, int] = STEPS,
    evaluation: Evaluation = WHOLE,
) -> tuple[Pretraining, ...]:
    """Return the untrained encoders, and those that these methods train at one learning rate."""
    untrained = Pretraining(method=None, steps=0, evaluation=evaluation)
    made = [untrained] + [
        replace(untrained, method=kind(), steps=steps[kind.reads], learning_rate=rate)
        for kind in map(METHODS.__getitem__, names)
    ]
    return tuple(replace(each, seed=seed) for seed in range(seeds) for each in made)


def main(options: FigureOptions) -> None:
    """Train what is not there yet, print the tables and save the figure."""
    asked = runs(options.scale)
    # the small version takes less time than to start another process
    store = options.store if options.full else replace(options.store, workers=1)
    kept = iter(
        store.all(
            Experiment(name=f"{spec.method_name}-{spec.learning_rate}-{spec.seed}", training=spec)
            for specs in asked.values()
            for spec in specs
        )
    )
    records = {name: tuple(next(kept) for _ in specs) for name, specs in asked.items()}
    for name, group in records.items():
        print(f"{name}\n\n{value_table(group)}\n\n{effect_table(effects(group))}\n")
    print(save_figure(draw_methods(records), options.out / STEM))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
