"""Figure 1: the data model.

Areas of two clusters on a 16 x 16 grid, a sample, its masked view and its two contrastive views.

Claims: none; this is what MAE-AREA and CL-GLOBAL are about, with areas that are connected.
Run:    python sims/01_data.py
Takes:  0.1 minutes on two cores (nothing is trained); on a GPU: not measured, and not needed.
"""

import numpy as np

from vitdyn._tables import text_table
from vitdyn.data import PatchBatch, PatchGenerator, PatchLayout
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import Drawing, FigureOptions, draw_data, run_script, save_figure
from vitdyn.seeds import stream

PIXELS = 4


def layout() -> PatchLayout:
    """Return the areas: P = 256, Δ = 0.4, two clusters."""
    return PatchLayout.from_exponents(256, 0.9, 0.4, clusters=2, arrangement="contiguous", grid=(16, 16))


def sample() -> PatchBatch:
    """Return the one sample that is drawn."""
    return PatchGenerator(layout=layout()).sample(1, (0,))


def draw(batch: PatchBatch) -> Drawing:
    """Draw the figure."""
    patches = batch.layout.patches
    views = [
        view[0]
        for step, objective in enumerate((MaskedReconstruction(), Contrastive()))
        for view in objective.draw_views(stream(0, "masks", step), 1, patches)
    ]
    return draw_data(
        batch.layout,
        cluster=int(batch.cluster[0, 0]),
        image=batch.images(patch_size=PIXELS)[0, 0].numpy(),
        patch_latent=batch.patch_latent[0, 0].numpy(),
        views=views,
    )


def main(options: FigureOptions) -> None:
    """Print the table and save the figure."""
    batch = sample()
    print(batch.layout.describe())
    rows = [
        (index + 1, sizes[0], np.count_nonzero(sizes) - 1, sizes[1:].min(), sizes[1:].max())
        for index, sizes in enumerate(batch.layout.sizes)
    ]
    print(text_table(("cluster", "global patches", "local areas", "smallest", "largest"), rows))
    print(save_figure(draw(batch), options.out / "01_data"))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
