"""The statistical rules of judgement: a Student interval over seeds, and an interval against a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
from jaxtyping import Float

from vitdyn._errors import as_numbers, require_real
from vitdyn._statistics import student_interval
from vitdyn.claims.claim import INCONCLUSIVE, REFUTED, SUPPORTED, Measurement

CONFIDENCE = 0.999


def mean_interval(
    values: Float[np.ndarray, " seed"], *, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Return the mean over seeds and the two-sided Student interval of the expected value.

    A single seed has no interval: its ends are infinite.
    """
    mean, low, high = student_interval(values, confidence)
    return float(mean), float(low), float(high)


def over_seeds(values: Float[np.ndarray, " seed"], *, confidence: float = CONFIDENCE) -> Measurement:
    """Return the mean over seeds with its Student interval as a measurement.

    It carries a reason, and so decides nothing, where there are fewer than two seeds or one gave no number.

    >>> measured = vd.over_seeds([0.95, 0.96, 0.97, 0.96])
    >>> measured.count, round(measured.value, 2), measured.low < 0.9 < measured.high
    (4, 0.96, False)
    """
    numbers = as_numbers("values", values)
    require_real("confidence", confidence, low=0.0, high=1.0, open_low=True, open_high=True)
    of = f"seeds, {100 * confidence:g} % (Student)"
    if not len(numbers):
        return Measurement(np.nan, np.nan, np.nan, 0, of, "no seed gave a value")
    if not np.isfinite(numbers).all():
        return Measurement(np.nan, np.nan, np.nan, len(numbers), of, "a seed gave no finite value")
    reason = "" if len(numbers) > 1 else "one seed has no interval"
    return Measurement(*mean_interval(numbers, confidence=confidence), len(numbers), of, reason)


def compare(predicted: tuple[float, float], measured: Measurement) -> tuple[str, str]:
    """Return the status of a measurement, and why where it is inconclusive.

    SUPPORTED where the closed interval [low, high] lies inside the open predicted interval (a, b): a < low and
    high < b. REFUTED where it has no point of it: high ≤ a or low ≥ b. INCONCLUSIVE where it straddles an
    end, where one of its numbers is not finite, or where the measurement itself has a reason.
    """
    value, low, high, reason = measured.value, measured.low, measured.high, measured.reason
    least, most = predicted
    if reason:
        return INCONCLUSIVE, reason
    if not all(isfinite(number) for number in (value, low, high)):
        return INCONCLUSIVE, "the measured interval is not finite"
    if not low <= high or not least < most:
        return INCONCLUSIVE, "an interval's low end is not below its high end"
    # Open against closed: an interval that only touches an end of the prediction does not support it.
    if least < low and high < most:
        return SUPPORTED, ""
    if high <= least or low >= most:
        return REFUTED, ""
    return INCONCLUSIVE, "the measured interval straddles an end of the predicted one"


def turning_point(
    values: Sequence[float], signs: Sequence[int], *, low: float, high: float, of: str
) -> Measurement:
    """Return where a sign turns from + to − in a sweep of ascending values: between the last + and the first −.

    0 is a sign that is not known. Where one of both is missing, the interval reaches to ``low`` or ``high``, the ends
    of what a value can be. Raises ``ArithmeticError`` where a − comes before a +: there is no one place.
    """
    positive = [value for value, sign in zip(values, signs, strict=True) if sign > 0]
    negative = [value for value, sign in zip(values, signs, strict=True) if sign < 0]
    start, stop = max(positive, default=low), min(negative, default=high)
    if start > stop:
        raise ArithmeticError(
            "what is measured does not change once over the values of the sweep: it turns in no one place"
        )
    middle = (start + stop) / 2 if positive and negative else start if positive else stop
    return Measurement(middle, start, stop, len(values), of)
