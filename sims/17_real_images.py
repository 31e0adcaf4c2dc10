"""Figure 17: small Vision Transformers on real images, by depth: reconstruction, contrast, their mixture, and labels.

One architecture is trained by four methods from five seeds and evaluated on held-out images: how far its attention
reaches, how much its maps differ, its frequencies, its tokens, what a linear probe reads. A table puts Park et al.'s
three findings about contrast against reconstruction as differences of predicted sign, paired by seed, with 95 %
intervals. By default: digits, 4 x 4 patches, three blocks, and for each method as many steps as a few seconds allow.
--photographs: the same on crops of photographs, pixels reconstructed as they are and normalised in each patch.
--full: 8 x 8 patches, six blocks, digits and photographs, equal steps for all methods.

Claims: none. The theory is about one layer; what is seen of it here is reported, not judged.
Run:    python sims/17_real_images.py [--quick | --full] [--photographs] [--redraw]
Takes:  1.5 minutes on two cores, 5 with --photographs, 11 hours (its own estimate) with --full; on a GPU: not measured
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitdyn.experiments import Experiment
from vitdyn.plotting import Drawing, FigureOptions, run_script, save_figure
from vitdyn.plotting.practice import draw_practice
from vitdyn.trajectory import Trajectory
from vitdyn.vits import (
    Digits,
    ImageSet,
    Photographs,
    Pretraining,
    SmallViT,
    finding_table,
    findings,
    value_table,
)
from vitdyn.vits.methods import Contrast, Method, Mixture, Reconstruction, Supervised

STEM, SEEDS = "17_real_images", 5
QUICK_STEPS = (0, 700, 220, 240, 300)
FULL_STEPS = 3000


@dataclass(frozen=True, kw_only=True)
class Options(FigureOptions):
    """Options of this script."""

    photographs: bool = False
    """The default runs on photographs too, in patches of 8 pixels, with plain and with normalised targets."""


def methods(**reconstruction: Any) -> tuple[Method | None, ...]:
    """Return the methods, with these fields of reconstruction."""
    rebuilt = Reconstruction(**reconstruction)
    return None, rebuilt, Contrast(), Mixture(reconstruction=rebuilt), Supervised()


def quick(images: ImageSet, vit: SmallViT, *, normalised: bool = False) -> tuple[Pretraining, ...]:
    """Return all methods and seeds; targets of reconstruction are normalised in each patch or not."""
    return tuple(
        Pretraining(
            method=method,
            images=images,
            vit=vit,
            steps=steps,
            seed=seed,
        )
        for seed in range(SEEDS)
        for method, steps in zip(methods(normalised_targets=normalised), QUICK_STEPS, strict=True)
    )


def full(images: ImageSet, patch: int) -> tuple[Pretraining, ...]:
    """Return all methods and seeds at their larger size."""
    return tuple(
        Pretraining(
            method=method,
            images=images,
            vit=SmallViT(patch=patch, width=64, depth=6, expansion=4, decoder_width=32),
            steps=FULL_STEPS if method else 0,
            batch_size=128,
            learning_rate=2e-3,
            seed=seed,
        )
        for seed in range(SEEDS)
        for method in methods(mask=0.75)
    )


def runs(scale: str, *, photographs: bool = False) -> dict[str, tuple[Pretraining, ...]]:
    """Return the runs by the name of their figure."""
    if scale == "full":
        return {STEM: full(Digits(), 1), f"{STEM}_photographs": full(Photographs(), 4)}
    found = {STEM: quick(Digits(), SmallViT())}
    if photographs:
        large = SmallViT(patch=8)
        found[f"{STEM}_photographs"] = quick(Photographs(), large)
        found[f"{STEM}_photographs_normalised"] = quick(Photographs(), large, normalised=True)
    return found


def draw(records: Sequence[Trajectory]) -> Drawing:
    """Draw one figure."""
    return draw_practice(records)


def main(options: Options) -> None:
    """Train what is not there yet, print the tables and save the figures."""
    for name, specs in runs(options.scale, photographs=options.photographs).items():
        records = options.store.all(
            Experiment(name=f"{spec.method_name}-{spec.seed}", training=spec) for spec in specs
        )
        print(value_table(records))
        print()
        print(finding_table(findings(records)))
        print(save_figure(draw(records), options.out / name))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
