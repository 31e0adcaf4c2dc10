"""A centred teacher, judged at the quick scale with its own seeds: each claim with its controls."""

import pytest

from vitdyn.claims import check, passes
from vitdyn.claims.judgement import turning_point
from vitdyn.claims.self_distillation import DINO_CENTRE, DINO_UNIFORM, IBOT_LOCAL
from vitdyn.experiments import ResultStore


@pytest.mark.verdict
@pytest.mark.parametrize("claim", [DINO_CENTRE, DINO_UNIFORM, IBOT_LOCAL], ids=lambda claim: claim.id)
def test_it_holds_and_its_controls_are_refuted(claim, tmp_path):
    verdicts = check((claim,), ResultStore(tmp_path), scale="quick")
    told = "\n".join(f"{verdict.case}: {verdict.status} {verdict.interval}" for verdict in verdicts)
    assert all(verdict.status == verdict.expected for verdict in verdicts), told
    assert passes(verdicts)


def test_a_sign_turns_between_the_last_plus_and_the_first_minus():
    def turn(*signs):
        return turning_point((1.0, 2.0, 3.0), signs, low=0.0, high=9.0, of="a sweep")[:4]

    assert turn(1, 0, -1) == (2.0, 1.0, 3.0, 3)
    assert turn(1, 1, 1) == (3.0, 3.0, 9.0, 3)
    assert turn(0, -1, -1) == (2.0, 0.0, 2.0, 3)
    assert turn(0, 0, 0)[1:3] == (0.0, 9.0)
    with pytest.raises(ArithmeticError, match="no one place"):
        turn(1, -1, 1)
