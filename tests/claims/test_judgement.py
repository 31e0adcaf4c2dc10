"""Judgement on made-up numbers: what each verdict takes, and that no verdict comes cheap. Nothing is simulated."""

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
from scipy import stats

from vitdyn.claims import (
    CL_GLOBAL,
    CLAIMS,
    INCONCLUSIVE,
    MAE_AREA,
    REFUTED,
    SUPPORTED,
    Assumption,
    Case,
    Claim,
    Control,
    Measurement,
    check,
    contradicted,
    judge,
    moved,
    over_seeds,
    overall,
    passes,
)
from vitdyn.claims.judgement import compare, mean_interval
from vitdyn.data import AreaSizes
from vitdyn.experiments import Experiment
from vitdyn.reduced import MeanField

(CASE,) = MAE_AREA.cases("quick")[:1]
(EXPERIMENT,) = CASE.runs


def sweep(runs, name="sweep"):
    """A case of several runs."""
    return Case(name=name, runs=tuple(replace(EXPERIMENT, name=f"rung-{index}") for index in range(runs)))


def span(case, trajectories):
    """The least and the largest of what the runs gave."""
    ends = min(trajectories), max(trajectories)
    return Measurement(float(np.mean(trajectories)), *ends, len(trajectories), "runs")


def claim_on(predicted=(1.0, 2.0), measure=span, **changes):
    """A claim on made-up trajectories: one number for each run."""
    made = Claim(id="MADE-UP", statement="", source="", note="", assumptions=(), surrogate="", symbol="x",
                 predicted=lambda case: predicted, measure=measure,
                 cases=lambda scale: (sweep(3),), controls=lambda scale: (sweep(2, "control"),))  # fmt: skip
    return replace(made, **changes)


def verdict_on(values, claim=MAE_AREA, case=CASE, **options):
    made = replace(claim, measure=lambda case, trajectories: over_seeds(np.array(values)))
    return judge(made, case, (), **options)


def test_interval_is_students():
    values = np.array([0.1, 0.4, 0.2, 0.6, 0.3])
    low, high = stats.t.interval(0.999, 4, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx((values.mean(), low, high))
    assert over_seeds(values) == (*mean_interval(values), 5, "seeds, 99.9 % (Student)", "")


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([0.9, 0.91, 0.92, 0.9], SUPPORTED),
        ([0.1, 0.11, 0.12, 0.1], REFUTED),
        ([0.75, 0.85, 0.8, 0.81], INCONCLUSIVE),
        ([0.99], INCONCLUSIVE),
        ([0.99, np.nan], INCONCLUSIVE),
        ([0.99, 0.98, np.inf], INCONCLUSIVE),
        ([], INCONCLUSIVE),
    ],
)
def test_status_follows_the_interval_over_seeds(values, status):
    verdict = verdict_on(values)
    assert (verdict.status, verdict.count) == (status, len(values))
    assert bool(verdict.reason) == (status == INCONCLUSIVE)


@pytest.mark.parametrize(
    ("low", "high", "predicted", "status"),
    [
        (1.1, 1.9, (1.0, 2.0), SUPPORTED),
        (1.5, 1.5, (1.0, 2.0), SUPPORTED),
        (1.0, 1.9, (1.0, 2.0), INCONCLUSIVE),
        (1.1, 2.0, (1.0, 2.0), INCONCLUSIVE),
        (0.5, 2.5, (1.0, 2.0), INCONCLUSIVE),
        (0.5, 0.9, (1.0, 2.0), REFUTED),
        (0.5, 1.0, (1.0, 2.0), REFUTED),
        (2.0, 2.1, (1.0, 2.0), REFUTED),
        (1.1, 99.0, (1.0, inf), SUPPORTED),
        (-99.0, 0.9, (-inf, 1.0), SUPPORTED),
        (1.0, 1.2, (-inf, 1.0), REFUTED),
        (1.1, inf, (1.0, inf), INCONCLUSIVE),
        (-inf, inf, (-inf, inf), INCONCLUSIVE),
        (nan, nan, (1.0, 2.0), INCONCLUSIVE),
        (1.9, 1.1, (1.0, 2.0), INCONCLUSIVE),
        (1.1, 1.9, (2.0, 1.0), INCONCLUSIVE),
        (1.1, 1.9, (nan, 2.0), INCONCLUSIVE),
    ],
)
def test_status_by_the_ends_of_both_intervals(low, high, predicted, status):
    """The prediction is open, the measured interval closed: at an end it is no longer inside."""
    found, reason = compare(predicted, Measurement(1.5, low, high, 4, "seeds"))
    assert found == status
    assert bool(reason) == (status == INCONCLUSIVE)


