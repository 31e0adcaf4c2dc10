"""Heads from a random start and trained values, each judged on its first case and a near control."""

from dataclasses import replace

import pytest

from vitdyn.claims import check, passes
from vitdyn.claims.heads import HEADS_AREA, HEADS_PART
from vitdyn.claims.values import VALUES_FIRST, VALUES_SPREAD
from vitdyn.experiments import ResultStore


@pytest.mark.verdict
@pytest.mark.parametrize(
    "claim",
    [HEADS_AREA, HEADS_PART, VALUES_SPREAD, VALUES_FIRST],
    ids=lambda claim: claim.id,
)
def test_it_holds_and_a_near_control_is_refuted(claim, tmp_path):
    """The other cases and claims, half a minute of CPU, are judged by ``vitdyn check``."""
    first = replace(
        claim,
        cases=lambda scale: claim.cases(scale)[:1],
        controls=lambda scale: claim.controls(scale)[:1],
    )
    verdicts = check((first,), ResultStore(tmp_path), scale="quick")
    told = "\n".join(f"{verdict.case}: {verdict.status} {verdict.interval}" for verdict in verdicts)
    assert passes(verdicts), told
