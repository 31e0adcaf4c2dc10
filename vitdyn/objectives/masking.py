"""How an objective draws its masked views: declared once, so that CPU and GPU can draw them for all seeds at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from vitdyn.data.masking import draw_view_pair, draw_visible, masked_count
from vitdyn.seeds import Streams

DrawnViews = tuple[Bool[np.ndarray, "*seed sample patch"], ...]


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Each view masks γP patches, a uniform subset; a second view is independent, or shows what the first one masks.

    γ = ``ratio``.
    """

    ratio: float
    complementary: bool = False

    def masked(self, patches: int) -> int:
        """Return how many of the patches a view masks. Raises ``ValueError`` for none and for all."""
        return masked_count(patches, self.ratio)

    def draw(
        self, generator: np.random.Generator | Streams, samples: int, patches: int, views: int
    ) -> DrawnViews:
        """Draw which patches each of one or two views shows; of ``Streams`` for all seeds at once."""
        masked = self.masked(patches)
        if views == 1:
            return (draw_visible(generator, samples, patches, masked),)
        kind = "complementary" if self.complementary else "independent"
        return draw_view_pair(generator, samples, patches, masked, kind)
