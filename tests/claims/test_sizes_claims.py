"""Areas of sizes that the theory leaves out: three claims with their controls, on common runs; verdicts."""

import pytest

from vitdyn.claims import check, sizes
from vitdyn.experiments import ResultStore

pytestmark = [pytest.mark.verdict, pytest.mark.xdist_group("sizes")]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for all: controls share runs."""
    return ResultStore(tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize(
    "claim", [sizes.SIZES_LARGEST, sizes.SIZES_AREA, sizes.SIZES_LEAD], ids=lambda one: one.id
)
def test_a_claim_holds_and_its_controls_are_refuted(claim, store):
    for verdict in check((claim,), store):
        assert verdict.status == verdict.expected, f"{verdict.case}: {verdict.interval} {verdict.reason}"
