"""The gradient of masked reconstruction for one masked query, by differentiating its loss.

L = ½ z_a² (1 − A_a)² + ½ Σ_{j≠a} z_j² A_j²
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sympy as sp

from vitdyn.theory.derivations.model import Query, vanishes


def loss(query: Query, own: int) -> sp.Expr:
    """Return the squared error ½‖F_p − X_p‖² of a masked query of area ``own``."""
    terms = zip(query.strength, query.attention(), strict=True)
    return sum((z * (share - int(area == own))) ** 2 for area, (z, share) in enumerate(terms)) / 2


def push(query: Query, own: int, area: int) -> sp.Expr:
    """Return −∂L/∂φ_j, differentiated."""
    return -sp.diff(loss(query, own), query.correlation[area])


def pulls(
    strength: tuple[sp.Expr, ...], shares: tuple[sp.Expr, ...], own: int
) -> tuple[tuple[sp.Expr, ...], sp.Expr]:
    """Return g_j = −∂L/∂A_j of every area, differentiated, and ḡ = Σ_j A_j g_j."""
    # The attentions as free symbols: ∂L/∂A before the softmax ties them together.
    free = sp.symbols(f"A_1:{len(shares) + 1}", positive=True)
    error = sum(
        (z * (A - int(area == own))) ** 2 for area, (z, A) in enumerate(zip(strength, free, strict=True))
    )
    at = dict(zip(free, shares, strict=True))
    values = tuple(-sp.diff(error / 2, A).subs(at, simultaneous=True) for A in free)
    return values, sum(share * value for share, value in zip(shares, values, strict=True))


def closed_form(query: Query, own: int, area: int) -> sp.Expr:
    """Return z_j A_j (g_j − ḡ), what the notes say that ``push`` is."""
    shares = query.attention()
    values, mean = pulls(query.strength, shares, own)
    return query.strength[area] * shares[area] * (values[area] - mean)


def closed_form_holds(areas: int = 3) -> bool:
    """Prove −∂L/∂φ_j = z_j A_j (g_j − ḡ) for every own area and every j."""
    query = Query.symbols(areas)
    pairs = ((own, area) for own in range(areas) for area in range(areas))
    return all(vanishes(push(query, own, area) - closed_form(query, own, area)) for own, area in pairs)


def _with_key(query: Query, area: int | None) -> tuple[Query, sp.Symbol]:
    """Take one key of an area (None: one masked key) apart: it weighs e^Υ, the others keep n_j (n_0)."""
    position = sp.Symbol("Upsilon", real=True)
    if area is None:
        return replace(query, masked=query.masked + sp.exp(position)), position
    weights = list(query.weight)
    weights[area] += sp.exp(position)
    return replace(query, weight=tuple(weights)), position


def position_push(query: Query, own: int, area: int | None) -> tuple[sp.Expr, sp.Symbol]:
    """Return −∂L/∂Υ of one visible key of ``area`` (None: of one masked key), differentiated, and Υ."""
    split, position = _with_key(query, area)
    return -sp.diff(loss(split, own), position), position


def position_closed_form(query: Query, own: int, area: int | None) -> sp.Expr:
    """Return attn_q (g_j − ḡ) for a visible key q of area j, −attn_q ḡ for a masked one."""
    split, position = _with_key(query, area)
    shares = split.attention()
    values, mean = pulls(split.strength, shares, own)
    if area is None:
        return -sp.exp(position) / split.masked * (1 - sum(shares)) * mean
    return sp.exp(position) / split.weight[area] * shares[area] * (values[area] - mean)


def position_closed_form_holds(areas: int = 2) -> bool:
    """Prove both position gradients, for every own area."""
    query = Query.symbols(areas)
    for own in range(areas):
        for area in (*range(areas), None):
            found, _ = position_push(query, own, area)
            if not vanishes(found - position_closed_form(query, own, area)):
                return False
    return True


def numeric_push(areas: int, own: int, area: int) -> Callable[..., float]:
    """Return −∂L/∂φ_j as a function of (z, φ, n, n_0), the first three with one entry for each area."""
    query = Query.symbols(areas)
    return sp.lambdify(query.arguments, push(query, own, area), "math", cse=True)


def numeric_position_push(areas: int, own: int, area: int | None) -> Callable[..., float]:
    """Return −∂L/∂Υ of one key as a function of (z, φ, n, n_0, Υ), where n or n_0 leaves that key out."""
    query = Query.symbols(areas)
    found, position = position_push(query, own, area)
    return sp.lambdify((*query.arguments, position), found, "math", cse=True)
