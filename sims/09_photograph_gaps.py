"""Figure 9: the information gap of real photographs, by patch size and by the algorithm that segments them.

Eight colour photographs that come with scikit-image, at 512 pixels, are segmented by felzenszwalb and by slic at
three granularities each and cut into patches of 8, 16 and 32 pixels; every case gives measured exponents κ_c and
κ_s and with them Δ. The dots are these cases, not a sample of all photographs, and segments stand in for areas:
a finer segmentation means smaller local areas and often a smaller global one. Bars are medians.

Claims: none. Nothing is trained.
Run:    python sims/09_photograph_gaps.py [--quick | --full] [--redraw]
Takes:  0.4 minutes on two cores (--full is the same); a GPU is not used.
"""

from collections.abc import Iterator

import numpy as np

from vitdyn._extras import from_extra
from vitdyn._tables import text_table
from vitdyn.data import PatchLayout
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.photograph_gaps import Segmented, draw_photograph_gaps

SIDE = 512
PATCH_SIZES = (8, 16, 32)
PHOTOGRAPHS = (
    "astronaut", "coffee", "chelsea", "rocket", "retina", "immunohistochemistry", "hubble_deep_field",
    "stereo_motorcycle",
)  # fmt: skip
SCALES = {"felzenszwalb": (200, 500, 1200), "slic": (12, 30, 75)}
"""felzenszwalb's scale and slic's number of segments."""


def picture(name: str) -> np.ndarray:
    """Return the middle square of a photograph at 512 x 512 pixels, values in [0, 1]."""
    with from_extra("photographs"):
        from skimage import data, transform
    loaded = getattr(data, name)()
    image = loaded[0] if isinstance(loaded, tuple) else loaded
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return transform.resize(image[top : top + side, left : left + side], (SIDE, SIDE), anti_aliasing=True)


def segments(image: np.ndarray, algorithm: str, scale: int) -> np.ndarray:
    """Return a label image."""
    with from_extra("photographs"):
        from skimage import segmentation
    if algorithm == "slic":
        return segmentation.slic(image, n_segments=scale, compactness=10, start_label=0)
    return segmentation.felzenszwalb(image, scale=scale, sigma=0.8, min_size=256)


def cases() -> Iterator[Segmented | None]:
    """Yield every photograph, algorithm, granularity and patch size; None where all patches got one label."""
    for name in PHOTOGRAPHS:
        image = picture(name)
        for algorithm, scales in SCALES.items():
            for scale in scales:
                labels = segments(image, algorithm, scale)
                for size in PATCH_SIZES:
                    try:
                        layout = PatchLayout.from_labels(labels, patch_size=size)
                    except ValueError:  # one area only: there is nothing to be local
                        yield None
                        continue
                    words = f"{name} ({scale})"
                    yield Segmented(photograph=words, algorithm=algorithm, patch_size=size, layout=layout)


def table(made: list[Segmented]) -> str:
    """Return a table with one line for each algorithm and patch size."""
    rows = []
    for algorithm in SCALES:
        for size in PATCH_SIZES:
            chosen = [each for each in made if (each.algorithm, each.patch_size) == (algorithm, size)]
            gaps = [each.layout.information_gap for each in chosen]
            large, small = ([getattr(each.layout, f"kappa_{kind}") for each in chosen] for kind in "cs")
            outside = sum(not each.in_range for each in chosen)
            rows.append((algorithm, size, len(chosen), float(np.median(gaps)), min(gaps), max(gaps),
                         float(np.mean(np.array(gaps) > 0)), min(large), max(large), min(small), max(small),
                         outside))  # fmt: skip
    heads = (
        "algorithm",
        "patch",
        "cases",
        "median Δ",
        "least",
        "most",
        "Δ > 0",
        "κ_c from",
        "to",
        "κ_s from",
        "to",
    )
    return text_table((*heads, "outside"), rows)


def draw(made: list[Segmented]) -> Drawing:
    """Draw the figure."""
    return draw_photograph_gaps(made)


def main(options: FigureOptions) -> None:
    """Segment, print the table and save the figure."""
    found = list(cases())
    made = [each for each in found if each is not None]
    print(table(made))
    print(f"{len(found) - len(made)} of {len(found)} cases left out: all patches got one label")
    print(save_figure(draw(made), options.out / "09_photograph_gaps"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
