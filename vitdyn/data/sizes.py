"""The sizes of a layout without its positions: all that the limit of many patches depends on."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from vitdyn._errors import invalid_value, require_boolean, require_real
from vitdyn.data.layout import KAPPA_C_RANGE, KAPPA_S_RANGE, PatchLayout, checked_exponents, information_gap

MOST_PATCHES = 1e60


@dataclass(frozen=True, kw_only=True)
class AreaSizes:
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
        for field, value, (low, high) in (
            ("kappa_c", kappa_c, KAPPA_C_RANGE),
            ("kappa_s", kappa_s, KAPPA_S_RANGE),
        ):
            require_real(field, value, low=0.0 if outside else low, high=1.0 if outside else high)
        require_real("global_fraction", global_fraction, low=0.0, high=1.0, open_low=True, open_high=True)
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

    @property
    def kappa_c(self) -> float:
        """κ_c as measured: log C_1 / log P."""
        return log(self.global_size) / log(self.patches)

    @property
    def kappa_s(self) -> float:
        """κ_s as measured: log C_s / log P."""
        return log(self.local_size) / log(self.patches)

    @property
    def information_gap(self) -> float:
        """Δ = (1 − κ_s) − 2(1 − κ_c), from the exponents that were asked for, else from the measured ones."""
        return information_gap(*(self.exponents or (self.kappa_c, self.kappa_s)))
