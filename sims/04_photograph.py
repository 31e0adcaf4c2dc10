"""Figure 4: what patches of a photograph attend to after masked reconstruction and after contrast.

Two photographs that come with scikit-image are segmented; the segments, cut into 16-pixel patches, are the
areas of two clusters of the data model. After masked reconstruction a patch attends to its own segment; after
contrast every patch attends to the largest segment of its photograph. A segment of one patch cannot be
reconstructed (it is masked with its only patch) and is hatched; the default segments have three or more.
Segments of photographs are larger than the local areas of the theory: their κ_s exceeds its range, which ends at 1/2.

Claims: MAE-AREA and CL-GLOBAL, outside their checked runs.
Run:    python sims/04_photograph.py [--first astronaut] [--segments felzenszwalb | slic] [--quick | --full] [--redraw]
Takes:  0.5 minutes on two cores (--full trains four times as many seeds); on a GPU: not measured.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitdyn._extras import from_extra
from vitdyn._tables import text_table
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Training
from vitdyn.experiments import Experiment
from vitdyn.experiments.inspection import patch_area_attention
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import Drawing, FigureOptions, Photograph, draw_photographs, run_script, save_figure

SIDE, PATCH = 256, 16
SEEDS = {"quick": 8, "full": 32}
FOLLOWED = {"astronaut": (3, 7), "coffee": (4, 7), "chelsea": (7, 8), "rocket": (8, 8)}
OBJECTIVES = {"reconstruction": MaskedReconstruction(), "contrast": Contrastive()}
Name = Literal["astronaut", "coffee", "chelsea", "rocket"]


@dataclass(frozen=True, kw_only=True)
class Options(FigureOptions):
    """Options of this script."""

    first: Name = "astronaut"
    """The photograph of the first cluster."""
    second: Name = "coffee"
    """The photograph of the second cluster, which contrast takes negatives from."""
    segments: Literal["felzenszwalb", "slic"] = "felzenszwalb"
    """How the photographs are segmented."""


def picture(name: str) -> np.ndarray:
    """Return the middle square of a photograph at 256 x 256 pixels, values in [0, 1]."""
    with from_extra("photographs"):
        from skimage import data, transform
    image = getattr(data, name)()
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return transform.resize(image[top : top + side, left : left + side], (SIDE, SIDE), anti_aliasing=True)


def segments(image: np.ndarray, method: str) -> np.ndarray:
    """Return a label image with a handful of segments."""
    with from_extra("photographs"):
        from skimage import segmentation
    if method == "slic":
        return segmentation.slic(image, n_segments=12, compactness=10, start_label=0)
    return segmentation.felzenszwalb(image, scale=800, sigma=0.8, min_size=1000)


def experiments(scale: str, layout: PatchLayout) -> dict[str, Experiment]:
    """Return one run for each objective."""
    return {
        name: Experiment(
            name=f"{objective.name}-photograph",
            training=Training(
                generator=PatchGenerator(layout=layout), objective=objective, steps=400, seeds=SEEDS[scale]
            ),
        )
        for name, objective in OBJECTIVES.items()
    }


def draw(photographs: list[Photograph], attention: dict[str, np.ndarray]) -> Drawing:
    """Draw the figure."""
    return draw_photographs(photographs, attention)


def main(options: Options) -> None:
    """Segment, run what is not there yet, print the tables and save the figure."""
    names = (options.first, options.second)
    pictures = [picture(name) for name in names]
    labels = [segments(image, options.segments) for image in pictures]
    layout = PatchLayout.from_labels(labels, patch_size=PATCH)
    for name, image in zip(names, labels, strict=True):
        print(f"{name:<10} {PatchLayout.from_labels(image, patch_size=PATCH).describe()}")
    print(f"{'together':<10} {layout.describe()}")
    runs = experiments(options.scale, layout)
    trained = options.store.named(runs)
    attention = {name: patch_area_attention(found, runs[name].training) for name, found in trained.items()}
    rows = [
        (objective, name, float(np.nanmedian(found["own_area_attention"][-1, :, index, 1:, 0])),
         float(np.nanmedian(found["area_attention"][-1, :, index, 1:, 0, 0])))
        for objective, found in trained.items()
        for index, name in enumerate(names)
    ]  # fmt: skip
    print(text_table(("objective", "photograph", "local patches: own area", "largest area"), rows))
    photographs = [
        Photograph(name=name, picture=image, layout=layout, cluster=index, patch=FOLLOWED[name])
        for index, (name, image) in enumerate(zip(names, pictures, strict=True))
    ]
    print(save_figure(draw(photographs, attention), options.out / "04_photograph"))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