def test_a_measurement_with_a_reason_decides_nothing():
    for value in (1.5, 9.0):
        measured = Measurement(value, value, value, 4, "seeds", "too few runs")
        assert compare((1.0, 2.0), measured) == (INCONCLUSIVE, "too few runs")
    assert compare((1.0, 2.0), Measurement(nan, 1.4, 1.6, 4, "seeds"))[0] == INCONCLUSIVE


def test_a_case_of_several_runs_is_measured_on_all_of_them_in_order():
    seen = []

    def measure(case, trajectories):
        seen.append((case.name, trajectories))
        return span(case, trajectories)

    values = iter([1.2, 1.4, 1.6, 5.0, 6.0])
    case, control = check([claim_on(measure=measure)], lambda run: next(values))
    assert seen == [("sweep", (1.2, 1.4, 1.6)), ("control", (5.0, 6.0))]
    assert (case.status, case.expected, case.measured, case.count) == (
        SUPPORTED,
        SUPPORTED,
        pytest.approx(1.4),
        3,
    )
    assert (case.low, case.high, case.predicted_low, case.predicted_high) == (1.2, 1.6, 1.0, 2.0)
    assert (control.status, control.expected, control.case) == (REFUTED, REFUTED, "control")
    assert passes([case, control])


def test_the_prediction_may_depend_on_the_case():
    claim = claim_on(predicted=None)
    claim = replace(claim, predicted=lambda case: (0.0, float(len(case.runs))))
    verdicts = check([claim], lambda run: 2.5)
    assert [each.predicted_high for each in verdicts] == [3.0, 2.0]
    assert [each.status for each in verdicts] == [SUPPORTED, REFUTED]


@pytest.mark.parametrize("place", ["run", "measure", "predicted"])
def test_a_failed_run_or_measurement_is_inconclusive_and_never_support(place):
    def fail(*arguments):
        raise FloatingPointError("the flow stalls\nat t = 3")

    claim = claim_on() if place == "run" else replace(claim_on(), **{place: fail})
    verdicts = check([claim], fail if place == "run" else lambda run: 1.5)
    assert [verdict.status for verdict in verdicts] == [INCONCLUSIVE] * 2
    assert all(verdict.reason == "the flow stalls at t = 3" for verdict in verdicts)
    assert all(np.isnan(verdict.measured) for verdict in verdicts)
    assert not passes(verdicts), "the control was not refuted"
    assert overall(verdicts) == INCONCLUSIVE


def test_one_failed_rung_leaves_the_other_cases_alone():
    def runner(run):
        if run.name == "rung-2":
            raise ArithmeticError
        return 5.0

    case, control = check([claim_on()], runner)
    assert (case.status, case.reason) == (INCONCLUSIVE, "ArithmeticError")
    assert control.status == REFUTED


def test_other_errors_are_not_swallowed():
    def runner(run):
        raise ValueError("redraw = 'x': run without --redraw first")

    with pytest.raises(ValueError, match="redraw"):
        check([claim_on()], runner)


ODD = Assumption(sentence="An odd number of runs.", holds=lambda case: len(case.runs) % 2 == 1)
FEW = Assumption(sentence="At most three runs.", holds=lambda case: len(case.runs) <= 3)


