"""Figure 24: who converges and how far the loss is convex, along training; and what a teacher's term adds to it.

Small ViTs on digits, trained by masked reconstruction, by RC-MAE (m = 0.9), by RC-MAE whose teacher is shown other
images (of both the loss of reconstruction alone), and by labels: the loss as a share of what it was at first, and the
convex reach, how far it bends upwards along random filter-normalised directions. The theory's layer: the convex reach
for reconstruction, RC-MAE and supervision by one latent; negative curvature over positive, of RC-MAE's loss and of
reconstruction alone at the same weights, for m = 0.9 and for m = 0, with which training is MAE's. --full: photographs
in the place of digits, and the ends of their spectra.

Claims: LANDSCAPE-MAE-SMOOTHER and LANDSCAPE-TEACHER-CONVEX, outside their checked runs.
Run:    python sims/24_convexity.py [--quick | --full] [--redraw]
Takes:  1 minute on two cores, a third with --quick (one seed, half the steps), 3 with --full; on a GPU: not measured.
"""

from dataclasses import replace

import numpy as np

from vitdyn.claims.landscape import NU, NU_MEANINGS, REACH, SMALL, LatentRegression, on_layer, surveyed
from vitdyn.experiments import Experiment
from vitdyn.landscape import convex_reach
from vitdyn.objectives import RCMAE, MaskedReconstruction
from vitdyn.plotting import FigureOptions, run_script, save_figure
from vitdyn.plotting.questions import Panel, Series, draw_panels, table_of_ends
from vitdyn.plotting.style import BLUE, GREEN, ORANGE, VERMILLION
from vitdyn.trajectory import Trajectory
from vitdyn.vits import Digits, Photographs, methods

RUNS = {"few": (1, 40, 3, 2), "quick": (2, 80, 3, 4), "full": (5, 240, 7, 8)}
"""Seeds, steps of a ViT, frames, directions."""
STUDENTS = {
    "masked reconstruction": (methods.Reconstruction(), BLUE),
    "RC-MAE": (methods.RCMAE(momentum=0.9), GREEN),
    "RC-MAE, other images": (methods.RCMAE(momentum=0.9, teacher_sees="permuted"), ORANGE),
    "labels": (methods.Supervised(), VERMILLION),
}
LAYERS = {
    "masked reconstruction": (MaskedReconstruction(), BLUE),
    "RC-MAE, m = 0.9": (RCMAE(momentum=0.9), GREEN),
    "one latent": (LatentRegression(), VERMILLION),
}
TEACHERS = {"m = 0.9": (RCMAE(momentum=0.9), GREEN), "m = 0": (RCMAE(momentum=0.0), BLUE)}
SHARES = (-0.03, 1.03)
Case = tuple[str, str, int]


def experiments(scale: str) -> dict[Case, Experiment]:
    """Return the runs: a ViT for each method and seed, a run of the layer for each objective."""
    seeds, steps, frames, directions = RUNS[scale]
    images, patch = (Photographs(), 8) if scale == "full" else (Digits(), SMALL.patch)
    vit = replace(SMALL, patch=patch)
    sizes = {"images": images, "vit": vit, "steps": steps, "frames": frames, "directions": directions}
    sizes["measures"] = ("curvature", "lines") if scale == "full" else ("lines",)
    found = {}
    for words, (method, _) in STUDENTS.items():
        loss = "reconstruction" if isinstance(method, methods.RCMAE) else "pretraining"
        for seed in range(seeds):
            found["vit", words, seed] = surveyed(method, seed, loss=loss, **sizes)
    for kind, objectives, patches, numbers in (("reach", LAYERS, 36, (REACH,)), ("nu", TEACHERS, 12, NU)):
        for words, (objective, _) in objectives.items():
            training = on_layer(
                objective, patches=patches, steps=60, seeds=seeds, observables=numbers, frames=2 * frames
            )
            found[kind, words, 0] = Experiment(name=f"{objective.name}-{kind}", training=training)
    return found


def read(run: Trajectory) -> np.ndarray:
    """Return a small ViT's loss, convex reach and, if known, −λ_min/λ_max and λ_max by frame: (number, frame)."""
    frames = run.dataset.isel(seed=0)
    loss, lines = frames["loss"].to_numpy(), frames["line_loss"].to_numpy()
    found = [loss / loss[0], np.array([convex_reach(each, float(run["place"][-1])) for each in lines])]
    if "highest_eigenvalue" in frames:
        highest, lowest = (frames[f"{end}_eigenvalue"].to_numpy() for end in ("highest", "lowest"))
        found += [-lowest / highest, highest / highest[0]]
    return np.stack(found)


def panels(found: dict[Case, Trajectory]) -> list[Panel]:
    """Return the panels: of small ViTs, whose spectra --full has, and two of the layer."""
    loss, reach, bend, top, layer, nu = series = [[] for _ in range(6)]
    for words, (_, colour) in STUDENTS.items():
        runs = [each for (kind, name, _), each in found.items() if (kind, name) == ("vit", words)]
        numbers, x = np.stack([read(each) for each in runs], -1), runs[0]["step"].to_numpy()
        for each, values in zip(series, numbers, strict=False):
            each.append(Series(words=words, x=x, values=values, colour=colour))
    for words, (_, colour) in LAYERS.items():
        run = found["reach", words, 0].dataset.isel(frame=slice(1, None))  # Q = 0 has no filters
        x, values = run["step"].to_numpy(), run["convex_reach"].to_numpy()
        layer.append(Series(words=words, x=x, values=values, colour=colour))
    for words, (_, colour) in TEACHERS.items():
        run = found["nu", words, 0].dataset.isel(frame=slice(1, None))
        for name, dashes in zip(NU_MEANINGS, ("-", "--"), strict=True):
            label = f"{words}, {'whole loss' if dashes == '-' else 'reconstruction'}"
            x, values = run["step"].to_numpy(), run[name].to_numpy()
            nu.append(Series(words=label, x=x, values=values, colour=colour, dashes=dashes))
    look, lengths, ratio = {"across": "step", "kind": "curve"}, "distance in filters' lengths", "−λ_min/λ_max"
    made = [
        ("ViTs: loss", "loss over that at first", loss, SHARES),
        ("ViTs: convex reach", lengths, reach, SHARES),
        ("ViTs: negative curvature", ratio, bend, None),
        ("ViTs: largest eigenvalue", "λ_max over that at first", top, None),
        ("layer: convex reach", lengths, layer, SHARES),
        ("layer: negative curvature", ratio, nu, None),
    ]
    return [
        Panel(title=title, up=up, series=of, limits=limits, **look) for title, up, of, limits in made if of
    ]


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    made = panels(options.store.named(experiments("few" if options.quick else options.scale)))
    print(table_of_ends(made))
    print(save_figure(draw_panels(made, row_height=2.9), options.out / "24_convexity"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
