"""Noise and coherence: two claims with their controls; verdicts."""

import pytest

from vitdyn.claims import check, perturbed
from vitdyn.experiments import ResultStore

pytestmark = [pytest.mark.verdict, pytest.mark.xdist_group("perturbed")]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return ResultStore(tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize("claim", [perturbed.NOISE_START, perturbed.COHERENCE_TURN], ids=lambda one: one.id)
def test_a_claim_holds_and_its_controls_are_refuted(claim, store):
    for verdict in check((claim,), store):
        assert verdict.status == verdict.expected, f"{verdict.case}: {verdict.interval} {verdict.reason}"