def test_a_case_that_breaks_an_assumption_is_not_run_and_the_sentences_are_told():
    """Nor is anything predicted or measured: assumptions are what these rely on."""
    broken = {2: ODD.sentence, 4: f"{ODD.sentence} {FEW.sentence}", 5: FEW.sentence}
    claim = replace(
        claim_on(),
        assumptions=(ODD, FEW),
        predicted=lambda case: pytest.fail("predicted") if len(case.runs) in broken else (1.0, 2.0),
        cases=lambda scale: tuple(sweep(count, f"{count}") for count in (1, 2, 3, 4, 5)),
        controls=lambda scale: (),
    )
    asked = []
    verdicts = check([claim], lambda run: asked.append(run) or 1.5)
    assert len(asked) == 1 + 3
    assert claim.assumed == f"{ODD.sentence} {FEW.sentence}"
    for verdict in verdicts:
        words = broken.get(int(verdict.case))
        assert verdict.status == (INCONCLUSIVE if words else SUPPORTED)
        assert verdict.reason == (f"assumption unmet: {words}" if words else "")
        assert np.isnan(verdict.measured) == np.isnan(verdict.predicted_low) == bool(words)


def test_a_control_may_break_the_assumption_that_is_the_cause_and_no_other():
    claim = claim_on(assumptions=(ODD, FEW))
    for runs, removes, status in ((2, ODD, REFUTED), (2, FEW, INCONCLUSIVE), (4, ODD, INCONCLUSIVE)):
        control = Control(name="control", runs=sweep(runs).runs, removes=removes)
        assert judge(claim, control, (5.0, 6.0), expected=REFUTED).status == status


def test_a_moved_prediction_judges_the_runs_of_the_case_and_only_as_a_control():
    cases = (sweep(3), sweep(2, "short"))
    claim = claim_on(predicted=(1.0, 2.0))
    near = moved(cases, claim.predicted, 1.0, "one more")
    assert [control.name for control in near] == ["sweep, one more", "short, one more"]
    assert [control.runs for control in near] == [case.runs for case in cases]
    claim = replace(claim, cases=lambda scale: cases[:1], controls=lambda scale: near)
    found = check([claim], lambda run: 1.5)
    assert [(each.predicted_low, each.predicted_high, each.status) for each in found] == [
        (1.0, 2.0, SUPPORTED), (2.0, 3.0, REFUTED), (2.0, 3.0, REFUTED)
    ]  # fmt: skip
    assert passes(found)


def test_a_verdict_says_what_was_judged_and_what_its_interval_is_of():
    flow = Experiment(name="flow", training=MeanField(sizes=AreaSizes.from_exponents(1e4, 0.9, 0.3)))
    kinds = {
        "full simulation": (EXPERIMENT, EXPERIMENT),
        "mean field": (flow,),
        "full simulation and mean field": (EXPERIMENT, flow),
    }
    for basis, runs in kinds.items():
        verdict = judge(claim_on(), Case(name="made", runs=runs), (1.5, 1.6))
        assert (verdict.basis, verdict.interval_of) == (basis, "runs")


def test_passing_takes_support_of_every_case_and_every_control_refuted():
    supported, refuted = verdict_on([0.9, 0.9, 0.91, 0.9]), verdict_on([0.1, 0.1, 0.11, 0.1])
    unsure = verdict_on([0.7, 0.9, 0.8])
    assert [each.status for each in (supported, refuted, unsure)] == [SUPPORTED, REFUTED, INCONCLUSIVE]
    control = {"expected": REFUTED}
    good, bad = replace(refuted, **control), replace(supported, **control)
    assert passes([supported, good]) and not contradicted([supported, good])
    for nothing in ([], [unsure], [supported, unsure, good], [good]):
        assert not passes(nothing) and not contradicted(nothing)
    for against in ([supported, refuted], [supported, bad], [supported, replace(unsure, **control)]):
        assert not passes(against) and contradicted(against)


def test_a_claim_is_supported_only_by_all_its_cases_and_controls():
    supported, refuted = verdict_on([0.9, 0.9, 0.91, 0.9]), verdict_on([0.1, 0.1, 0.11, 0.1])
    unsure = verdict_on([0.7, 0.9, 0.8])
    good, bad = replace(refuted, expected=REFUTED), replace(supported, expected=REFUTED)
    assert overall([supported, supported, good]) == SUPPORTED
    assert overall([supported, unsure, good]) == INCONCLUSIVE
    assert overall([supported, refuted, good]) == REFUTED
    assert overall([supported, good, bad]) == INCONCLUSIVE
    assert overall([good]) == overall([]) == INCONCLUSIVE


