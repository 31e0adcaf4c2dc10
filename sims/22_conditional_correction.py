"""Figure 22: what the teacher of RC-MAE takes back, and for which inputs; whether training is done sooner for it.

The gradient of RC-MAE's second term beside the lag of its teacher, which under plain descent is minus the discounted
sum of past gradients. Across (a) to (c): how like inputs are to those of training. On the theory's layer s is the inner
product of their features with those that were seen; on small ViTs images are s x + √(1 − s²) noise. A linear student's
cosine falls with s, and so does the layer's; on a ViT noise meets the correction that images meet, as do images with
permuted patches or pixels (d). (e) The cosine along training. (f to h) Error of reconstruction without the second
term and with it: it slows the layer, and a little a ViT under plain descent; under AdamW a fast teacher is sooner.

Claims: RCMAE-CORRECTION, and runs beside it.
Run:    python sims/22_conditional_correction.py [--quick | --full] [--redraw]
Takes:  1 minute (two seeds; --quick one and few steps), 5 minutes with --full (five) on two cores; it needs no GPU
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import xarray as xr

from vitdyn.claims.limits import EXPONENTS
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import RCMAE
from vitdyn.plotting import FigureOptions, run_script, save_figure
from vitdyn.plotting.corrections import BY_LIKENESS, correction_panels, error_panel, joined, of_layer, of_vits
from vitdyn.plotting.questions import Panel, draw_panels, table_of_ends
from vitdyn.trajectory import Trajectory
from vitdyn.vits import METHODS, Landscape, Pretraining

LAYOUTS = {gap: PatchLayout.from_exponents(64, *exponents) for gap, exponents in EXPONENTS.items()}
SIGNS = dict(zip(LAYOUTS, ("layer, Δ > 0", "layer, Δ < 0"), strict=True))
SEEDS = {"few": 1, "quick": 2, "full": 5}
LAYER_STEPS = {"few": 30, "quick": 100, "full": 300}
VIT_STEPS, IMAGES = {"few": 30, "quick": 100, "full": 500}, {"few": 32, "quick": 64, "full": 256}
FRAMES, EARLY = 6, 10  # of a ViT's run; the step at which the layer's correction is sized
NONE, FAST, RISING = "no second term", "m = 0.9", "m = 0.9 → 1"
ON_LAYER = {NONE: RCMAE(weight=0.0), FAST: RCMAE(momentum=0.9), "m = 0.99": RCMAE(momentum=0.99)}
ON_VIT = {
    NONE: METHODS["reconstruction"](),
    RISING: METHODS["rc-mae"](momentum=0.9),
    "m = 0.996 → 1": METHODS["rc-mae"](),
    "m = 0.996": METHODS["rc-mae"](epoch_steps=1),
}
BY: dict[str, dict[str, Any]] = {
    "plain descent": {"optimizer": "descent", "learning_rate": 0.1, "weight_decay": 0.0},
    "AdamW": {},
}


def experiments(scale: str) -> dict[tuple[Any, ...], Experiment]:
    """Return the runs: of the layer by gap and teacher, of ViTs by optimizer, teacher and seed."""
    return {**on_layer(scale), **on_vits(scale)}


def on_layer(scale: str) -> dict[tuple[Any, ...], Experiment]:
    """Return the runs of the layer, all at a quarter of the default rate."""
    made: dict[tuple[Any, ...], Experiment] = {}
    for (gap, layout), (words, objective) in product(LAYOUTS.items(), ON_LAYER.items()):
        training = Training(
            generator=PatchGenerator(layout=layout),
            objective=objective,
            steps=LAYER_STEPS[scale],
            seeds=SEEDS[scale],
            batch_size=16,
            optimizer=GradientDescent(learning_rate=objective.default_learning_rate(layout) / 4),
            schedule=Schedule(frames=12),
            observables=("reconstruction_error", *(BY_LIKENESS if words == FAST else ())),
        )
        made[gap, words] = Experiment(name=f"rc-mae-{gap}", training=training)
    return made


def on_vits(scale: str) -> dict[tuple[Any, ...], Experiment]:
    """Return the surveys of ViTs: the error of reconstruction, and the correction of one teacher."""
    made: dict[tuple[Any, ...], Experiment] = {}
    for by, words, seed in product(BY, ON_VIT, range(SEEDS[scale])):
        survey = Landscape(
            training=Pretraining(method=ON_VIT[words], steps=VIT_STEPS[scale], seed=seed, **BY[by]),
            schedule=Schedule(frames=FRAMES, spacing="linear"),
            loss="reconstruction",
            images=IMAGES[scale],
            measures=("correction",) if words == RISING else (),
        )
        made[by, words, seed] = Experiment(name="rc-mae-vit", training=survey)
    return made


def panels(scale: str, found: Mapping[tuple[Any, ...], Trajectory]) -> list[Panel]:
    """Return the panels."""

    def trained(by: str, words: str) -> list[Trajectory]:
        return [run for key, run in found.items() if key[:2] == (by, words)]

    layers = {sign: of_layer(found[gap, FAST]) for gap, sign in SIGNS.items()}
    vits = {f"ViT, {by}": of_vits(trained(by, RISING)) for by in BY}
    shares = xr.DataArray(LAYOUTS["gap-positive"].sizes[0] / 64, dims="query_area")
    layer = {
        words: found["gap-positive", words]["reconstruction_error"].isel(cluster=0) @ shares
        for words in ON_LAYER
    }
    of_vit = {by: {words: joined(trained(by, words), "loss")[1:] for words in ON_VIT} for by in BY}
    return [
        *correction_panels(layers, vits, EARLY, 3 * VIT_STEPS[scale] // 5),
        error_panel("layer, Δ > 0", layer, scale="clock"),
        *(error_panel(f"ViT, {by}", errors) for by, errors in of_vit.items()),
    ]


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    scale = "few" if options.quick else options.scale
    made = panels(scale, options.store.named(experiments(scale)))
    print(table_of_ends(made))
    print(save_figure(draw_panels(made, row_height=2.9), options.out / "22_conditional_correction"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
