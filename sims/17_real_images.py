"""Figure 17: small Vision Transformers on real images, by depth: reconstruction, contrast, their mixture, and labels.

One architecture is trained by four methods from five seeds and evaluated on held-out images: how far its attention
reaches, how much its maps differ, its frequencies, its tokens, what a linear probe reads. A table puts Park et al.'s
three findings about contrast against reconstruction as differences of predicted sign, paired by seed, with 95 %
intervals. By default: digits, 4 x 4 patches, three blocks, and for each method as many steps as a few seconds allow.
--quick: two seeds and a tenth of the steps: that it runs, no result. --full: the same on crops of photographs too,
pixels reconstructed as they are and normalised in each patch.

Claims: none. The theory is about one layer; what is seen of it here is reported, not judged.
Run:    python sims/17_real_images.py [--quick | --full] [--redraw]
Takes:  1.5 minutes on two cores, 20 seconds with --quick, 5 minutes with --full; on a GPU: not measured
"""

from vitdyn.experiments import Experiment
from vitdyn.plotting import FigureOptions, run_script, save_figure
from vitdyn.plotting.practice import draw_practice
from vitdyn.vits import (
    Digits,
    ImageSet,
    Photographs,
    Pretraining,
    SmallViT,
    finding_table,
    findings,
    value_table,
)  # fmt: skip
from vitdyn.vits.methods import Contrast, Mixture, Reconstruction, Supervised

STEM, SEEDS = "17_real_images", 5
STEPS = {"untrained": 0, "reconstruction": 700, "contrast": 220, "mixture": 240, "supervised": 300}
LARGE = SmallViT(patch=8)


def runs(options: FigureOptions) -> dict[str, tuple[Pretraining, ...]]:
    """Return the runs by the name of their figure."""
    found = {STEM: trained(Digits(), SmallViT(), quick=options.quick)}
    if options.full:
        found[f"{STEM}_photographs"] = trained(Photographs(), LARGE)
        found[f"{STEM}_photographs_normalised"] = trained(Photographs(), LARGE, normalised=True)
    return found


def trained(
    images: ImageSet, vit: SmallViT, *, normalised: bool = False, quick: bool = False
) -> tuple[Pretraining, ...]:
    """Return all methods and seeds; targets of reconstruction are normalised in each patch or not."""
    rebuilt = Reconstruction(normalised_targets=normalised)
    methods = (None, rebuilt, Contrast(), Mixture(reconstruction=rebuilt), Supervised())
    return tuple(
        Pretraining(method=method, images=images, vit=vit, steps=steps // 10 if quick else steps, seed=seed)
        for seed in range(2 if quick else SEEDS)
        for method, steps in zip(methods, STEPS.values(), strict=True)
    )


def main(options: FigureOptions) -> None:
    """Train what is not there yet, print the tables and save the figures."""
    for name, specs in runs(options).items():
        records = options.store.all(
            Experiment(name=f"{spec.method_name}-{spec.seed}", training=spec) for spec in specs
        )
        print(f"{value_table(records)}\n\n{finding_table(findings(records))}")
        print(save_figure(draw_practice(records), options.out / name))


if __name__ == "__main__":
    run_script(main, FigureOptions, __doc__)