def test_check_runs_cases_and_controls_of_each_claim():
    seen = []
    nine = over_seeds(np.array([0.9, 0.9, 0.91, 0.9]))
    limits = [replace(claim, measure=lambda case, trajectories: nine) for claim in (MAE_AREA, CL_GLOBAL)]
    verdicts = check(limits, lambda experiment: seen.append(experiment.name), scale="quick")
    made = [(SUPPORTED, claim.cases("quick"), REFUTED, claim.controls("quick")) for claim in limits]
    assert [verdict.expected for verdict in verdicts] == [
        expected for row in made for expected, cases in (row[:2], row[2:]) for _ in cases
    ]
    assert len(verdicts) == len(seen) > 8
    with pytest.raises(ValueError, match="scale = 'slow': must be one of quick, full"):
        check(CLAIMS, lambda experiment: None, scale="slow")


def test_a_root_seed_moves_every_simulation_to_seeds_of_its_own(complaint):
    seen = []
    check((claim_on(),), lambda run: seen.append(run.training.seed_numbers) or 1.5, seed=3)
    assert set(seen) == {tuple(3000 + number for number in EXPERIMENT.training.seed_numbers)}
    with complaint("seed"):
        check((), lambda run: 1.5, seed=-1)


def test_what_a_verdict_says_in_words():
    verdict = verdict_on([0.9, 0.9, 0.91, 0.9])
    assert (verdict.predicted, verdict.case) == ("min_p A_own > 0.8", "mae-gap-positive")
    assert replace(verdict, predicted_low=-inf, predicted_high=1e-9).predicted == "min_p A_own < 1e-09"
    assert replace(verdict, predicted_high=0.95).predicted == "0.8 < min_p A_own < 0.95"
    assert replace(verdict, predicted_low=nan).predicted == "min_p A_own: no prediction"
    assert replace(verdict, measured=1e-15, low=-inf, high=12345.678).interval == "1e-15  [-inf, 1.235e+04]"
    assert verdict.remark == ""
    assert replace(verdict, expected=REFUTED).remark == "control: MUST BE REFUTED"
    assert replace(verdict, expected=REFUTED, status=REFUTED).remark == "control: as it must be"


def test_a_case_has_a_name_and_runs(complaint):
    with complaint("Case.name", "not blank"):
        Case(name=" ", runs=(EXPERIMENT,))
    for runs in ((), [EXPERIMENT]):
        with complaint("Case.runs", "one experiment or more"):
            Case(name="sweep", runs=runs)


def test_every_claim_says_what_it_is_and_has_cases_and_controls_at_each_scale():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        words = (claim.statement, claim.source, claim.assumed, claim.surrogate, claim.symbol)
        assert all(words)
        for scale in ("quick", "full"):
            cases, controls = claim.cases(scale), claim.controls(scale)
            assert cases and controls, claim.id
            assert len({case.name for case in (*cases, *controls)}) == len(cases) + len(controls), claim.id
            for case in cases:
                low, high = claim.predicted(case)
                assert low < high


def test_the_limits_are_controlled_by_the_other_objective_and_by_the_same_without_its_cause():
    for claim in (MAE_AREA, CL_GLOBAL):
        runs, others = (
            [run.training for case in cases for run in case.runs]
            for cases in (claim.cases("full"), claim.controls("full"))
        )
        (objective,) = {type(run.objective) for run in runs}
        near = [run for run in others if isinstance(run.objective, objective)]
        assert len(near) == 2 and {type(run.objective) for run in others} > {objective}
        lacking = [
            run.steps < 20 if claim is MAE_AREA else run.generator.layout.clusters == 1 for run in near
        ]
        assert all(lacking)
        gaps = [run.generator.layout.information_gap for run in runs]
        assert min(gaps) < 0 < max(gaps)
        assert all(len(run.seed_numbers) == 32 for run in runs)
        assert all(claim.predicted(case) == (0.8, inf) for case in claim.cases("full"))
