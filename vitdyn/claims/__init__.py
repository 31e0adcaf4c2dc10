"""Judgement: each claim of the theory as a check that can fail, with a control that must fail it."""

from vitdyn.claims.check import check, judge, passes
from vitdyn.claims.claim import INCONCLUSIVE, REFUTED, SCALES, SUPPORTED, Claim, Verdict
from vitdyn.claims.limits import CL_GLOBAL, MAE_AREA

CLAIMS: tuple[Claim, ...] = (MAE_AREA, CL_GLOBAL)

__all__ = [
    "CLAIMS",
    "CL_GLOBAL",
    "INCONCLUSIVE",
    "MAE_AREA",
    "REFUTED",
    "SCALES",
    "SUPPORTED",
    "Claim",
    "Verdict",
    "check",
    "judge",
    "passes",
]
