"""Loss landscapes, judged at the quick scale with their own seeds: each claim with its controls."""

import pytest

from vitdyn.claims import check, passes
from vitdyn.claims.landscape import LANDSCAPE_MAE_SMOOTHER, LANDSCAPE_TEACHER_CONVEX, LatentRegression
from vitdyn.experiments import ResultStore


@pytest.mark.verdict
@pytest.mark.parametrize(
    "claim", [LANDSCAPE_MAE_SMOOTHER, LANDSCAPE_TEACHER_CONVEX], ids=lambda claim: claim.id
)
def test_it_holds_and_its_controls_are_refuted(claim, tmp_path):
    verdicts = check((claim,), ResultStore(tmp_path))
    told = "\n".join(f"{each.case}: {each.status} {each.interval}" for each in verdicts)
    assert all(each.status == each.expected for each in verdicts), told
    assert passes(verdicts)


def test_a_target_that_there_is_not_is_named(complaint):
    with complaint("target", "must be one of global, local"):
        LatentRegression(target="loca")
