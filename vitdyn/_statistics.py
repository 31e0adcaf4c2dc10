"""Student intervals over seeds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def student_interval(
    values: Float[np.ndarray, "seed ..."], confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean over the first axis and mean ± t · s/√n, t the two-sided Student quantile with n − 1 degrees.

    A single seed has no interval: its ends are infinite.
    """
    from scipy.stats import t

    count, mean = len(values), np.mean(values, 0)
    if count < 2:
        return mean, np.full_like(mean, -np.inf), np.full_like(mean, np.inf)
    half = t.ppf((1 + confidence) / 2, count - 1) * np.std(values, 0, ddof=1) / np.sqrt(count)
    return mean, mean - half, mean + half
