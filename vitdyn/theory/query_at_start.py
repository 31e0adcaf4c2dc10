"""One query at Q = 0, where attention is uniform: all that its gradient is made of, as polynomials to be averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from vitdyn._errors import invalid_value, require_integer, require_kind, require_real
from vitdyn.data import AreaSizes, Distribution
from vitdyn.theory.visible_counts import Polynomial, UniformMasks, latent_moments


@dataclass(frozen=True)
class QueryAtStart:
    """Attention A_j = V_j/P to areas of latents z_j; the last stands for ``masks.others`` areas that are alike.

    A masked local query has areas (own, global, other), one of a mean over all queries (global, other).
    """

    masks: UniformMasks
    A: tuple[Polynomial, ...]
    z: tuple[Polynomial, ...]

    @classmethod
    def masked(cls, sizes: AreaSizes, distribution: Distribution, mask_ratio: float) -> QueryAtStart:
        """Return a masked query of a local area: it is itself no visible key."""
        P, own, first, others = _sizes(sizes)
        singles = (own - 1, first)
        return cls._of(sizes, distribution, mask_ratio, P - 1, singles, others - 1)

    @classmethod
    def pooled(cls, sizes: AreaSizes, distribution: Distribution, mask_ratio: float) -> QueryAtStart:
        """Return any query of an objective that pools all of them, masked or not."""
        P, _, first, others = _sizes(sizes)
        return cls._of(sizes, distribution, mask_ratio, P, (first,), others)

    @classmethod
    def _of(
        cls,
        sizes: AreaSizes,
        distribution: Distribution,
        mask_ratio: float,
        keys: Fraction,
        singles: tuple[Fraction, ...],
        others: Fraction,
    ) -> QueryAtStart:
        P, size, *_ = _sizes(sizes)
        visible = (1 - Fraction(mask_ratio)) * P
        masks = UniformMasks(visible, keys, singles, others, size, latent_moments(distribution))
        each, V, z = Polynomial.variables(len(singles))
        pairs = (*each, (V, z))
        return cls(masks, tuple(V * (1 / P) for V, _ in pairs), tuple(z for _, z in pairs))

    @property
    def content(self) -> tuple[Polynomial, ...]:
        """z_j A_j: what the output holds of each area's feature."""
        return tuple(z * A for z, A in zip(self.z, self.A, strict=True))

    def total(self, values: Sequence[Polynomial]) -> Polynomial:
        """Return the sum over all areas."""
        *single, last = values
        return sum(single, last.total())

    def drives(self, pulls: Sequence[Polynomial]) -> list[Polynomial]:
        """Return z_j A_j (g_j − ḡ) of the pulls g_j on attention."""
        mean = self.total([A * g for A, g in zip(self.A, pulls, strict=True)])
        return [x * (g - mean) for x, g in zip(self.content, pulls, strict=True)]

    def means(self, values: Sequence[Polynomial]) -> Float[np.ndarray, " area"]:
        """Return expectations over masks and latents, of the last area one of those that are alike."""
        *single, last = values
        other = self.masks.mean(last.total()) / self.masks.others
        return np.array([float(each) for each in (*map(self.masks.mean, single), other)])


def require_start(sizes: AreaSizes, mask_ratio: float, clusters: int) -> None:
    """Raise unless there are two local areas or more, of two patches or more, and numbers lie in their ranges."""
    require_kind("sizes", sizes, AreaSizes)
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    require_integer("clusters", clusters, at_least=1, at_most=10**15)
    if sizes.local_areas < 2 or sizes.local_size < 2:
        words = "must have two local areas or more, of two patches or more"
        raise invalid_value("sizes", (sizes.local_areas, sizes.local_size), words)


def _sizes(sizes: AreaSizes) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    """Return P, the sizes of a local and of the global area, and the number of local areas."""
    P, size, first = (Fraction(each) for each in (sizes.patches, sizes.local_size, sizes.global_size))
    return P, size, first, (P - first) / size
