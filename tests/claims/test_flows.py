"""Claims on mean-field flows: each holds, its controls are refuted, and a wrong drift or exponent is noticed.

The flows are deterministic; exponents are compared within the claims' own margin of 0.01. SYMMETRY, CL-SYMMETRY and
REDUCTION also run full simulations, of fixed seeds. Claims that need full simulation alone are tested elsewhere.
"""

from dataclasses import replace
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import xarray

from vitdyn.claims import CLAIMS, INCONCLUSIVE, REFUTED, SUPPORTED, Control, check, overall, passes, phases
from vitdyn.claims.flows import (
    TOLERANCE,
    exponent,
    final_time,
    flow,
    regime_of,
    single,
    single_flow,
    spec_of,
    sweep,
    with_coarser,
)
from vitdyn.data import Constant, TwoPoint, Uniform
from vitdyn.experiments import ResultStore, run, run_all
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.reduced import MeanField
from vitdyn.reduced.right_hand_side import RightHandSide
from vitdyn.trajectory import Trajectory

BY_NAME = {claim.id: claim for claim in CLAIMS}
FLOWS = [
    claim.id
    for claim in CLAIMS
    if any(isinstance(run.training, MeanField) for case in claim.cases("quick") for run in case.runs)
]

RESULTS = TemporaryDirectory(prefix="vitdyn-flows-")
cached = ResultStore(RESULTS.name)


def told(verdicts):
    return "\n".join(
        f"{each.claim} on {each.case}: {each.status} {each.interval} {each.remark}" for each in verdicts
    )


def cases_only(name, runner, *, predicted=None):
    claim = BY_NAME[name]
    claim = replace(claim, controls=lambda scale: (), predicted=predicted or claim.predicted)
    return check((claim,), runner)


def turn(monkeypatch, method, entries):
    """Give entries of one part of the drift the opposite sign."""
    right = getattr(RightHandSide, method)

    def wrong(self, rows):
        drift = right(self, rows).copy()
        drift[entries] *= -1
        return drift

    monkeypatch.setattr(RightHandSide, method, wrong)


def fake_home(own):
    """A trajectory that ends with this own-area attention of all queries."""
    axes = ("frame", "seed", "cluster", "query_area", "statistic")
    values = xarray.DataArray(np.full((1, 1, 1, 3, 1), own), dims=axes)
    return Trajectory(xarray.Dataset({"own_area_attention": values}, {"statistic": ["mean"]}))


def measured_exponent(case, runner=cached):
    return exponent(case, run_all(runner, case.runs), final_time)


@pytest.mark.verdict
@pytest.mark.parametrize("name", [*FLOWS, "REDUCTION"])
def test_the_claim_holds_and_its_controls_are_refuted(name):
    verdicts = check((BY_NAME[name],), cached)
    assert {each.is_control for each in verdicts} == {False, True}
    assert all(each.status == each.expected for each in verdicts), told(verdicts)
    assert passes(verdicts)


@pytest.mark.verdict
@pytest.mark.parametrize("name", ["MAE-TIME", "MAE-PHASES"])
def test_a_drift_of_reconstruction_with_the_wrong_sign_is_noticed(name, monkeypatch):
    """No case with Δ > 0 is supported if φ_1 rises; with Δ < 0 φ_1 hardly matters and its sign may go unnoticed."""
    turn(monkeypatch, "_reconstruction", 0)
    verdicts = cases_only(name, run)
    positive = [regime_of(case).information_gap > 0 for case in BY_NAME[name].cases("quick")]
    assert any(positive) and overall(verdicts) != SUPPORTED, told(verdicts)
    for verdict, above in zip(verdicts, positive, strict=True):
        assert not (above and verdict.status == SUPPORTED), told(verdicts)
    if name == "MAE-PHASES":
        assert REFUTED in {verdict.status for verdict in verdicts}, told(verdicts)


@pytest.mark.verdict
@pytest.mark.parametrize(
    ("part", "name"),
    [("_reconstruction", "MAE-TIME"), ("_reconstruction", "MAE-PHASES"), ("_contrast", "CL-TIME")],
)
def test_a_whole_drift_with_the_wrong_sign_is_refuted(part, name, monkeypatch):
    """Ascent: attention never comes home, and the flow is followed far beyond the time that is claimed."""
    turn(monkeypatch, part, slice(None))
    verdicts = cases_only(name, run)
    assert {each.status for each in verdicts} == {REFUTED}, told(verdicts)


@pytest.mark.verdict
@pytest.mark.parametrize("name", ["MAE-TIME", "CL-TIME"])
def test_flows_that_arrive_are_in_time_by_a_factor_of_a_hundred(name):
    """So the time after which a stalled flow refutes a claim is no trap for a slow one."""
    claim = BY_NAME[name]
    for case in claim.cases("quick"):
        for each in case.runs:
            assert final_time(cached(each)) < claim.latest(each.training) / 100


@pytest.mark.verdict
@pytest.mark.parametrize("error", [-0.1, 0.1])
@pytest.mark.parametrize("name", ["MAE-TIME", "CL-TIME", "MAE-GLOBAL-TIME"])
def test_a_wrong_exponent_is_refuted(name, error):
    right = BY_NAME[name].predicted
    verdicts = cases_only(name, cached, predicted=lambda case: tuple(end + error for end in right(case)))
    assert verdicts and {each.status for each in verdicts} == {REFUTED}, told(verdicts)


