"""Depth with a residual at two layers, Δ > 0: four claims with the controls that share runs; verdicts.

The control of DEPTH-GLOBAL at τ = 1, which has a run of its own, is left to `vitdyn check`.
"""

from dataclasses import replace

import pytest

from vitdyn.claims import check, depth
from vitdyn.experiments import ResultStore

pytestmark = [pytest.mark.verdict, pytest.mark.xdist_group("depth")]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four of the six seeds of the quick scale: their intervals lie as clearly on one side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(depth._SEEDS, "quick", 4)
        yield ResultStore(tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize(
    "claim",
    [depth.DEPTH_AREA, depth.DEPTH_GLOBAL, depth.DEPTH_ORDER, depth.DEPTH_FIRST],
    ids=lambda one: one.id,
)
def test_a_claim_holds_and_its_controls_are_refuted(claim, store):
    alone = claim is depth.DEPTH_GLOBAL  # its first control's run is nobody else's
    cheapest = replace(
        claim,
        cases=lambda scale: claim.cases(scale)[:1],
        controls=lambda scale: claim.controls(scale)[alone:],
    )
    for verdict in check((cheapest,), store):
        assert verdict.status == verdict.expected, f"{verdict.case}: {verdict.interval} {verdict.reason}"
