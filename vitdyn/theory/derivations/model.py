"""The model in symbols: one query's softmax over keys, grouped by area."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query and the keys that it sees, in symbols.

        A_j = n_j e^{z_j φ_j} / (n_0 + Σ_i n_i e^{z_i φ_i})

    ``strength`` z_j, ``correlation`` φ_j and ``weight`` n_j have one entry for each area; ``masked`` is n_0.
    The weights are counts of visible (masked) keys where Υ = 0 and sums of e^Υ over them otherwise.
    """

    strength: tuple[sp.Expr, ...]
    correlation: tuple[sp.Expr, ...]
    weight: tuple[sp.Expr, ...]
    masked: sp.Expr

    @classmethod
    def symbols(cls, areas: int) -> Query:
        """Return a query with a symbol for everything."""
        return cls(
            strength=sp.symbols(f"z_1:{areas + 1}", positive=True),
            correlation=sp.symbols(f"phi_1:{areas + 1}", real=True),
            weight=sp.symbols(f"n_1:{areas + 1}", positive=True),
            masked=sp.Symbol("n_0", positive=True),
        )

    @property
    def areas(self) -> int:
        """The number of areas."""
        return len(self.strength)

    @property
    def arguments(self) -> tuple[tuple[sp.Expr, ...], tuple[sp.Expr, ...], tuple[sp.Expr, ...], sp.Expr]:
        """All symbols, in the order in which numeric functions take them: z, φ, n, n_0."""
        return self.strength, self.correlation, self.weight, self.masked

    def attention(self) -> tuple[sp.Expr, ...]:
        """Return A_j of every area."""
        parts = [
            n * sp.exp(z * phi)
            for n, z, phi in zip(self.weight, self.strength, self.correlation, strict=True)
        ]
        return tuple(part / (self.masked + sum(parts)) for part in parts)


def vanishes(expression: sp.Expr) -> bool:
    """Return whether an expression is 0 identically: exponentials become symbols, the rest must cancel."""
    names = {power: sp.Dummy(positive=True) for power in expression.atoms(sp.exp)}
    # The longest first: a short exponential may stand inside a longer one.
    ordered = sorted(names, key=lambda power: -power.count_ops())
    return sp.cancel(sp.together(expression.subs([(power, names[power]) for power in ordered]))) == 0
