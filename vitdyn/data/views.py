"""Pairs of masked views of one sample, as contrastive training needs them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from vitdyn._errors import require_choice, require_integer
from vitdyn.data.masking import draw_visible
from vitdyn.seeds import Streams

VIEW_KINDS = ("independent", "complementary")


def draw_view_pair(
    generator: np.random.Generator | Streams,
    samples: int,
    patches: int,
    masked: int,
    kind: str = "independent",
) -> tuple[Bool[np.ndarray, "*seed sample patch"], Bool[np.ndarray, "*seed sample patch"]]:
    """Draw which patches each of two views shows.

    ``independent``: two masks of the same size, drawn independently. ``complementary``: the second view
    shows exactly what the first one hides (so it hides ``patches − masked``). Of ``Streams`` all seeds at once.
    """
    require_choice("views", kind, VIEW_KINDS)
    require_integer("samples", samples, at_least=0)
    if kind == "complementary":
        first = draw_visible(generator, samples, patches, masked)
        return first, ~first
    both = draw_visible(generator, 2 * samples, patches, masked)
    return both[..., :samples, :], both[..., samples:, :]
