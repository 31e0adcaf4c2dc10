"""Rates: how times and levels scale with the number of patches, T ≍ P^exponent, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log

from vitdyn._errors import invalid_value, require_choice, require_kind, require_real
from vitdyn.data import Distribution
from vitdyn.theory.predictions import OURS, PAPER, Prediction, own_area_level, phase_one_level, require_number
from vitdyn.theory.regime import Regime, checked

VARIABLES = ("P", "ε")


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A predicted power law: ``symbol`` ≍ ``variable`` ^ ``exponent``, up to constants.

    ``variable`` is P, or ε for the attention still missing at the end of training. ``statement`` says the distribution
    in words, ``source`` whose claim it is, and ``note`` where it is derived. Times are η times the number of
    steps. An upper bound that bounds nothing has the exponent inf.
    """

    symbol: str
    exponent: float
    statement: str
    source: str
    note: str
    variable: str = "P"

    def __post_init__(self) -> None:
        require_number("exponent", self.exponent)
        if self.exponent == -inf:
            raise invalid_value(
                "exponent", self.exponent, "must be a number, or inf for a bound that bounds nothing"
            )
        require_choice("variable", self.variable, VARIABLES)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a local query's training: the level reached at its end, and how long it lasts."""

    name: str
    level: Prediction
    duration: Rate

    def __post_init__(self) -> None:
        require_kind("level", self.level, Prediction)
        require_kind("duration", self.duration, Rate)


def _ours(symbol: str, exponent: float, statement: str, note: str, variable: str = "P") -> Rate:
    """Return a rate of our notes."""
    return Rate(
        symbol=symbol, exponent=exponent, statement=statement, source=OURS, note=note, variable=variable
    )


@checked
def local_area_time(regime: Regime) -> Rate:
    """T ≍ P^{1−κ_s}: until masked local queries attend to their own area, without a factor log P."""
    words = "time until a masked local query attends to its own area, masked reconstruction"
    return _ours("T_local", 1 - regime.kappa_s, words, "derivations.md#time-of-a-local-area")


@checked
def local_area_time_bound(regime: Regime, distribution: Distribution) -> Rate:
    """T = O(P^{max{2(U/L−1), 1}(1−κ_s)}): an upper bound on the same time; no bound where L = 0."""
    spread = 2 * (distribution.high / distribution.low - 1) if distribution.low else inf
    return Rate(
        symbol="T_local",
        exponent=max(spread, 1.0) * (1 - regime.kappa_s),
        statement="upper bound on the time until a masked local query attends to its own area",
        source=PAPER,
        note="assumptions.md#mae-area",
    )


@checked
def global_area_time(regime: Regime) -> Rate:
    """T ≍ P^{1−κ_c}: until masked global queries attend to their own area."""
    words = "time until a masked global query attends to its own area, masked reconstruction"
    return _ours("T_global", 1 - regime.kappa_c, words, "derivations.md#time-of-the-global-area")


@checked
def contrastive_time(regime: Regime) -> Rate:
    """T ≍ P^{1+2(1−κ_c)}: until every query of contrastive training attends to the global area."""
    words = "time until all queries attend to the global area, contrastive training with enough clusters"
    return _ours("T_contrast", 1 + 2 * (1 - regime.kappa_c), words, "derivations.md#time-of-contrast")


@checked
def phase_one_start(regime: Regime) -> Rate:
    """T ≍ P^{2(1−κ_c)}: until φ_1 of a local query has moved by order one. Raises where Δ ≤ 0: no phase I."""
    if regime.information_gap <= 0:
        raise invalid_value(
            "information_gap", regime.information_gap, "must be positive: there is no first phase otherwise"
        )
    words = "time until a local query's correlation with the global area is of order one"
    return _ours("T_1", 2 * (1 - regime.kappa_c), words, "derivations.md#duration-of-phase-one")


@checked
def first_lead(regime: Regime, mask_ratio: float = 0.5) -> Rate:
    """|φ_1|/φ_a ≍ (1 − γ) P^Δ while both are small: above 1 a local query drops the global area first.

    The exponent is Δ + log(1 − γ)/log P, the constant included.
    """
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    words = "correlation with the global area over that with the own one, while both are small"
    return _ours(
        "|φ_1|/φ_a",
        regime.information_gap + log(1 - mask_ratio) / regime.log_patches,
        words,
        "derivations.md#drifts-of-reconstruction-at-the-start",
    )


@checked
def lost_correlation_exponent(regime: Regime) -> Rate:
    """|φ_o| ≼ P^{−min(2(κ_c−κ_s), 1−κ_s)}, times log P: correlations with local areas when contrast has collapsed."""
    words = "upper bound on correlations with local areas after contrast, up to a factor log P"
    return _ours(
        "φ_o",
        -min(2 * (regime.kappa_c - regime.kappa_s), 1 - regime.kappa_s),
        words,
        "claims.md#cl-local-lost",
    )


@checked
def position_correlation_exponent(regime: Regime) -> Rate:
    """Υ_a ≍ P^{−κ_s}, times log P: a query's correlation with the positions of its own area when it takes over."""
    words = "position correlation with a key of the own area, up to a factor log P"
    return _ours("Υ_a", -regime.kappa_s, words, "derivations.md#position-correlations-of-one-area")


@checked
def tail_exponent(regime: Regime) -> Rate:
    """T_ε ≍ ε^{−2}: from attention of order one until only ε is missing; the same in every regime.

    Up to a factor 1/log(1/ε) where latents vary.
    """
    words = "further time until a masked query's attention to its own area is within ε of 1"
    return _ours("T_ε", -2.0, words, "derivations.md#tail-of-reconstruction", variable="ε")


@checked
def phases(regime: Regime, distribution: Distribution) -> tuple[Phase, ...]:
    """Return the phases of a local query in masked reconstruction: two where Δ > 0, else one.

    The first begins with φ_1 of order one at P^{2(1−κ_c)} (``phase_one_start``) and lasts P^{2(1−κ_c)+Δ}, which
    is P^{1−κ_s}: both phases last equally long but for constants.
    """
    own = Phase(name="own area", level=own_area_level(regime, distribution), duration=local_area_time(regime))
    gap = regime.information_gap
    # φ_1 does not move first: there is no phase before that of the own area.
    if gap <= 0:
        return (own,)
    words = "time until a local query's correlation with the global area moves no faster than its own"
    note = "derivations.md#duration-of-phase-one"
    duration = _ours("T_I", 2 * (1 - regime.kappa_c) + gap, words, note)
    return Phase(
        name="away from the global area", level=phase_one_level(regime, distribution), duration=duration
    ), own
