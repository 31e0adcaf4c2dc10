"""Which case of the theory a layout falls under."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from math import log
from typing import ParamSpec, TypeVar

import numpy as np
from jaxtyping import Float

from vitdyn._errors import invalid_value, require_kind, require_real
from vitdyn.data import DISTRIBUTIONS, AreaSizes, Distribution, PatchLayout, information_gap
from vitdyn.seeds import stream

TWO_PHASES, ONE_PHASE, BOUNDARY = "two phases", "one phase", "boundary"


@dataclass(frozen=True, kw_only=True)
class Regime:
    """The exponents of a layout and the sign of its information gap Δ = (1 − κ_s) − 2(1 − κ_c).

    Δ compares P^{−2(1−κ_c)}, the squared attention that the global area has at the start, with P^{−(1−κ_s)},
    the attention that one local area has. Δ > 0: masked reconstruction learns local areas in two phases;
    Δ < 0: in one. The limits of training are the same in both cases. ``patches`` need not be a whole number: the
    theory is also read at sizes, up to 10^300, that no layout has.
    """

    patches: float
    kappa_c: float
    kappa_s: float

    def __post_init__(self) -> None:
        require_real("patches", self.patches, low=2.0, high=1e300)
        require_real("kappa_c", self.kappa_c, low=0.0, high=1.0)
        require_real("kappa_s", self.kappa_s, low=0.0, high=1.0)

    @classmethod
    def of(cls, layout: PatchLayout | AreaSizes) -> Regime:
        """Read the regime off a layout: its nominal exponents where it has them, else the measured ones."""
        if not isinstance(layout, (PatchLayout, AreaSizes)):
            raise invalid_value("layout", layout, "must be a PatchLayout or AreaSizes")
        # A layout rounds sizes to whole patches; exponents that were asked for are the theory's own.
        kappa_c, kappa_s = layout.exponents or (layout.kappa_c, layout.kappa_s)
        return cls(patches=layout.patches, kappa_c=kappa_c, kappa_s=kappa_s)

    @property
    def information_gap(self) -> float:
        """Δ."""
        return information_gap(self.kappa_c, self.kappa_s)

    @property
    def log_patches(self) -> float:
        """The natural logarithm of P."""
        return log(self.patches)

    @property
    def case(self) -> str:
        """The case of the theorem: "two phases" (Δ > 0), "one phase" (Δ < 0) or "boundary"."""
        if self.information_gap == 0:
            return BOUNDARY
        return TWO_PHASES if self.information_gap > 0 else ONE_PHASE


def drawn_latents(distribution: Distribution) -> Float[np.ndarray, " draw"]:
    """Return 2^18 latents of a fixed stream, over which a prediction takes those means that have no closed form."""
    return distribution.sample(stream(0, "user"), (2**18,))


Given = ParamSpec("Given")
Result = TypeVar("Result")


def _require_distribution(field: str, value: object) -> None:
    if isinstance(value, type) or not isinstance(value, Distribution):
        raise invalid_value(
            field, value, f"must be a distribution: one of {', '.join(DISTRIBUTIONS)}, or Custom(...)"
        )


_REQUIRED: dict[str, Callable[[str, object], None]] = {
    "regime": lambda field, value: require_kind(field, value, Regime),
    "layout": lambda field, value: require_kind(field, value, PatchLayout),
    "distribution": _require_distribution,
}


def checked(predict: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let a prediction refuse a ``regime``, a ``layout`` or a ``distribution`` that is none, in one line."""
    parameters = signature(predict)

    @wraps(predict)
    def checking(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        for name, value in parameters.bind(*args, **kwargs).arguments.items():
            if name in _REQUIRED:
                _REQUIRED[name](name, value)
        return predict(*args, **kwargs)

    return checking
