"""κ_c, κ_s and the information gap: what the sizes of a layout are as powers of P, asked for or measured."""

from __future__ import annotations

from math import log
from typing import Any

from vitdyn._errors import invalid_value, require_real, require_sequence

KAPPA_C_RANGE = (0.5005, 1.0)
KAPPA_S_RANGE = (0.001, 0.5)


def information_gap(kappa_c: float, kappa_s: float) -> float:
    """Return Δ = (1 − κ_s) − 2(1 − κ_c)."""
    return (1 - kappa_s) - 2 * (1 - kappa_c)


class MeasuredExponents:
    """The exponents of whatever has ``patches``, ``global_size``, ``local_size`` and ``exponents``."""

    @property
    def kappa_c(self: Any) -> float:
        """κ_c as measured: log C_1 / log P."""
        return log(self.global_size) / log(self.patches)

    @property
    def kappa_s(self: Any) -> float:
        """κ_s as measured: log C_s / log P."""
        return log(self.local_size) / log(self.patches)

    @property
    def information_gap(self: Any) -> float:
        """Δ = (1 − κ_s) − 2(1 − κ_c), from the exponents that were asked for, else from the measured ones."""
        return information_gap(*(self.exponents or (self.kappa_c, self.kappa_s)))


def require_exponents(
    kappa_c: object, kappa_s: object, global_fraction: object, *, outside: bool = False
) -> None:
    """Raise ``ValueError`` for exponents out of the theory's range, or out of [0, 1] where ``outside``."""
    for field, value, (low, high) in (
        ("kappa_c", kappa_c, KAPPA_C_RANGE),
        ("kappa_s", kappa_s, KAPPA_S_RANGE),
    ):
        require_real(field, value, low=0.0 if outside else low, high=1.0 if outside else high)
    require_real("global_fraction", global_fraction, low=0.0, high=1.0, open_low=True, open_high=True)


def checked_exponents(exponents: object) -> tuple[float, float] | None:
    """Return (κ_c, κ_s), or None where there are none. Raises ``ValueError`` for what is no pair in [0, 1]."""
    if exponents is None:
        return None
    pair = checked_pair("exponents", exponents, "two numbers: κ_c and κ_s")
    for exponent in pair:
        require_real("exponents", exponent, low=0.0, high=1.0)
    return float(pair[0]), float(pair[1])


def checked_pair(field: str, value: Any, of: str) -> tuple[Any, Any]:
    """Return the two entries of a sequence, which ``of`` names. Raises ``ValueError`` for any other number of them."""
    require_sequence(field, value, of)
    if len(value) != 2:
        raise invalid_value(field, value, f"must be {of}")
    first, second = value
    return first, second
