"""Masks of an exact size, uniform among all subsets of that size."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from vitdyn._errors import require_integer, require_real, wrong

_MOST_PATCHES = 2**15
"""Beyond it ties among 16-bit keys are so frequent that redrawing them takes longer than sorting wider keys."""


def masked_count(patches: int, ratio: float) -> int:
    """Return the number of masked patches, γP rounded to the nearest whole number.

    Raises ``ValueError`` unless at least one patch is masked and at least one stays visible.
    """
    require_integer("patches", patches, at_least=2)
    require_real("mask_ratio", ratio, low=0.0, high=1.0)
    count = round(ratio * patches)
    if not 0 < count < patches:
        raise wrong(
            "mask_ratio",
            ratio,
            f"masks {count} of {patches} patches; at least one must be masked and one visible: "
            f"take a ratio from {1 / patches:.4g} to {1 - 1 / patches:.4g}",
        )
    return count


def draw_visible(
    generator: np.random.Generator, samples: int, patches: int, masked: int
) -> Bool[np.ndarray, "sample patch"]:
    """Draw which patches are visible: in each sample ``masked`` patches, a uniform subset, are not.

    Each patch gets a 16-bit key and the ``masked`` smallest keys are masked. Given that the key at the
    boundary is not tied with the next, every subset is equally likely; samples with a tie there are
    drawn again, so the law is exactly uniform.
    """
    require_integer("masked", masked, at_least=1)
    if not masked < patches <= _MOST_PATCHES:
        raise wrong(
            "masked", masked, f"must leave one of {patches} patches visible; {_MOST_PATCHES} patches at most"
        )
    visible = np.empty((samples, patches), dtype=bool)
    pending = np.arange(samples)
    while pending.size:
        keys = generator.integers(0, 2**16, (pending.size, patches), dtype=np.uint16)
        ranked = np.sort(keys, axis=1)
        visible[pending] = keys >= ranked[:, masked, None]
        pending = pending[ranked[:, masked - 1] == ranked[:, masked]]
    return visible
