"""Figure 19: ten small Vision Transformers on digits: whether the order of the theory's layer appears.

Encoders are trained by losses of single patches (reconstruction, data2vec), by losses of whole images (MoCo v3, SimCLR,
VICReg, BYOL, DINO, labels) and by a mixture, at two learning rates, from five seeds. On the theory's layer the first
have each patch attend to its own area, and the second have all attend alike. Tables give every metric by depth, and
what training did to the last block, with 95 % intervals over seeds and the signs that were written down beforehand.

Claims: none. The theory is about one layer; what is seen of it here is reported, not judged.
Run:    python sims/19_families_on_digits.py [--quick | --full] [--redraw]
Takes:  a quarter of a minute with --quick (one seed, few steps: that it runs, no result); with --full, the result,
        about 12 minutes on two cores
"""

from vitdyn.experiments import Experiment
from vitdyn.plotting import FigureOptions, run_script, save_figure
from vitdyn.plotting.methods import draw_methods
from vitdyn.vits import METHODS, Evaluation, Pretraining, effect_table, effects, value_table

STEM = "19_families_on_digits"
RATES = (2e-3, 6e-3)
SEEDS, STEPS = 5, {"patches": 600, "both": 600, "image": 400}
FEW = Evaluation(images=64, objects=20, views=10)


def runs(scale: str) -> dict[str, tuple[Pretraining, ...]]:
    """Return the runs of all methods and seeds by learning rate, the untrained encoders with each."""
    if scale == "quick":
        return {"rate 0.002": trained(RATES[0], seeds=1, steps=dict.fromkeys(STEPS, 25), evaluation=FEW)}
    return {
        f"rate {rate:g}": trained(rate, seeds=SEEDS, steps=STEPS, evaluation=Evaluation()) for rate in RATES
    }


def trained(
    rate: float, *, seeds: int, steps: dict[str, int], evaluation: Evaluation
) -> tuple[Pretraining, ...]:
    """Return the runs at one learning rate."""
    untrained = [Pretraining(method=None, steps=0, evaluation=evaluation, seed=seed) for seed in range(seeds)]
    return (
        *untrained,
        *(
            Pretraining(
                method=kind(),
                evaluation=evaluation,
                steps=steps[kind.reads],
                learning_rate=rate,
                seed=seed,
            )
            for seed in range(seeds)
            for kind in METHODS.values()
        ),
    )


def main(options: FigureOptions) -> None:
    """Train what is not there yet, print the tables and save the figure."""
    asked = runs(options.scale)
    kept = iter(
        options.store.all(
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