@pytest.mark.verdict
def test_the_level_of_the_other_regime_is_refuted():
    """Each of two cases, Δ > 0 and Δ < 0, judged by the prediction for the other."""
    positive, negative, _ = BY_NAME["MAE-PHASES"].cases("quick")
    assert regime_of(positive).information_gap > 0 > regime_of(negative).information_gap
    right = BY_NAME["MAE-PHASES"].predicted
    swapped = {positive.name: right(negative), negative.name: right(positive)}
    verdicts = cases_only("MAE-PHASES", cached, predicted=lambda case: swapped.get(case.name, right(case)))
    assert [each.status for each in verdicts] == [REFUTED, REFUTED, SUPPORTED], told(verdicts)


@pytest.mark.parametrize("scale", ["quick", "full"])
@pytest.mark.parametrize("name", [*FLOWS, "MAE-LOSS"])
def test_a_control_is_near(name, scale):
    """It keeps the objective of the cases: the cause alone is taken away, or the theory is wrong by little."""
    claim = BY_NAME[name]
    about = {str(each.training.objective) for case in claim.cases("full") for each in case.runs}
    near = [
        control for control in claim.controls(scale)
        if isinstance(control, Control) and {type(each.training.objective) for each in control.runs}
        <= {type(each.training.objective) for case in claim.cases("full") for each in case.runs}
    ]  # fmt: skip
    assert near and about, name


@pytest.mark.verdict
def test_who_moves_first_has_the_right_direction(monkeypatch, tmp_path):
    """Ascent moves as fast at first, in the other direction: the claim reads the sign too."""
    turn(monkeypatch, "_reconstruction", slice(None))
    monkeypatch.setattr(
        phases, "_flow", lambda kappa, latents=None: single_flow(*kappa, until=None, frames=600)
    )
    verdicts = check((replace(BY_NAME["MAE-ORDER"], controls=lambda scale: ()),), ResultStore(tmp_path))
    assert {each.status for each in verdicts} == {REFUTED}, told(verdicts)


def test_the_threshold_of_a_mixture_that_changes_twice_is_none():
    case = BY_NAME["HYBRID-THRESHOLD"].cases("quick")[0]
    made = [fake_home(own) for own in (0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)]
    with pytest.raises(ArithmeticError, match="change once"):
        BY_NAME["HYBRID-THRESHOLD"].measure(case, tuple(made))
    found = BY_NAME["HYBRID-THRESHOLD"].measure(case, tuple(map(fake_home, [0.9] * 9)))
    assert (found.low, found.high) == (spec_of(case).weight, 1.0)


@pytest.mark.verdict
@pytest.mark.parametrize("draw", range(6))
def test_reconstruction_takes_a_time_of_its_exponent_anywhere(draw, rng):
    """Random κ, mask ratio and latents with U/L at most 2, at either sign of Δ."""
    positive = draw % 2 == 0
    while True:
        kappa_c, kappa_s = rng.uniform(0.51, 0.95), rng.uniform(0.1, 0.5)
        gap = 1 - kappa_s - 2 * (1 - kappa_c)
        if abs(gap) > 0.05 and (gap > 0) == positive and kappa_s < kappa_c - 0.05:
            break
    ends = {"low": 1.0, "high": float(rng.uniform(1.05, 2.0))}
    distribution = (Uniform(**ends), TwoPoint(**ends), Constant(value=ends["high"]))[rng.integers(3)]
    objective = MaskedReconstruction(mask_ratio=float(rng.uniform(0.2, 0.8)))
    case = sweep(float(kappa_c), float(kappa_s), objective, latents=distribution)
    assert regime_of(case).information_gap == pytest.approx(gap)
    assert measured_exponent(case).value == pytest.approx(1 - kappa_s, abs=TOLERANCE), (
        case.name,
        distribution,
    )


@pytest.mark.verdict
@pytest.mark.parametrize("draw", range(3))
def test_contrast_takes_a_time_of_its_exponent_anywhere(draw, rng):
    kappa_c, kappa_s = rng.uniform(0.51, 0.85), rng.uniform(0.1, 0.4)
    found = measured_exponent(sweep(float(kappa_c), float(kappa_s), Contrastive()))
    assert found.value == pytest.approx(1 + 2 * (1 - kappa_c), abs=TOLERANCE), (kappa_c, kappa_s)


def test_a_flow_that_does_not_arrive_decides_nothing(monkeypatch):
    """With one cluster the negatives share the positive's features, and contrast does not collapse to 0.99."""

    def single(case):
        runs = tuple(replace(each, training=replace(each.training, clusters=1)) for each in case.runs)
        return replace(case, runs=runs)

    monkeypatch.setattr("vitdyn.reduced.integrator.MOST_STEPS", 300)
    claim = BY_NAME["CL-LOCAL-LOST"]
    broken = replace(
        claim,
        assumptions=(),  # which such a case breaks: it would not be run
        cases=lambda scale: tuple(map(single, claim.cases(scale)[:1])),
        controls=lambda scale: (),
    )
    (verdict,) = check((broken,), cached)
    assert verdict.status == INCONCLUSIVE and ("stalled" in verdict.reason or "stiff" in verdict.reason), (
        verdict
    )


def test_the_interval_of_a_flow_covers_what_finer_integration_finds():
    """The difference from a coarser flow is no constant, and the flow at a tenth of the tolerance lies within it."""
    coarse, fine = with_coarser(flow(1e12, 0.9, 0.3, MaskedReconstruction(), until=0.9))
    assert (coarse.training.tolerance, coarse.training.nodes) == (100 * fine.training.tolerance, 16)
    spec = replace(fine.training, tolerance=fine.training.tolerance / 10, nodes=32)
    finest = final_time(cached(replace(fine, training=spec)))
    found = single((cached(coarse), cached(fine)), final_time)
    assert found.value - found.low == pytest.approx(abs(found.value - final_time(cached(coarse))))
    assert found.low < finest < found.high
    assert 0 < found.high - found.low < 1e-3 * found.value
