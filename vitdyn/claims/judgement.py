"""The one statistical rule of judgement: a Student interval of the mean over seeds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

CONFIDENCE = 0.999


def mean_interval(
    values: Float[np.ndarray, " seed"], *, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Return the mean over seeds and the two-sided Student interval of the expected value.

    A single seed has no interval: its ends are infinite.
    """
    from scipy.stats import t

    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return mean, -np.inf, np.inf
    half = float(t.ppf((1 + confidence) / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half
