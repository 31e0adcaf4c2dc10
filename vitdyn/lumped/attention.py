"""Attention of the mean field as a function of the order parameters, of one run or of many at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitdyn.lumped.quadrature import Quadrature

ORDER_PARAMETERS = ("local φ_1", "local φ_a", "local φ_o", "global φ_1", "global φ_o")
POSITION_PARAMETERS = ("local Υ_1", "local Υ_a", "local Υ_o", "global Υ_1", "global Υ_o")

State = Float[np.ndarray, "parameter ..."]
"""The order parameters, Φ first, then (with position correlations) Υ, in the order of the two tuples above."""

Number = Float[np.ndarray, "..."] | float
"""One number for a run, or one for each of many."""


class Row(NamedTuple):
    """Attention of one kind of query; axes (z of the global area, z of the query's own area), then that of runs.

    ``left`` is what the own local area leaves, 1 for a global query. Of that, shares go to the global area, to another
    one (without its factor ``tilt`` = e^{zφ_o}, which is scaled to 1 at its largest) and to one hidden key, where
    e^{−Υ} is left out; they do not depend on z of the own area. ``rest`` is 1 − A_own, free of cancellation.
    """

    share_global: Float[np.ndarray, "node ..."]
    share_other: Float[np.ndarray, "node ..."]
    share_key: Float[np.ndarray, "node ..."]
    left: np.ndarray
    to_own: np.ndarray
    rest: np.ndarray
    tilt: Float[np.ndarray, "node ..."]

    @property
    def to_global(self) -> np.ndarray:
        """A_1."""
        return self.share_global[:, None] * self.left

    @property
    def other(self) -> np.ndarray:
        """A_o without its factor ``tilt``."""
        return self.share_other[:, None] * self.left


class Kind(NamedTuple):
    """One kind of query: its correlations, the number of other local areas, and the keys that it finds on average.

    ``keys`` counts those of the global, of its own and of another local area: all of them, or, where the query is
    hidden, those beside itself. ``shown`` is the share of them that is visible.
    """

    phi_global: Number
    phi_own: Number
    phi_other: Number
    position: tuple[Number, Number, Number]
    others: Number
    keys: tuple[Number, Number, Number]
    shown: Number
    local: bool
    hidden: bool


Rows = tuple[tuple[Kind, Row], tuple[Kind, Row]]
"""The local and the global query, with their attention."""


class Queries(NamedTuple):
    """Rows of hidden queries, whose error reconstruction counts, and of all queries, over which contrast pools.

    None where the objective asks for no such rows.
    """

    hidden: Rows | None
    every: Rows | None

    @property
    def counted(self) -> Rows:
        """The rows that a record reads: hidden queries, or all of them where the objective is contrast alone."""
        rows = self.hidden or self.every
        assert rows is not None
        return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanAttention:
    """Softmax attention of both kinds of query, with expectations over the latents by a quadrature ``rule``.

    Sizes enter through logarithms, and every exponential after subtracting the row's maximum. Numbers are those of one
    run, or have an axis over many runs, as have states then. That axis comes last, so that the formulas are the same
    with and without.
    """

    rule: Quadrature
    hidden: Number
    patches: Number
    global_size: Number
    local_size: Number
    local_areas: Number
    position_correlations: bool

    @cached_property
    def log_patches(self) -> Number:
        """The natural logarithm of P."""
        return np.log(self.patches)

    def kinds(self, state: State, *, hidden: bool) -> tuple[Kind, Kind]:
        """Return the local and the global query of a state, hidden or of whatever visibility.

        In the mean over all queries of an area, its visible patches are (1 − γ)C. A hidden query is none of them: the
        others, C − 1, are visible with probability (1 − γ)P/(P − 1).
        """
        position = state[5:] if self.position_correlations else np.zeros(5)
        shown = (1 - self.hidden) * (self.patches / (self.patches - 1) if hidden else 1.0)
        area, centre = self.local_size, self.global_size
        local = Kind(
            phi_global=state[0],
            phi_own=state[1],
            phi_other=state[2],
            position=(position[0], position[1], position[2]),
            others=self.local_areas - 1,
            keys=(centre, area - hidden, area),
            shown=shown,
            local=True,
            hidden=hidden,
        )
        central = Kind(
            phi_global=state[3],
            phi_own=0.0,
            phi_other=state[4],
            position=(position[3], 0.0, position[4]),
            others=self.local_areas,
            keys=(centre - hidden, 0.0 * area, area),
            shown=shown,
            local=False,
            hidden=hidden,
        )
        return local, central

    def rows_of(self, state: State, *, hidden: bool) -> Rows:
        """Return both kinds of query with their attention."""
        local, central = self.kinds(state, hidden=hidden)
        return (local, self._row(local)), (central, self._row(central))

    def _row(self, kind: Kind) -> Row:
        z, _ = self.rule
        to_global, to_own, to_other = kind.position
        visible, unseen, one_other = self._masses(kind)
        on_global = visible[0] + to_global + z * kind.phi_global
        on_own = visible[1] + to_own + z * kind.phi_own
        peak = (z * kind.phi_other).max(0)
        tilt = np.exp(z * kind.phi_other - peak)
        on_others = visible[2] + to_other + peak + np.log(self.moment(0, tilt))
        unseen = [mass + up for mass, up in zip(unseen, kind.position, strict=True)]
        shift = np.maximum(on_global.max(0), on_own.max(0))
        for each in (on_others, *unseen):
            shift = np.maximum(shift, each)
        from_global = np.exp(on_global - shift)
        from_rest = np.exp(on_others - shift) + sum(np.exp(each - shift) for each in unseen)
        scale = 1 / (from_global + from_rest)
        left = 1 / (1 + np.exp(on_own - shift)[None, :] * scale[:, None])
        share_global = from_global * scale
        return Row(
            share_global=share_global,
            share_other=np.exp(one_other + to_other + peak - shift) * scale,
            share_key=np.exp(-self.log_patches - shift) * scale,
            left=left if kind.local else np.ones_like(z[:1, None]),
            to_own=np.exp(on_own - shift)[None, :] * scale[:, None] * left
            if kind.local
            else share_global[:, None],
            rest=left if kind.local else (from_rest * scale)[:, None],
            tilt=tilt,
        )

    def _masses(self, kind: Kind) -> tuple[list[Number], list[Number], Number]:
        """Return log(number/P) of visible and of hidden keys: global, own, all others; and of one other's visible ones.

        Υ_self stands for one key of a row; it is taken for that of the query's area.
        """
        centre, own, other = kind.keys
        keys = np.array([centre, own, other * kind.others])
        itself = np.zeros_like(keys)
        itself[1 if kind.local else 0] += kind.hidden
        with np.errstate(divide="ignore"):  # an area without keys: log 0 = −∞, no attention
            visible = np.log(keys * kind.shown / self.patches)
            hidden = np.log((keys * (1 - kind.shown) + itself) / self.patches)
            return list(visible), list(hidden), np.log(other * kind.shown / self.patches)

    def attention(self, rows: Rows) -> State:
        """Return mean attention, in the order of ``ORDER_PARAMETERS``."""
        (_, local), (_, central) = rows
        home, own, away = self.mean(central.to_global), self.mean(local.to_own), self.mean(local.to_global)
        others = [self.mean(row.other) * self.moment(0, row.tilt) for _, row in rows]
        return np.array([away, own, others[0], home, others[1]])

    def moment(self, power: int, factor: Float[np.ndarray, "node ..."]) -> Number:
        """Return E z^power factor(z)."""
        return _contract(self._powers[power], factor)

    @cached_property
    def _powers(self) -> list[np.ndarray]:
        """Weights times z^0 to z^3."""
        z, weights = self.rule
        return [weights, weights * z, weights * z * z, weights * z * z * z]

    def mean(self, values: np.ndarray) -> Number:
        """Return the expectation over z of the global and of the own area."""
        over_own = self.over_own(values)
        return (
            _contract(self.rule.weights, over_own) if len(over_own) == len(self.rule.weights) else over_own[0]
        )

    def over_own(self, values: np.ndarray, power: int = 0) -> np.ndarray:
        """Return E z^power values over the second axis, z of the own area; without that axis the values."""
        weights = self._powers[power]
        return along(values, weights) if values.shape[1] == len(weights) else values[:, 0]


def along(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the sum over the second axis of values times weights."""
    return values @ weights if weights.ndim == 1 else np.einsum("oac,ac->oc", values, weights)


def _contract(weights: np.ndarray, values: np.ndarray) -> Number:
    """Return the sum over nodes of weights times values."""
    return weights @ values if weights.ndim == 1 else np.einsum("nc,nc->c", weights, values)
