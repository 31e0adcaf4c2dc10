"""From claims to verdicts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vitdyn._errors import require_choice
from vitdyn.claims.claim import INCONCLUSIVE, REFUTED, SCALES, SUPPORTED, Claim, Verdict
from vitdyn.claims.judgement import mean_interval
from vitdyn.experiments import Experiment, Runner
from vitdyn.trajectory import Trajectory


def judge(
    claim: Claim, experiment: Experiment, trajectory: Trajectory, *, expected: str = SUPPORTED
) -> Verdict:
    """Return what a trajectory says of a claim.

    SUPPORTED where the interval of the mean over seeds lies above the margin, REFUTED where it lies below,
    INCONCLUSIVE where it straddles the margin, an assumption is unmet or a seed gave no number.
    """
    values = claim.measure(trajectory)
    reason = claim.unmet(experiment.training) or ""
    if not np.isfinite(values).all():
        reason = reason or "a seed gave no finite value"
    mean, low, high = mean_interval(values)
    if reason:
        status = INCONCLUSIVE
    elif low > claim.margin:
        status = SUPPORTED
    elif high < claim.margin:
        status = REFUTED
    else:
        status, reason = INCONCLUSIVE, "the interval straddles the margin"
    return Verdict(
        claim=claim.id,
        experiment=experiment.name,
        symbol=claim.symbol,
        margin=claim.margin,
        measured=mean,
        low=low,
        high=high,
        seeds=len(values),
        status=status,
        expected=expected,
        reason=reason,
    )


def check(claims: Iterable[Claim], runner: Runner, *, scale: str = "quick") -> tuple[Verdict, ...]:
    """Run every claim's experiments and controls and return a verdict for each, controls after experiments."""
    require_choice("scale", scale, SCALES)
    verdicts = []
    for claim in claims:
        for experiment in claim.experiments(scale):
            verdicts.append(judge(claim, experiment, runner(experiment)))
        for experiment in claim.controls(scale):
            verdicts.append(judge(claim, experiment, runner(experiment), expected=REFUTED))
    return tuple(verdicts)


def passes(verdicts: Iterable[Verdict]) -> bool:
    """Say whether no claim is refuted and every control is; an inconclusive claim is no refutation."""
    return all(
        verdict.status == REFUTED if verdict.expected == REFUTED else verdict.status != REFUTED
        for verdict in verdicts
    )
