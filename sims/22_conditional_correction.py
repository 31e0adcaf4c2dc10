"""Figure 22: what the teacher of RC-MAE takes back, and for which inputs; whether training is done sooner for it.

The gradient of RC-MAE's second term beside the way by which the teacher lags behind, which under plain gradient descent
is minus the discounted sum of past gradients. Across a to c: how like inputs are to those of training. On the theory's
layer s is the inner product of their features with those that were seen; on small ViTs images are s x + √(1 − s²)
noise. A linear student's cosine falls with s, and so does the layer's; on a ViT noise meets the correction that images
meet, as do images with permuted patches or pixels (d). e, f: error of reconstruction, without the second term and with.

Claims: RCMAE-CORRECTION, and runs beside it.
Run:    python sims/22_conditional_correction.py [--quick | --full] [--redraw]
Takes:  1 minute with --quick (two seeds), 8 minutes with --full (five) on two cores; it needs no GPU
"""

from collections.abc import Mapping

import numpy as np

from vitdyn.claims.limits import EXPONENTS
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import RCMAE
from vitdyn.observables import Observable, TeacherCorrection
from vitdyn.plotting import FigureOptions, run_script, save_figure
from vitdyn.plotting.questions import Panel, Series, draw_panels, table_of_ends
from vitdyn.plotting.style import BLACK, BLUE, GREEN, VERMILLION
from vitdyn.trajectory import Trajectory
from vitdyn.vits import METHODS, Pretraining
from vitdyn.vits.correction_readings import AFTER, KINDS, read_corrections, reconstruction_errors

LAYOUTS = {gap: PatchLayout.from_exponents(64, *exponents) for gap, exponents in EXPONENTS.items()}
SCALES = {"quick": (2, 100), "full": (5, 300)}
TRAINED = {"quick": (2, 100), "full": (5, 500)}
"""Seeds and steps of the layer, and of the ViT."""
LIKE = (0.0, 0.25, 0.5, 0.75, 1.0)
READ_EVERY, EARLY, FOLLOWING = 20, 10, "m = 0.9"
NONE, KIND = "no second term", METHODS["rc-mae"]
ON_LAYER = {NONE: RCMAE(weight=0.0), FOLLOWING: RCMAE(momentum=0.9), "m = 0.99": RCMAE(momentum=0.99)}
ON_VIT = {NONE: METHODS["reconstruction"](), "m = 0.9 → 1": KIND(momentum=0.9), "m = 0.996 → 1": KIND(),
          "m = 0.996": KIND(epoch_steps=1)}  # fmt: skip
LOOKS = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "^"), (BLACK, "D"))
COMPUTED = {f"{number}_{place}": TeacherCorrection(number=number, similarity=similarity)
            for number in ("cosine", "strength") for place, similarity in enumerate(LIKE)}  # fmt: skip
RECORD = [Observable(name=name, compute=each, may_be_missing=True) for name, each in COMPUTED.items()]


def experiments(scale: str) -> dict[tuple[str, str], Experiment]:
    """Return the runs of the layer by the sign of Δ and the teacher, all at a quarter of the default rate."""
    seeds, steps = SCALES[scale]
    return {
        (gap, words): Experiment(
            name=f"rc-mae-{gap}-{number}",
            training=Training(
                generator=PatchGenerator(layout=layout), objective=objective, steps=steps, seeds=seeds, batch_size=16,
                optimizer=GradientDescent(learning_rate=objective.default_learning_rate(layout) / 4),
                schedule=Schedule(frames=12),
                observables=("reconstruction_error", *(RECORD if words == FOLLOWING else ()))),
        )
        for gap, layout in LAYOUTS.items()
        for number, (words, objective) in enumerate(ON_LAYER.items())
    }  # fmt: skip


def series_of(values: Mapping[str, np.ndarray], x: np.ndarray, relative: bool = False) -> list[Series]:
    """Return a series for each of ``values``, (place, seed), over its last place where they are ``relative``."""
    return [Series(words=words, x=x, values=of / of[-1] if relative else of, colour=colour, marker=marker)
            for (words, of), (colour, marker) in zip(values.items(), LOOKS, strict=False)]  # fmt: skip


def on_layer(run: Trajectory, number: str, step: int | None = None) -> np.ndarray:
    """Return a number of the correction, (similarity, seed), at the first frame from ``step`` on or at the end."""
    frame = -1 if step is None else min(int((run["step"] < step).sum()), run.dataset.sizes["frame"] - 1)
    return np.stack([run[f"{number}_{place}"][frame].to_numpy() for place in range(len(LIKE))])


def panels(scale: str, found: Mapping[tuple[str, str], Trajectory]) -> list[Panel]:
    """Return the panels; what they show of ViTs is trained here."""
    (seeds, steps), x = TRAINED[scale], np.array(LIKE)
    specs = {words: [Pretraining(method=method, steps=steps, seed=seed) for seed in range(seeds)]
             for words, method in ON_VIT.items()}  # fmt: skip
    read = read_corrections(specs["m = 0.9 → 1"], LIKE)

    def vit(number: str, kinds: tuple[str, ...], words: str = "{}") -> dict[str, np.ndarray]:
        return {words.format(at): np.stack([read[at, number, kind] for kind in kinds]) for at in AFTER}

    blends, signs = tuple(f"s = {s:g}" for s in LIKE), ("layer, Δ > 0", "layer, Δ < 0")
    runs = {sign: found[gap, FOLLOWING] for sign, gap in zip(signs, LAYOUTS, strict=True)}
    up, shares = runs[signs[0]], LAYOUTS["gap-positive"].sizes[0] / 64
    sizes = {f"{sign}, early": on_layer(run, "strength", EARLY) for sign, run in runs.items()}
    sizes |= vit("strength", blends, "ViT, {}")
    directions = {**vit("cosine", blends, "{}, lag"), "AdamW, past gradients": vit("past", blends)["AdamW"]}
    kinds = vit("cosine", KINDS, "{}: cosine")
    kinds |= {words: each / each[1] for words, each in vit("strength", KINDS, "{}: norm").items()}
    by_area = {words: found["gap-positive", words]["reconstruction_error"].to_numpy() for words in ON_LAYER}
    rebuilt = {words: each[:, :, 0] @ shares for words, each in by_area.items()}
    errors = {words: reconstruction_errors(each, READ_EVERY) for words, each in specs.items()}
    across = {"across": "s, likeness to what was seen", "limits": None}
    training = {"across": "step", "up": "error of masked patches", "kind": "curve"}
    return [
        Panel(title="layer: direction", up="cosine with θ − θ̄", **across,
              series=series_of({sign: on_layer(run, "cosine") for sign, run in runs.items()}, x)),
        Panel(title="ViT: direction", up="cosine", **across, series=series_of(directions, x)),
        Panel(title="size", up="norm over that at s = 1", **across, series=series_of(sizes, x, relative=True)),
        Panel(title="ViT: other images", across="", up="cosine; norm over others'", limits=None,
              series=series_of(kinds, np.arange(len(KINDS))), ticks=list(enumerate(KINDS))),
        Panel(title="layer, Δ > 0", scale="clock", limits=None, **training,
              series=series_of(rebuilt, up["step"].to_numpy())),
        Panel(title="ViT", limits=(0.38, 0.9), **training, series=series_of(errors, np.arange(0, steps, READ_EVERY))),
    ]  # fmt: skip


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    made = panels(options.scale, options.store.named(experiments(options.scale)))
    print(table_of_ends(made))
    print(save_figure(draw_panels(made, row_height=2.9), options.out / "22_conditional_correction"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
