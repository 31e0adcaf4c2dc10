"""Judgement on made-up numbers: what each verdict takes, and that no verdict comes cheap."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from vitdyn.claims import CL_GLOBAL, CLAIMS, INCONCLUSIVE, MAE_AREA, REFUTED, SUPPORTED, check, judge, passes
from vitdyn.claims.judgement import mean_interval
from vitdyn.data import PatchGenerator, PatchLayout, Uniform

(EXPERIMENT,) = MAE_AREA.experiments("quick")[:1]


def verdict_on(values, claim=MAE_AREA, experiment=EXPERIMENT):
    return judge(replace(claim, measure=lambda trajectory: np.array(values)), experiment, None)


def test_interval_is_students():
    values = np.array([0.1, 0.4, 0.2, 0.6, 0.3])
    low, high = stats.t.interval(0.999, 4, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx((values.mean(), low, high))


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([0.9, 0.91, 0.92, 0.9], SUPPORTED),
        ([0.1, 0.11, 0.12, 0.1], REFUTED),
        ([0.75, 0.85, 0.8, 0.81], INCONCLUSIVE),
        ([0.99], INCONCLUSIVE),
        ([0.99, np.nan], INCONCLUSIVE),
    ],
)
def test_status_follows_the_interval(values, status):
    assert verdict_on(values).status == status


def test_an_unmet_assumption_is_inconclusive_and_named():
    one_cluster = replace(
        EXPERIMENT,
        training=replace(
            EXPERIMENT.training, generator=PatchGenerator(layout=PatchLayout.from_sizes([9, 3]))
        ),
    )
    verdict = verdict_on([0.9, 0.9, 0.9], CL_GLOBAL, one_cluster)
    assert verdict.status == INCONCLUSIVE
    assert "cluster" in verdict.reason
    vanishing = PatchGenerator(
        layout=EXPERIMENT.training.generator.layout, latents=Uniform(low=0.0, high=1.0)
    )
    weak = replace(EXPERIMENT, training=replace(EXPERIMENT.training, generator=vanishing))
    assert verdict_on([0.9, 0.9, 0.9], MAE_AREA, weak).status == INCONCLUSIVE


def test_passing_takes_no_refutation_and_every_control_refuted():
    supported, refuted = verdict_on([0.9, 0.9, 0.91]), verdict_on([0.1, 0.1, 0.11])
    unsure = verdict_on([0.7, 0.9, 0.8])
    control = {"expected": REFUTED}
    assert passes([supported, unsure, replace(refuted, **control)])
    assert not passes([supported, refuted])
    assert not passes([supported, replace(supported, **control)])
    assert not passes([supported, replace(unsure, **control)])


def test_check_runs_experiments_and_controls_of_each_claim():
    seen = []
    claims = [replace(claim, measure=lambda trajectory: np.array([0.9, 0.9, 0.91])) for claim in CLAIMS]
    verdicts = check(claims, lambda experiment: seen.append(experiment.name), scale="quick")
    assert len(verdicts) == len(seen) == 8
    assert [verdict.expected for verdict in verdicts] == [SUPPORTED, SUPPORTED, REFUTED, REFUTED] * 2
    with pytest.raises(ValueError, match="scale = 'slow': must be one of quick, full"):
        check(claims, lambda experiment: None, scale="slow")


def test_claims_are_told_apart_and_controlled_by_the_other_objective():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        own = {type(experiment.training.objective) for experiment in claim.experiments("full")}
        other = {type(experiment.training.objective) for experiment in claim.controls("full")}
        assert not own & other
        gaps = [
            experiment.training.generator.layout.information_gap for experiment in claim.experiments("full")
        ]
        assert min(gaps) < 0 < max(gaps)
        assert all(len(experiment.training.seed_numbers) == 32 for experiment in claim.experiments("full"))
