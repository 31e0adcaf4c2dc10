"""From claims to verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import nan

from vitdyn._errors import (
    as_tuple,
    require_callable,
    require_choice,
    require_integer,
    require_kind,
    require_sequence,
)
from vitdyn._notebook import html_table
from vitdyn._tables import text_table
from vitdyn.claims.claim import (
    INCONCLUSIVE,
    REFUTED,
    SCALES,
    SUPPORTED,
    VERDICT_COLUMNS,
    Case,
    Claim,
    Measurement,
    Verdict,
)
from vitdyn.claims.judgement import compare
from vitdyn.experiments import Runner, run_all
from vitdyn.experiments.experiment import reseeded
from vitdyn.reduced import StalledFlowError
from vitdyn.trajectory import Trajectory


def judge(
    claim: Claim, case: Case, trajectories: tuple[Trajectory, ...], *, expected: str = SUPPORTED
) -> Verdict:
    """Return what the trajectories of a case's runs, in their order, say of a claim.

    SUPPORTED where the measured interval lies inside the predicted one, REFUTED where it lies wholly outside,
    INCONCLUSIVE where it straddles an end, a number is not finite or the measurement fails with an
    ``ArithmeticError``; also where the case breaks an assumption, and then nothing is predicted or measured.
    """
    require_kind("claim", claim, Claim)
    require_kind("case", case, Case)
    require_sequence("trajectories", trajectories, "trajectories")
    require_choice("expected", expected, (SUPPORTED, REFUTED))
    return _judge(claim, case, lambda: trajectories, expected)


class Verdicts(tuple[Verdict, ...]):
    """Verdicts in order, a table where they are printed or shown in a notebook."""

    def __str__(self) -> str:
        return f"{text_table(VERDICT_COLUMNS, (verdict.cells for verdict in self))}\n{counts(self)}"

    def _repr_html_(self) -> str:
        return html_table(counts(self), (verdict.cells for verdict in self), VERDICT_COLUMNS)


def check(claims: Iterable[Claim], runner: Runner, *, scale: str = "quick", seed: int = 0) -> Verdicts:
    """Run every claim's cases and controls and return a verdict for each, controls after cases.

    ``seed`` is a root seed: another one gives every simulation other random streams (flows have none).
    A run that fails with an ``ArithmeticError`` (it diverges, its flow stalls) makes its case inconclusive, or
    refuted where its flow was followed beyond the claim's ``latest`` time and had not arrived.

    >>> from dataclasses import replace
    >>> claim = next(claim for claim in vd.CLAIMS if claim.id == "MAE-PHASE-ONE")
    >>> first = replace(claim, cases=lambda scale: claim.cases(scale)[1:], controls=lambda scale: ())
    >>> [verdict.status for verdict in vd.check([first], vd.run)]
    ['SUPPORTED']
    """
    require_callable("runner", runner)
    require_choice("scale", scale, SCALES)
    require_integer("seed", seed, at_least=0)

    def all_of(case: Case) -> Callable[[], tuple[Trajectory, ...]]:
        return lambda: run_all(runner, [reseeded(run, seed) for run in case.runs])

    return Verdicts(
        _judge(claim, case, all_of(case), expected)
        for claim in as_tuple("claims", claims, Claim)
        # A control is a case of which the opposite is expected.
        for cases, expected in ((claim.cases(scale), SUPPORTED), (claim.controls(scale), REFUTED))
        for case in cases
    )


def passes(verdicts: Iterable[Verdict]) -> bool:
    """Return whether every case supports its claim and every control refutes it, and there is a case.

    What shows nothing does not pass: no verdict, an inconclusive one, or controls alone.
    """
    judged = as_tuple("verdicts", verdicts, Verdict)
    return any(not each.is_control for each in judged) and all(
        each.status == each.expected for each in judged
    )


def contradicted(verdicts: Iterable[Verdict]) -> bool:
    """Return whether a case refutes its claim, or a control, an inconclusive one too, does not."""
    return any(
        (each.status == REFUTED) != each.is_control for each in as_tuple("verdicts", verdicts, Verdict)
    )


def counts(verdicts: Iterable[Verdict]) -> str:
    """Return in two lines how many cases ended how, and how many controls are refuted."""
    judged = as_tuple("verdicts", verdicts, Verdict)
    cases = [each.status for each in judged if not each.is_control]
    controls = [each.status for each in judged if each.is_control]
    total = (f"{cases.count(status)} {status.lower()}" for status in (SUPPORTED, REFUTED, INCONCLUSIVE))
    return (
        f"{', '.join(total)} (controls aside)\n"
        f"{controls.count(REFUTED)} of {len(controls)} controls refuted, as all must be"
    )


def overall(verdicts: Iterable[Verdict]) -> str:
    """Return the status of one claim from the verdicts on all of its cases and controls.

    REFUTED where a case refutes it. SUPPORTED where every case supports it and every control refutes it, and
    there is a case. Else INCONCLUSIVE: a check that its own control passes has shown nothing.
    """
    judged = as_tuple("verdicts", verdicts, Verdict)
    cases = [verdict.status for verdict in judged if not verdict.is_control]
    # One case against the claim outweighs all that is undecided.
    if REFUTED in cases:
        return REFUTED
    sound = all(verdict.status == verdict.expected for verdict in judged)
    return SUPPORTED if cases and sound else INCONCLUSIVE


def _judge(
    claim: Claim, case: Case, trajectories: Callable[[], tuple[Trajectory, ...]], expected: str
) -> Verdict:
    predicted, measured = (nan, nan), Measurement(nan, nan, nan, 0, "")
    status, reason = INCONCLUSIVE, _unmet(claim, case)
    if not reason:  # else prediction and measurement have nothing to rely on, and nothing needs to run
        try:
            predicted = claim.prediction(case)
            measured = claim.measure(case, trajectories())
            status, reason = compare(predicted, measured)
        # A run that diverges or stalls decides nothing, unless the claim says by when it must have arrived.
        except ArithmeticError as error:
            status = REFUTED if _too_late(claim, error) else INCONCLUSIVE
            reason = " ".join(str(error).split()) or type(error).__name__
    return Verdict(
        claim=claim.id,
        case=case.name,
        symbol=claim.symbol,
        predicted_low=float(predicted[0]),
        predicted_high=float(predicted[1]),
        measured=float(measured.value),
        low=float(measured.low),
        high=float(measured.high),
        count=int(measured.count),
        status=status,
        expected=expected,
        basis=case.basis,
        interval_of=measured.of,
        reason=reason,
    )


def _unmet(claim: Claim, case: Case) -> str:
    broken = claim.unmet(case)
    return f"assumption unmet: {broken}" if broken else ""


def _too_late(claim: Claim, error: ArithmeticError) -> bool:
    """Return whether a flow was followed beyond the time by which it should have arrived."""
    if not isinstance(error, StalledFlowError) or claim.latest is None:
        return False
    return error.time > claim.latest(error.spec)
