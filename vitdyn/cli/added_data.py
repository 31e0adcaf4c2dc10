"""What a command can add to the theory's data: options with the names of the generator's fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AddedDataOptions:
    """What of the data is not the theory's; the theory's layer may then be trained by a slower plain twin."""

    cluster_probabilities: tuple[float, ...] = ()
    """π_k, one for each cluster; left out, all are as likely."""
    latent_correlation: float = 0.0
    """ρ of the latents of any two areas of a sample."""
    negative: float = 0.0
    """Probability that a latent has a minus sign."""
    noise: float = 0.0
    """s of the normal noise in each coordinate of every patch."""
    coherence: float = 0.0
    """c, the inner product of any two features."""
    variants: int = 1
    """r, features of an area, of which a sample shows one."""
    shared_areas: tuple[int, ...] = ()
    """Areas, 0 the global one, whose feature all clusters share."""
    largest_shift: int = 0
    """Cells by which the areas may move from sample to sample, along each axis."""


def generator_of(options: AddedDataOptions, layout: Any, latents: Any) -> Any:
    """Return the data distribution that the options name."""
    from vitdyn.data import PatchGenerator, shared_features

    return PatchGenerator(
        layout=layout,
        latents=latents,
        cluster_probabilities=options.cluster_probabilities or None,
        latent_correlation=options.latent_correlation,
        negative=options.negative,
        noise=options.noise,
        coherence=options.coherence,
        variants=options.variants,
        feature_table=shared_features(layout, options.shared_areas) if options.shared_areas else None,
        largest_shift=options.largest_shift,
    )
