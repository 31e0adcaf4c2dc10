"""Figure 23: surfaces of losses about the end of training, with the paths: MAE, RC-MAE and supervised side by side.

A small Vision Transformer is trained on digits by each method, and the loss about its last weights drawn in a plane of
two random filter-normalised directions and in that of the two principal directions of the path. Contours are shares of
what each training gained, from the loss before training (1) to that at the end (0), so that losses of different units
are compared. A path that is drawn over a plane lies elsewhere: the lower rows say how far, and how much its own loss
differs from that of the plane beneath it. --full: photographs too.

Claims: none. What pictures cannot show is measured and judged by the claims on landscapes.
Run:    python sims/23_surfaces.py [--quick | --full] [--redraw]
Takes:  10 seconds on two cores with --quick (30 steps: that it runs, no result), 40 by default, 2 minutes with --full;
        it needs no GPU
"""

from vitdyn._tables import text_table
from vitdyn.experiments import Experiment
from vitdyn.observables.schedule import Schedule
from vitdyn.plotting import FigureOptions, run_script, save_figure
from vitdyn.plotting.surfaces import draw_surfaces
from vitdyn.trajectory import Trajectory
from vitdyn.vits import Digits, ImageSet, Landscape, Photographs, Pretraining, SmallViT
from vitdyn.vits.methods import RCMAE, Method, Reconstruction, Supervised

STEM = "23_surfaces"
METHODS: dict[str, Method] = {"MAE": Reconstruction(), "RC-MAE": RCMAE(), "supervised": Supervised()}
STEPS = {"MAE": 240, "RC-MAE": 240, "supervised": 160}
QUICK = {"MAE": 30, "RC-MAE": 30, "supervised": 30}


def runs(options: FigureOptions) -> dict[str, dict[str, Experiment]]:
    """Return the surveys of each figure, by the method's name."""
    found = {STEM: surveys(Digits(), SmallViT(), quick=options.quick)}
    if options.full:
        found[f"{STEM}_photographs"] = surveys(Photographs(), SmallViT(patch=8))
    return found


def surveys(images: ImageSet, vit: SmallViT, *, quick: bool = False) -> dict[str, Experiment]:
    """Return a survey of each method's training, of losses and planes alone."""
    found = {}
    for name, method in METHODS.items():
        steps = (QUICK if quick else STEPS)[name]
        training = Pretraining(method=method, images=images, vit=vit, steps=steps)
        landscape = Landscape(
            training=training,
            schedule=Schedule(frames=9, spacing="linear"),
            measures=(),
            final_points=9 if quick else 17,
        )
        found[name] = Experiment(name=f"surface-{training.method_name}", training=landscape)
    return found


def table(records: dict[str, Trajectory]) -> str:
    """Return what the middle of each training says of projecting: its own loss and those of the planes beneath it."""
    rows = []
    for name, record in records.items():
        frame = record.dataset.isel(frame=record.dataset.sizes["frame"] // 2, seed=0)
        off = (frame["path_distance"] / frame["distance_to_end"]).values.tolist()
        rows.append((name, float(frame["loss"]), *frame["projected_loss"].values.tolist(), *off))
    heads = ("own loss", "random plane's", "path plane's", "off the random", "off the path's")
    return text_table(("method", *heads), rows)


def main(options: FigureOptions) -> None:
    """Train and survey what is not there yet, print the tables and save the figures."""
    for stem, experiments in runs(options).items():
        records = options.store.named(experiments)
        print(f"{table(records)}\n")
        print(save_figure(draw_surfaces(records), options.out / stem))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
