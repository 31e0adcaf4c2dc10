"""The layer's curvature, judged at the quick scale with its own seeds: each claim with its controls."""

import pytest

from vitdyn.claims import check, passes
from vitdyn.claims.layer_curvature import HESSIAN_CLOCK, HESSIAN_START, HESSIAN_TURN
from vitdyn.experiments import ResultStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return ResultStore(tmp_path_factory.mktemp("runs"))


@pytest.mark.verdict
@pytest.mark.parametrize("claim", [HESSIAN_START, HESSIAN_TURN, HESSIAN_CLOCK], ids=lambda claim: claim.id)
def test_it_holds_and_its_controls_are_refuted(claim, store):
    verdicts = check((claim,), store, scale="quick")
    told = "\n".join(f"{verdict.case}: {verdict.status} {verdict.interval}" for verdict in verdicts)
    print(told)
    assert all(verdict.status == verdict.expected for verdict in verdicts), told
    assert passes(verdicts)
