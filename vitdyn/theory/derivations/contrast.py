"""The gradient of InfoNCE for one anchor and one query, by differentiating the loss.

    L = −log( e^{s_1/τ} / Σ_b e^{s_b/τ} ),  s_b = Σ_j f_j f''_{bj},  f_j = z_j Ā_j,  Ā_j = (A_{p→j} + R_j)/P

R_j is what the other P − 1 queries attend to area j; second views f'' are constants, b = 1 the positive.
A second view of another cluster has f''_{bj} = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp

from vitdyn.theory.derivations.model import Query, vanishes


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """One first view: a query p, the other queries' part R_j of the pooled output, and B second views."""

    query: Query
    others: tuple[sp.Expr, ...]
    second: tuple[tuple[sp.Expr, ...], ...]
    temperature: sp.Expr
    patches: sp.Expr

    @classmethod
    def symbols(cls, areas: int, views: int) -> Anchor:
        """Return an anchor with a symbol for everything."""
        return cls(
            query=Query.symbols(areas),
            others=sp.symbols(f"R_1:{areas + 1}", nonnegative=True),
            second=tuple(sp.symbols(f"f{b}_1:{areas + 1}", nonnegative=True) for b in range(1, views + 1)),
            temperature=sp.Symbol("tau", positive=True),
            patches=sp.Symbol("P", positive=True),
        )

    def pooled(self) -> tuple[sp.Expr, ...]:
        """Return f_j."""
        rows = zip(self.query.strength, self.query.attention(), self.others, strict=True)
        return tuple(z * (share + rest) / self.patches for z, share, rest in rows)


def loss(
    pooled: tuple[sp.Expr, ...], second: tuple[tuple[sp.Expr, ...], ...], temperature: sp.Expr
) -> sp.Expr:
    """Return −log π_1."""
    likeness = [sum(f * g for f, g in zip(pooled, view, strict=True)) / temperature for view in second]
    return sp.log(sum(sp.exp(s) for s in likeness)) - likeness[0]


def pulls(anchor: Anchor) -> tuple[sp.Expr, ...]:
    """Return h_j = −z_j ∂L/∂f_j, differentiated, at the anchor's pooled output."""
    # Differentiated at free symbols, then evaluated: the pooled output is itself a function of φ.
    free = sp.symbols(f"f_1:{anchor.query.areas + 1}", real=True)
    value = loss(free, anchor.second, anchor.temperature)
    at = dict(zip(free, anchor.pooled(), strict=True))
    return tuple(
        -z * sp.diff(value, f).subs(at, simultaneous=True)
        for z, f in zip(anchor.query.strength, free, strict=True)
    )


def pulls_hold(areas: int = 2, views: int = 3) -> bool:
    """Prove h_j = (z_j/τ) [(1 − π_1) f''_{1j} − Σ_{b>1} π_b f''_{bj}]."""
    anchor = Anchor.symbols(areas, views)
    free = sp.symbols(f"f_1:{areas + 1}", real=True)
    value = loss(free, anchor.second, anchor.temperature)
    powers = [
        sp.exp(sum(f * g for f, g in zip(free, view, strict=True)) / anchor.temperature)
        for view in anchor.second
    ]
    for area, f in enumerate(free):
        repelled = sum(power * view[area] for power, view in zip(powers, anchor.second, strict=True))
        bracket = anchor.second[0][area] - repelled / sum(powers)
        if not vanishes(-sp.diff(value, f) - bracket / anchor.temperature):
            return False
    return True


def push(anchor: Anchor, area: int) -> sp.Expr:
    """Return −∂L/∂φ_{p,j} of the one query, differentiated through the softmax."""
    value = loss(anchor.pooled(), anchor.second, anchor.temperature)
    return -sp.diff(value, anchor.query.correlation[area])


def closed_form(anchor: Anchor, area: int) -> sp.Expr:
    """Return (1/P) z_j A_j (h_j − h̄), what the notes say that ``push`` is."""
    shares, values = anchor.query.attention(), pulls(anchor)
    mean = sum(share * value for share, value in zip(shares, values, strict=True))
    return anchor.query.strength[area] * shares[area] * (values[area] - mean) / anchor.patches


def closed_form_holds(areas: int = 2, views: int = 3) -> bool:
    """Prove −∂L/∂φ_{p,j} = (1/P) z_j A_j (h_j − h̄) for every j."""
    anchor = Anchor.symbols(areas, views)
    return all(vanishes(push(anchor, area) - closed_form(anchor, area)) for area in range(areas))


def numeric_push(areas: int, views: int, area: int) -> Callable[..., float]:
    """Return −∂L/∂φ_{p,j} as a function of (z, φ, n, n_0, R, f'', τ, P)."""
    anchor = Anchor.symbols(areas, views)
    arguments = (*anchor.query.arguments, anchor.others, anchor.second, anchor.temperature, anchor.patches)
    return sp.lambdify(arguments, push(anchor, area), "math", cse=True)
