"""Attention of the mean field as a function of the order parameters, of one run or of many at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitdyn.reduced.quadrature import Quadrature

ORDER_PARAMETERS = ("local φ_1", "local φ_a", "local φ_o", "global φ_1", "global φ_o")
POSITION_PARAMETERS = ("local Υ_1", "local Υ_a", "local Υ_o", "global Υ_1", "global Υ_o")

State = Float[np.ndarray, "parameter ..."]
"""The order parameters, Φ first, then (with position correlations) Υ, in the order of the two tuples above."""

Number = Float[np.ndarray, "..."] | float
"""One number for a run, or one for each of many."""


class AttentionRow(NamedTuple):
    """Attention of one kind of query; axes (z of the global area, z of the query's own area), then that of runs.

    ``one_minus_own`` is what the own local area leaves to the others, 1 for a global query. Of that, shares go to the
    global area, to another local one (without its factor ``boost`` = e^{zφ_o}, which is scaled to 1 at its largest)
    and to one masked key (without its factor e^{Υ}); they do not depend on z of the own area. ``complement`` is
    1 − A_own for either kind of query, and ``share_rest`` is 1 − ``share_global``: sums of the other terms, and so free
    of cancellation.
    """

    share_global: Float[np.ndarray, "node ..."]
    share_rest: Float[np.ndarray, "node ..."]
    share_other: Float[np.ndarray, "node ..."]
    share_key: Float[np.ndarray, "node ..."]
    one_minus_own: np.ndarray
    to_own: np.ndarray
    complement: np.ndarray
    boost: Float[np.ndarray, "node ..."]

    @property
    def to_global(self) -> np.ndarray:
        """A_1."""
        return self.share_global[:, None] * self.one_minus_own

    @property
    def to_other(self) -> np.ndarray:
        """A_o without its factor ``boost``."""
        return self.share_other[:, None] * self.one_minus_own


class Query(NamedTuple):
    """One kind of query: its correlations, the keys that it finds on average, and the number of other local areas.

    Triples are of the global, of its own and of another local area. ``keys`` counts all of them, or, where the query is
    masked, those beside itself. ``visible`` is the share of them that is visible.
    """

    phi: tuple[Number, Number, Number]
    upsilon: tuple[Number, Number, Number]
    keys: tuple[Number, Number, Number]
    others: Number
    visible: Number
    local: bool
    masked: bool


Rows = tuple[tuple[Query, AttentionRow], tuple[Query, AttentionRow]]
"""The local and the global query, with their attention."""


class QueryRows(NamedTuple):
    """Rows of masked queries, whose error reconstruction counts, and of all queries, over which contrast pools.

    None where the objective asks for no such rows.
    """

    masked: Rows | None
    pooled: Rows | None

    @property
    def loss_queries(self) -> Rows:
        """The rows that a record reads: masked queries, or all of them where the objective is contrast alone."""
        rows = self.masked or self.pooled
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
    mask_ratio: Number
    patches: Number
    global_size: Number
    local_size: Number
    local_areas: Number
    position_correlations: bool

    @cached_property
    def log_patches(self) -> Number:
        """The natural logarithm of P."""
        return np.log(self.patches)

    def queries(self, state: State, *, masked: bool) -> tuple[Query, Query]:
        """Return the local and the global query of a state, masked or averaged over its own visibility.

        In the mean over all queries of an area, its visible patches are (1 − γ)C. A masked query is none of them: the
        others, C − 1, are visible with probability (1 − γ)P/(P − 1).
        """
        upsilon = state[5:] if self.position_correlations else np.zeros(5)
        # Beside a masked query, all (1 − γ)P visible patches are among the other P − 1.
        visible = (1 - self.mask_ratio) * (self.patches / (self.patches - 1) if masked else 1.0)
        phi, up = (((each[0], each[1], each[2]), (each[3], 0.0, each[4])) for each in (state, upsilon))
        size_global, size = self.global_size, self.local_size
        keys = (size_global, size - masked, size), (size_global - masked, 0.0 * size, size)
        return (
            Query(phi[0], up[0], keys[0], self.local_areas - 1, visible, local=True, masked=masked),
            Query(phi[1], up[1], keys[1], self.local_areas, visible, local=False, masked=masked),
        )

    def rows_of(self, state: State, *, masked: bool) -> Rows:
        """Return both kinds of query with their attention."""
        local, global_query = self.queries(state, masked=masked)
        return (local, self._row(local)), (global_query, self._row(global_query))

    def _row(self, query: Query) -> AttentionRow:
        """Return the softmax over the keys of a query, with the own local area apart from the rest."""
        z, _ = self.rule
        (phi_global, phi_own, phi_other), (up_global, up_own, up_other) = query.phi, query.upsilon
        visible, masked, one_other = self._log_keys(query)
        on_global = visible[0] + up_global + z * phi_global
        # Scaled to 1 at its largest; the scale joins the other logarithms, so that no power of the boost overflows.
        peak = (z * phi_other).max(0)
        boost = np.exp(z * phi_other - peak)
        on_others = visible[2] + up_other + peak + np.log(self.moment(0, boost))
        on_masked = [keys + up for keys, up in zip(masked, query.upsilon, strict=True)]
        # One shift for the row, the largest logarithm of any kind of key at any node: no exponential exceeds 1.
        shift = on_global.max(0)
        for each in (on_others, *on_masked):
            shift = np.maximum(shift, each)
        if query.local:
            on_own = visible[1] + up_own + z * phi_own
            shift = np.maximum(shift, on_own.max(0))
        from_global = np.exp(on_global - shift)
        from_others = np.exp(on_others - shift) + sum(np.exp(each - shift) for each in on_masked)
        scale = 1 / (from_global + from_others)
        share_global = from_global * scale
        if query.local:
            # With x = own term/all others: A_own = x/(1 + x), and 1 − A_own = 1/(1 + x) without a difference.
            own_to_others = np.exp(on_own - shift)[None, :] * scale[:, None]
            one_minus_own = complement = 1 / (1 + own_to_others)
            to_own = own_to_others * one_minus_own
        else:
            # A global query's own area is the global one: what it lacks is what all other keys receive.
            one_minus_own, complement = np.ones_like(z[:1, None]), (from_others * scale)[:, None]
            to_own = share_global[:, None]
        return AttentionRow(
            share_global=share_global,
            share_rest=from_others * scale,
            share_other=np.exp(one_other + up_other + peak - shift) * scale,
            share_key=np.exp(-self.log_patches - shift) * scale,
            one_minus_own=one_minus_own,
            to_own=to_own,
            complement=complement,
            boost=boost,
        )

    def _log_keys(self, query: Query) -> tuple[list[Number], list[Number], Number]:
        """Return log(number/P) of visible and of masked keys: global, own, all others; and of one other's visible ones.

        Υ_self stands for one key of a row; it is taken for that of the query's area.
        """
        kind = query.local, query.masked
        if kind not in self._keys_by_kind:  # of no state: once for all steps
            self._keys_by_kind[kind] = self._count_keys(query)
        return self._keys_by_kind[kind]

    @cached_property
    def _keys_by_kind(self) -> dict[tuple[bool, bool], tuple[list[Number], list[Number], Number]]:
        return {}

    def _count_keys(self, query: Query) -> tuple[list[Number], list[Number], Number]:
        size_global, own, other = query.keys
        keys = np.array([size_global, own, other * query.others])
        # A masked query is for certain a masked key of its own area.
        itself = np.zeros_like(keys)
        itself[1 if query.local else 0] += query.masked
        with np.errstate(divide="ignore"):  # an area without keys: log 0 = −∞, no attention
            visible = np.log(keys * query.visible / self.patches)
            masked = np.log((keys * (1 - query.visible) + itself) / self.patches)
            return list(visible), list(masked), np.log(other * query.visible / self.patches)

    def attention(self, rows: Rows) -> State:
        """Return mean attention, in the order of ``ORDER_PARAMETERS``."""
        (_, local), (_, global_query) = rows
        to_others = [self.mean(row.to_other) * self.moment(0, row.boost) for _, row in rows]
        to_global, to_own = self.mean(local.to_global), self.mean(local.to_own)
        return np.array([to_global, to_own, to_others[0], self.mean(global_query.to_global), to_others[1]])

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
