"""The sizes of a layout without its positions: all that the limit of many patches depends on."""

from __future__ import annotations

from dataclasses import dataclass

from vitdyn._errors import invalid_value, require_boolean, require_real
from vitdyn.data.exponents import MeasuredExponents, checked_exponents, require_exponents
from vitdyn.data.layout import PatchLayout

MOST_PATCHES = 1e60


@dataclass(frozen=True, kw_only=True)
class AreaSizes(MeasuredExponents):
    """P patches, a global area of C_1 of them and (P − C_1)/C_s local areas of C_s each, as real numbers.

    ``exponents`` keeps (κ_c, κ_s) where the sizes were made from them: C_1 = P^κ_c, C_s = P^κ_s without
    rounding, so that P can be 1e4 or 1e40.

    >>> sizes = vd.AreaSizes.from_exponents(1e16, kappa_c=0.9, kappa_s=0.3)
    >>> f"{sizes.global_size:.3g} patches of {sizes.patches:g}"
    '2.51e+14 patches of 1e+16'
    """

    patches: float
    global_size: float
    local_size: float
    exponents: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "exponents", checked_exponents(self.exponents))
        require_real("patches", self.patches, low=2, high=MOST_PATCHES)
        require_real("local_size", self.local_size, low=1, high=self.patches)
        require_real("global_size", self.global_size, low=1, high=self.patches)
        if self.patches - self.global_size < self.local_size:
            raise invalid_value(
                "patches",
                self.patches,
                f"leaves no room for a local area of {self.local_size:g} beside a global one of {self.global_size:g}",
            )

    @classmethod
    def from_exponents(
        cls,
        patches: float,
        kappa_c: float,
        kappa_s: float,
        *,
        global_fraction: float = 0.5,
        outside: bool = False,
    ) -> AreaSizes:
        """Return C_1 = P^κ_c (κ_c = 1: ``global_fraction`` · P) and C_s = P^κ_s.

        Raises ``ValueError`` for exponents out of the theory's range, unless ``outside``, and for a P that
        leaves no room for a local area or makes it larger than the global one.
        """
        require_boolean("outside", outside)
        require_exponents(kappa_c, kappa_s, global_fraction, outside=outside)
        require_real("patches", patches, low=2, high=MOST_PATCHES)
        total = float(patches)
        made = cls(
            patches=total,
            global_size=global_fraction * total if kappa_c == 1 else total**kappa_c,
            local_size=total**kappa_s,
            exponents=(float(kappa_c), float(kappa_s)),
        )
        if made.global_size <= made.local_size and not outside:
            raise invalid_value("patches", patches, "too few: the global area would not exceed a local one")
        return made

    @classmethod
    def of(cls, layout: PatchLayout) -> AreaSizes:
        """Return the mean sizes of a layout."""
        return cls(
            patches=float(layout.patches),
            global_size=layout.global_size,
            local_size=layout.local_size,
            exponents=layout.exponents,
        )

    @property
    def local_areas(self) -> float:
        """N − 1 = (P − C_1)/C_s, as a real number."""
        return (self.patches - self.global_size) / self.local_size
