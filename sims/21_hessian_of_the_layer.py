"""Figure 21: the Hessian of the theory's layer, predicted by symmetry and measured; what phases I and II are in it.

Left masked reconstruction, right contrast. (a, b) Curvatures at Q = 0, κ = (0.9, 0.4): lines are exact (b: at vanishing
similarity), markers measured, one for each seed; dashed and open: negative. (c, d) Along φ_a and φ_1 of local queries
over training; dotted in (c): the theory at the rows' own correlations. Phase I goes down a slope that bends up (φ_1),
phase II one that bends down (φ_a), until A_a = 1/3. (e, f) 1/λ, which down an exponential gains one a unit of time.

Claims: HESSIAN-START, HESSIAN-TURN and HESSIAN-CLOCK, outside their checked runs.
Run:    python sims/21_hessian_of_the_layer.py [--quick | --full] [--redraw]
Takes:  1 minute on two cores (--quick 3 seeds, --full 12 seeds); on a GPU: not measured.
"""

from functools import cache

import numpy as np

from vitdyn._tables import text_table
from vitdyn.claims.layer_curvature import SIZES, exact_curvature
from vitdyn.data import AreaSizes, Constant, Distribution, PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.observables import RECORD
from vitdyn.observables.correlation_curvature import DIRECTIONS
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.layer_curvature import (
    CurvaturePath,
    StartCurvature,
    contrast_path,
    draw_layer_curvature,
    reconstruction_path,
)
from vitdyn.theory import contrastive_hessian, reconstruction_hessian
from vitdyn.trajectory import Trajectory

contrast, reconstruction = cache(contrastive_hessian), cache(reconstruction_hessian)
SEEDS, SAMPLES = {"quick": 2, "full": 12}, 128
LAYOUTS, PATH, BEYOND = SIZES["gap-positive"], 128, (1e4, 1e6)
OBJECTIVES, CLUSTERS = {"MAE": MaskedReconstruction(), "CL": Contrastive()}, {"MAE": 1, "CL": 2}
LATENTS, ONE = Uniform(), Constant(value=1.25)
KINDS = {"MAE": tuple(DIRECTIONS), "CL": ("own_area", "global_area", "global_keys", "other_keys")}
STEP, LENGTH = {"MAE": 1 / 36, "CL": 1 / 60}, {"MAE": 4.0, "CL": 2.5}
"""A step and the length of training, both in units of 1/|λ| at the start."""


def exact(name: str, kind: str, sizes: AreaSizes, latents: Distribution = LATENTS) -> float:
    """Return the theory's curvature at Q = 0."""
    if name == "CL":
        return exact_curvature(kind, contrast(sizes, latents, clusters=2, negatives=SAMPLES - 1))
    return exact_curvature(
        kind, reconstruction(sizes, latents, "global" if kind == "global_query" else "local")
    )


def experiments(scale: str) -> dict[tuple[str, int], Experiment]:
    """Return a look at the start for each objective and P, and a run (0) along training."""
    made = {}
    for name, objective in OBJECTIVES.items():
        for patches in (*LAYOUTS, 0):
            layout = PatchLayout.from_sizes(LAYOUTS[patches or PATH], clusters=CLUSTERS[name])
            moved = "own_area" if name == "MAE" else "global_area"
            unit = 1 / abs(exact(name, moved, AreaSizes.of(layout), ONE))
            kinds = KINDS[name] if patches else ("own_area", "global_area")
            made[name, patches] = Experiment(
                name=f"curvature-{name.lower()}-{patches}",
                training=Training(
                    generator=PatchGenerator(layout=layout, latents=LATENTS if patches else ONE), objective=objective,
                    steps=0 if patches else round(LENGTH[name] / STEP[name]), seeds=SEEDS[scale], precision="float64",
                    evaluation_samples=SAMPLES, optimizer=GradientDescent(learning_rate=STEP[name] * unit),
                    observables=(*(f"{kind}_curvature" for kind in kinds), *(() if patches else RECORD)),
                    schedule=Schedule(frames=28)))  # fmt: skip
    return made


def start_of(name: str, found: dict[tuple[str, int], Trajectory]) -> list[StartCurvature]:
    """Return measured and exact curvatures of an objective at Q = 0."""
    sizes = [AreaSizes.of(PatchLayout.from_sizes(each)) for each in LAYOUTS.values()]
    sizes += [AreaSizes.from_exponents(patches, 0.9, 0.4) for patches in BEYOND]
    return [
        StartCurvature(
            words=kind.replace("_", " "), patches=np.array([each.patches for each in sizes]),
            exact=np.array([exact(name, kind, each) for each in sizes]),
            measured=np.stack([found[name, P][f"{kind}_curvature"].to_numpy()[0] for P in LAYOUTS]))
        for kind in KINDS[name]
    ]  # fmt: skip


def path_of(name: str, run: Trajectory) -> CurvaturePath:
    """Return the curvatures of local queries over training."""
    if name == "CL":
        return contrast_path(run)
    return reconstruction_path(run, AreaSizes.of(PatchLayout.from_sizes(LAYOUTS[PATH])), ONE)


def draw(found: dict[tuple[str, int], Trajectory]) -> Drawing:
    """Draw the figure."""
    starts = {name: start_of(name, found) for name in OBJECTIVES}
    return draw_layer_curvature(starts, {name: path_of(name, found[name, 0]) for name in OBJECTIVES})


def main(options: FigureOptions) -> None:
    """Run what is not there yet, print the table and save the figure."""
    found = options.store.named(experiments(options.scale))
    table = [
        (name, each.words, int(P), f"{value:.3g}", f"{seeds.mean():.3g}", float(seeds.mean() / value))
        for name in OBJECTIVES for each in start_of(name, found)
        for P, value, seeds in zip(each.patches, each.exact, each.measured, strict=False)
    ]  # fmt: skip
    print(text_table(("loss", "curvature", "P", "exact", "measured", "ratio"), table))
    print(save_figure(draw(found), options.out / "21_hessian_of_the_layer"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
