"""Powers of P with symbolic exponents: which terms of a sum survive, and with which exponent.

    α = 1 − κ_c > 0,   1 − κ_s = α + ρ with ρ = κ_c − κ_s > 0,   Δ = ρ − α

``MASKED`` is γ and ``VISIBLE`` is ν = 1 − γ, a symbol of its own so that sympy knows its sign.
"""

from __future__ import annotations

import sympy as sp

P = sp.Symbol("P", positive=True)
ALPHA, RHO = sp.symbols("alpha rho", positive=True)
MASKED, VISIBLE = sp.symbols("gamma nu", positive=True)
GAP = RHO - ALPHA
"""Δ = (1 − κ_s) − 2(1 − κ_c) in these symbols."""


def _power(term: sp.Expr) -> sp.Expr:
    """Return e of a term c·P^e, c free of P."""
    _, rest = sp.powsimp(term, force=True).as_independent(P, as_Add=False)
    base, power = rest.as_base_exp()
    return sp.expand(power) if base == P else sp.Integer(0)


def leading_terms(expression: sp.Expr) -> tuple[sp.Expr, ...]:
    """Return the terms c·P^e of a sum that no other dominates for every α, ρ > 0; equal powers are joined."""
    joined: dict[sp.Expr, sp.Expr] = {}
    for term in sp.Add.make_args(sp.expand(sp.powsimp(sp.expand(expression), force=True))):
        power = _power(term)
        joined[power] = joined.get(power, 0) + sp.powsimp(term / P**power, force=True)
    kept = {power: sp.factor(value) for power, value in joined.items() if sp.simplify(value) != 0}
    # sympy knows the sign of a power only where it is the same for every α, ρ > 0: those that no other beats
    # stay.
    best = [e for e in kept if not any(sp.expand(other - e).is_positive for other in kept)]
    return tuple(kept[e] * P**e for e in best)


def leading_term(expression: sp.Expr) -> sp.Expr:
    """Return the one leading term; raise ``ValueError`` where α and ρ do not decide which it is."""
    terms = leading_terms(expression)
    if len(terms) != 1:
        raise ValueError(f"expression = {terms}: must have one leading term for every alpha, rho > 0")
    return terms[0]


def exponent(expression: sp.Expr) -> sp.Expr:
    """Return lim log(expression)/log P as P → ∞, by sympy's limit."""
    logarithm = sp.expand_log(sp.log(sp.powsimp(expression, force=True)), force=True)
    return sp.expand(sp.limit(sp.expand(logarithm / sp.log(P)), P, sp.oo))


def expectation(
    expression: sp.Expr, latents: tuple[sp.Symbol, ...], moments: tuple[sp.Symbol, ...]
) -> sp.Expr:
    """Replace z^k of independent latents, one at a time, by the moment m_k; a constant term stays."""
    total = sp.Integer(0)
    for powers, coefficient in sp.Poly(sp.expand(expression), *latents).terms():
        total += coefficient * sp.prod([moments[power - 1] for power in powers if power])
    return total
