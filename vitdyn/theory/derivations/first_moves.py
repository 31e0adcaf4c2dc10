"""Which of its correlations a local query moves first, for other losses at a masked patch than the squared error.

Losses differ in their pulls g_j = −∂L/∂A_j alone; the drifts are those of ``start``, with visible counts at their
means, and so is what is left out there.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from vitdyn.theory.derivations.asymptotics import MASKED, VISIBLE, expectation, leading_term
from vitdyn.theory.derivations.start import (
    CLUSTERS,
    GLOBAL,
    LATENTS,
    LIFT_GLOBAL,
    LIFT_OWN,
    LOCAL_AREAS,
    MOMENTS,
    OTHER,
    OWN,
    TAU,
)

SHARES = sp.symbols("A_a A_1 A_o", nonnegative=True)
"""Attention to the own area, to the global one, and to one of all other local areas, which are alike."""
TARGETS = sp.symbols("T_a T_1 T_o", nonnegative=True)
COUNTS = (sp.Integer(1), sp.Integer(1), LOCAL_AREAS - 1)
Loss = Callable[[], sp.Expr]


def absolute_error() -> sp.Expr:
    """Return ‖F_p − X_p‖_1 of a query of a local area, linear in attention since latents are not negative."""
    own, *others = (n * z * A for n, z, A in zip(COUNTS, LATENTS, SHARES, strict=True))
    return LATENTS[0] - own + sum(others)


def cross_entropy() -> sp.Expr:
    """Return −log softmax(F_p/τ) at the own feature, to first order in attention, up to a constant.

    There are K N classes, to leading order; a feature without attention has its logit at 0.
    """
    logits, size = [z * A / TAU for z, A in zip(LATENTS, SHARES, strict=True)], sp.Symbol("s")
    classes = CLUSTERS * leading_term(LOCAL_AREAS)
    weights = sum(n * (sp.exp(size * x) - 1) for n, x in zip(COUNTS, logits, strict=True))
    return sp.diff(sp.log(classes + weights), size).subs(size, 0) - logits[0]


def teacher_error() -> sp.Expr:
    """Return ½‖F_p − F̄_p‖² with F̄ the output of the same model on the whole sample: attention T_j = A_j/(1 − γ)."""
    parts = zip(COUNTS, LATENTS, SHARES, TARGETS, strict=True)
    return sum(n * (z * (A - T)) ** 2 for n, z, A, T in parts) / 2


def drifts(loss: Loss) -> tuple[sp.Expr, sp.Expr]:
    """Return dφ_a/dt and dφ_1/dt at Q = 0: γ E[z_j A_j (g_j − ḡ)], g differentiated."""
    at_zero = {LIFT_OWN: 1, LIFT_GLOBAL: 1}
    shares = [share.subs(at_zero) for share in (OWN, GLOBAL, OTHER)]
    # targets are behind a stop-gradient: they are put in after the loss is differentiated
    values = dict(zip((*SHARES, *TARGETS), (*shares, *(A / VISIBLE for A in shares)), strict=True))
    pulls = [-sp.diff(loss(), A).subs(values) / n for A, n in zip(SHARES, COUNTS, strict=True)]
    mean = sum(n * A * pull for n, A, pull in zip(COUNTS, shares, pulls, strict=True))
    own, away = (
        MASKED * expectation(z * A * (pull - mean), LATENTS, MOMENTS)
        for z, A, pull in zip(LATENTS[:2], shares[:2], pulls[:2], strict=True)
    )
    return own, away


def lead(loss: Loss) -> sp.Expr:
    """Return the leading |dφ_1/dt| / (dφ_a/dt): above 1 a local query drops the global area before it finds its own."""
    own, away = drifts(loss)
    return sp.powsimp(sp.expand(-leading_term(away) / leading_term(own)), force=True)
