"""Attention of the mean field as a function of the order parameters, of one run or of many at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf
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
    """One kind of query: its correlations and the number of other local areas."""

    phi_global: Number
    phi_own: Number
    phi_other: Number
    position: tuple[Number, Number, Number]
    others: Number
    log_others: Number
    local: bool


Rows = tuple[tuple[Kind, Row], tuple[Kind, Row]]
"""The local and the global query, with their attention."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanAttention:
    """Softmax attention of both kinds of query, with expectations over the latents by a quadrature ``rule``.

    Sizes enter through logarithms, and every exponential after subtracting the row's maximum. Numbers are those of one
    run, or have an axis over many runs, as have states then. That axis comes last, so that the formulas are the same
    with and without.
    """

    rule: Quadrature
    hidden: Number
    log_patches: Number
    log_global: Number
    log_local: Number
    log_others: Number
    local_areas: Number
    position_correlations: bool

    def kinds(self, state: State) -> tuple[Kind, Kind]:
        """Return the local and the global query of a state."""
        position = state[5:] if self.position_correlations else np.zeros(5)
        local = Kind(
            state[0],
            state[1],
            state[2],
            (position[0], position[1], position[2]),
            self.local_areas - 1,
            self.log_others,
            True,
        )
        log_all = self.log_local + np.log(self.local_areas)
        central = Kind(
            state[3], 0.0, state[4], (position[3], 0.0, position[4]), self.local_areas, log_all, False
        )
        return local, central

    def rows(self, state: State) -> Rows:
        """Return both kinds of query with their attention."""
        local, central = self.kinds(state)
        return (local, self._row(local)), (central, self._row(central))

    def _row(self, kind: Kind) -> Row:
        z, _ = self.rule
        shown, hidden = np.log(1 - self.hidden), np.log(self.hidden)
        to_global, to_own, to_other = kind.position
        everyone = [self.log_global + to_global, kind.log_others + to_other]
        on_global = shown + everyone[0] + z * kind.phi_global
        on_own = np.full_like(z[:1], -inf)
        if kind.local:
            everyone.append(self.log_local + to_own)
            on_own = shown + everyone[2] + z * kind.phi_own
        peak = (z * kind.phi_other).max(0)
        tilt = np.exp(z * kind.phi_other - peak)
        on_others = shown + everyone[1] + peak + np.log(self.moment(0, tilt))
        unseen = [hidden + each for each in everyone]
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
            share_other=np.exp(shown + self.log_local + to_other + peak - shift) * scale,
            share_key=np.exp(-self.log_patches - shift) * scale,
            left=left if kind.local else np.ones_like(z[:1, None]),
            to_own=np.exp(on_own - shift)[None, :] * scale[:, None] * left
            if kind.local
            else share_global[:, None],
            rest=left if kind.local else (from_rest * scale)[:, None],
            tilt=tilt,
        )

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
