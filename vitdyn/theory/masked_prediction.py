"""Predictions for other losses of masked patches than the squared error: what moves first, and where they stop."""

from __future__ import annotations

from math import log, log1p

from vitdyn._errors import require_choice, require_integer, require_real
from vitdyn.data import Distribution
from vitdyn.theory.predictions import OURS, Prediction
from vitdyn.theory.rates import Rate
from vitdyn.theory.regime import Regime, checked, drawn_latents

LOSSES = ("squared", "absolute", "class")


@checked
def lead_of_loss(
    regime: Regime, distribution: Distribution, loss: str, *, mask_ratio: float = 0.5, clusters: int = 1
) -> Rate:
    """|φ_1|/φ_a ≍ P^exponent while both are small: above 1 a local query drops the global area first.

        squared error    (1 − γ) P^Δ
        absolute error   P^{κ_c−κ_s} (m_2 − (1 − γ) m_1²)/(m_2 + (1 − γ) m_1²)
        class            P^{−(1−κ_c)} (1/K + (1 − γ)(1 − 1/K) m_1²/m_2)

    with m_k = E z^k. The pull away from the global area is its share of the residual, of order A_1, for the squared
    error, a sign for the absolute one, and one class in K N for cross-entropy. The exponent holds the constant too, and
    1/(1 − P^{−κ_s}) for the query's own patch, hidden, which its area lacks. Source: our notes.
    """
    require_choice("loss", loss, LOSSES)
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    require_integer("clusters", clusters, at_least=1)
    require_real("kappa_s", regime.kappa_s, low=0.0, high=1.0, open_low=True)
    shown = 1 - mask_ratio
    spread = distribution.mean**2 / distribution.second_moment
    power, constant = {
        "squared": (regime.information_gap, shown),
        "absolute": (regime.kappa_c - regime.kappa_s, (1 - shown * spread) / (1 + shown * spread)),
        "class": (regime.kappa_c - 1, 1 / clusters + shown * (1 - 1 / clusters) * spread),
    }[loss]
    hidden = log1p(-(regime.patches**-regime.kappa_s))
    return Rate(
        symbol="|φ_1|/φ_a",
        exponent=power + (log(constant) - hidden) / regime.log_patches,
        statement=f"correlation with the global area over that with the own one, at first, of the {loss} loss",
        source=OURS,
        note="derivations.md#which-correlation-moves-first",
    )


@checked
def class_temperature(distribution: Distribution, classes: int, steps: int) -> float:
    """Return τ* = E z/(2 log((D − 1) T)): about where cross-entropy takes T steps to bring half of the attention home.

    At half of its attention a query's own logit is z/2τ, and what is left of the gradient (D − 1) e^{−z/2τ} among D
    classes. Well above τ* local areas are learned; well below it the class is certain long before. Up to constants
    within the logarithm. Source: our notes.
    """
    require_integer("classes", classes, at_least=2)
    require_integer("steps", steps, at_least=2)
    return distribution.mean / (2 * log((classes - 1) * steps))


def frozen_teacher_attention(weight: float, start: float) -> Prediction:
    """Return A_a of a local query in RC-MAE whose teacher stays as it was: (1 + γ_c A⁰_a)/(1 + γ_c).

    γ_c = ``weight``; A⁰_a = ``start`` is the attention of the teacher, that of Q = 0. The sum of the two squares is
    least there. Source: our notes.
    """
    require_real("weight", weight, low=0.0, high=1e6)
    require_real("start", start, low=0.0, high=1.0)
    level = (1 + weight * start) / (1 + weight)
    words = "attention of a local query to its own area with a teacher that does not follow"
    note = "claims.md#rcmae-frozen"
    return Prediction(symbol="A_own", low=level, high=level, statement=words, source=OURS, note=note)


@checked
def student_pace(distribution: Distribution, attention: float) -> float:
    """Return 4 E z⁴ A²: which part of its way to a fixed target data2vec's student goes in a step, in an area of A.

    At its default learning rate, near Q = 0. A teacher moves the part 1 − m of its way to the student: where that is
    the smaller one the student is always at its target, and what it adds to the teacher decides the end; where it is
    the larger one both move as one model, and the area of the largest attention grows fastest. Source: our notes.
    """
    require_real("attention", attention, low=0.0, high=1.0)
    z = drawn_latents(distribution)
    return 4 * float((z**4).mean()) * attention**2
