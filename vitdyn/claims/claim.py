"""A claim with everything that is needed to test it, and the verdict of a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vitdyn.dynamics import Training
from vitdyn.experiments import Experiment
from vitdyn.trajectory import Trajectory

SUPPORTED, REFUTED, INCONCLUSIVE = "SUPPORTED", "REFUTED", "INCONCLUSIVE"
SCALES = ("quick", "full")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the theory as a check of finite runs.

    ``surrogate`` says how the asymptotic statement became finite; ``measure`` gives one number per seed that
    the claim predicts to exceed ``margin``, which was written before the first run. ``unmet`` names an
    assumption of the claim that a run breaks, or None. ``experiments`` must support the claim and
    ``controls``, which break only the cause that the claim names, must refute it; both take a scale.
    """

    id: str
    statement: str
    source: str
    note: str
    assumptions: str
    surrogate: str
    symbol: str
    margin: float
    measure: Callable[[Trajectory], Float[np.ndarray, " seed"]]
    unmet: Callable[[Training], str | None]
    experiments: Callable[[str], tuple[Experiment, ...]]
    controls: Callable[[str], tuple[Experiment, ...]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one run says of one claim: the measured mean over seeds with its interval, and the status.

    ``expected`` is the status that a sound theory and a sound program give: SUPPORTED, or REFUTED for a
    control.
    """

    claim: str
    experiment: str
    symbol: str
    margin: float
    measured: float
    low: float
    high: float
    seeds: int
    status: str
    expected: str
    reason: str = ""

    @property
    def predicted(self) -> str:
        """The prediction in a few characters."""
        return f"{self.symbol} > {self.margin:g}"
