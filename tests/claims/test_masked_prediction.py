"""Other losses and targets of masked patches: five claims with their controls; verdicts."""

import pytest

from vitdyn.claims import check, masked_prediction
from vitdyn.claims.gradient_correction import RCMAE_CORRECTION
from vitdyn.experiments import ResultStore

pytestmark = [pytest.mark.verdict, pytest.mark.xdist_group("masked prediction")]


@pytest.mark.parametrize(
    "claim",
    [
        masked_prediction.MIM_ORDER,
        masked_prediction.BEIT_TEMPERATURE,
        masked_prediction.RCMAE_FROZEN,
        RCMAE_CORRECTION,
        masked_prediction.SELF_TARGETS,
        masked_prediction.D2V_TEACHER,
    ],
    ids=lambda one: one.id,
)
def test_a_claim_holds_and_its_controls_are_refuted(claim, tmp_path):
    for verdict in check((claim,), ResultStore(tmp_path)):
        assert verdict.status == verdict.expected, f"{verdict.case}: {verdict.interval} {verdict.reason}"
