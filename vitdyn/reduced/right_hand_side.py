"""The −gradient of the mean field as a function of the order parameters, of one run or of many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import inf
from typing import Any

import numpy as np

from vitdyn.reduced.attention import AttentionRow, MeanAttention, Number, Query, QueryRows, Rows, State, along
from vitdyn.reduced.quadrature import Quadrature

_OF_ALL = ("position_correlations", "contrast_alone")
"""What runs that go together share."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RightHandSide(MeanAttention):
    """−∂L/∂(order parameters), for masked reconstruction, contrast and their mixture.

    Called with a state it returns the drift, of one run or of many at once (``together``). All formulas are
    those of ``gradients.md`` with sums replaced as ``MeanField`` says; the losses of ``objectives`` are sums over the
    samples of a batch, of which nothing is left here, so that their closed forms cannot serve.
    """

    contrast_alone: bool
    temperature: Number
    decay: Number
    weight: Number
    reconstruction_scale: Number
    clusters: Number
    negatives: Number

    @classmethod
    def together(cls, parts: Sequence[RightHandSide]) -> RightHandSide:
        """Return that of many runs, which have the same parameters and the same number of nodes."""
        joined: dict[str, Any] = {
            name: np.array([getattr(part, name) for part in parts]) for name in cls._numbers()
        }
        rule = Quadrature(
            *(np.stack(arrays, -1) for arrays in zip(*(part.rule for part in parts), strict=True))
        )
        shared = {name: getattr(parts[0], name) for name in _OF_ALL}
        return cls(rule=rule, **joined, **shared)

    def take(self, chosen: np.ndarray | slice) -> RightHandSide:
        """Return that of some of the runs."""
        numbers: dict[str, Any] = {name: getattr(self, name)[chosen] for name in self._numbers()}
        return replace(self, rule=Quadrature(*(array[:, chosen] for array in self.rule)), **numbers)

    @cached_property
    def _repeats(self) -> dict[int, RightHandSide]:
        return {}

    def repeated(self, times: int) -> RightHandSide:
        """Return that of all runs, so many times one after the other."""
        if times not in self._repeats:
            self._repeats[times] = self.take(np.tile(np.arange(len(np.atleast_1d(self.patches))), times))
        return self._repeats[times]

    @classmethod
    def _numbers(cls) -> list[str]:
        """Return the names of what is a number for each run."""
        return [each.name for each in fields(cls) if each.name not in ("rule", *_OF_ALL)]

    def __call__(self, state: State) -> State:
        """Return the drift at a state."""
        return self.drift(state, self.rows(state))

    def rows(self, state: State) -> QueryRows:
        """Return the rows of attention that the objective asks for."""
        return QueryRows(
            masked=None if self.contrast_alone else self.rows_of(state, masked=True),
            pooled=self.rows_of(state, masked=False) if self._contrasts else None,
        )

    def drift(self, state: State, rows: QueryRows) -> State:
        """Return the drift at a state whose rows of attention are known."""
        total = np.zeros(state.shape)
        if self._reconstructs:
            assert rows.masked is not None
            total += (1 - self.weight) * self.reconstruction_scale * self._reconstruction(rows.masked)
        if self._contrasts:
            assert rows.pooled is not None
            total += self.weight * self._contrast(rows.pooled)
        return total - self.decay * state if self._decays else total

    @cached_property
    def share_global(self) -> Number:
        """C_1/P."""
        return self.global_size / self.patches

    @cached_property
    def share_local(self) -> Number:
        """C_s/P."""
        return self.local_size / self.patches

    @cached_property
    def _reconstructs(self) -> bool:
        return bool(np.any(np.less(self.weight, 1)))

    @cached_property
    def _contrasts(self) -> bool:
        return bool(np.any(np.greater(self.weight, 0)))

    @cached_property
    def _decays(self) -> bool:
        return bool(np.any(self.decay))

    def jacobian_colouring(self, count: int) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """Return groups of order parameters that may be moved at once, and which drifts each of them changes.

        Without contrast the two kinds of query do not see each other, so that one of each may move together.
        """
        every = np.arange(count)
        if self._contrasts:
            return [(every[entry : entry + 1], [every]) for entry in range(count)]
        local, of_global = every[every % 5 < 3], every[every % 5 > 2]
        found = [(np.array(pair), [local, of_global]) for pair in zip(local, of_global, strict=False)]
        return found + [(local[entry : entry + 1], [local]) for entry in range(len(of_global), len(local))]

    def target_attention(self, rows: QueryRows) -> Number:
        """Return the attention that the run is about, in the kind of query that has least of it.

        Own-area attention for masked reconstruction, attention to the global area for contrast, the larger of
        the two for a mixture: which of them takes over is its question.
        """
        (_, local), (_, global_query) = rows.loss_queries
        of_global = self.mean(global_query.to_global)
        # The kind of query that is behind decides.
        to_own = np.minimum(self.mean(local.to_own), of_global)
        to_global = np.minimum(self.mean(local.to_global), of_global)
        larger = np.maximum(to_own, to_global)
        return np.where(
            np.equal(self.weight, 1), to_global, np.where(np.equal(self.weight, 0), to_own, larger)
        )

    def _reconstruction(self, rows: Rows) -> State:
        """Return γ/K E[z_j A_j (G_j − Ḡ)] for Φ and γ/K E[attn (u G − Ḡ)] for Υ, with G of a masked query."""
        square = self.rule.nodes**2
        drifts = []
        kept: Number
        for query, row in rows:
            # Σ_o z_o² A_o² over (1 − A_own)²: the other areas enter only through this sum.
            spread = query.others * row.share_other**2 * self.moment(2, row.boost**2)
            if query.local:
                kept_square = row.one_minus_own**2
                own = kept_square * row.to_own
                kept = self.over_own(kept_square)
                level = square * row.share_global**2 + spread
                own_pull, cube = self.over_own(own, 2), self.over_own(kept_square * row.one_minus_own)
                mean = own_pull - level * cube
                # −z²A_g E[r²] − mean, where 1 − A_g r is a sum: the difference is lost where A_g is nearly 1.
                from_global = row.share_rest * kept + row.share_global * self.over_own(own)
                to_global = spread * cube - square * row.share_global * from_global - own_pull
                to_own = [
                    self.moment(0, self.over_own(own, power + 2) + level * self.over_own(own, power))
                    for power in self._powers_of_z
                ]
            else:
                error, kept, to_own = row.complement[:, 0], 1.0, [0.0, 0.0]
                mean = square * row.share_global * error - spread
                to_global = square * error**2 + spread
            to_other = [
                -row.share_other * kept * self.moment(power + 2, row.boost**2) for power in self._powers_of_z
            ]
            drifts.append(self._drift(query, row, to_global, to_own, to_other, mean))
        return self.mask_ratio / self.clusters * self._join(drifts)

    def _contrast(self, rows: Rows) -> State:
        """Return 1/(PK) E[z_j A_j (h_j − h̄)] for Φ and its like for Υ."""
        z, weights = self.rule
        h_global, h_local = self.similarity_gradient(rows)
        drifts = []
        for query, row in rows:
            raised = weights * row.boost
            to_others = [along(h_local, raised * z if power else raised) for power in (1, 0)]
            # Σ A_j h_j over all areas but the own one, still without the factor 1 − A_own.
            through = row.share_global * h_global + query.others * row.share_other * to_others[1]
            kept = self.over_own(row.one_minus_own)
            mean = self.over_own(row.one_minus_own**2) * through
            to_own: list[Number] = [0.0, 0.0]
            if query.local:
                own = row.one_minus_own * row.to_own
                weighted = own * h_local
                mean = mean + self.over_own(weighted)
                to_own = [
                    self.moment(0, self.over_own(weighted, power) - through * self.over_own(own, power))
                    for power in self._powers_of_z
                ]
            to_other = [kept * each for each in to_others]
            drifts.append(self._drift(query, row, h_global * kept - mean, to_own, to_other, mean))
        return np.exp(-self.log_patches) / self.clusters * self._join(drifts)

    @property
    def _powers_of_z(self) -> tuple[int, ...]:
        """Powers of z in the drifts: 1 for Φ, 0 for Υ."""
        return (1, 0) if self.position_correlations else (1,)

    def pooled(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates z_j Ā_j of the pooled output: global (z_1), and of a local area (z_1, z_j)."""
        z = self.rule.nodes
        (_, local), (_, global_query) = rows
        share, kept = self.share_global, self.over_own(local.one_minus_own)
        on_global = share * global_query.share_global + (1 - share) * local.share_global * kept
        elsewhere = (1 - share - self.share_local) * local.share_other * kept
        on_local = self.share_local * local.to_own + elsewhere[:, None] * local.boost
        on_local += (share * global_query.share_other)[:, None] * global_query.boost
        return z * on_global, z * on_local

    def similarity_gradient(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return h_1(z_1) and h_j(z_1, z_j)."""
        z, _ = self.rule
        on_global, on_local = self.pooled(rows)
        missing, repel_global, repel_local, _ = self.negatives_softmax(on_global, on_local)
        scale = z / self.temperature
        return (
            scale * (missing * on_global - repel_global),
            scale * (missing[:, None] * on_local - repel_local[:, None]),
        )

    def negatives_softmax(self, on_global: np.ndarray, on_local: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return 1 − π_+, the repelling means along the global and a local feature, and −log π_+; axis z_1."""
        weights, clusters = self.rule.weights, self.clusters
        # A negative has local latents of its own, of which only the mean meets the anchor's.
        typical = self.over_own(on_local)
        agree = on_global**2 + self.local_areas * self.over_own(on_local**2)
        cross = on_global[:, None] * on_global + self.local_areas * typical[:, None] * typical
        peak = agree.max(0) / self.temperature  # no cross is larger (Cauchy-Schwarz), and it is not negative
        positive = np.exp(agree / self.temperature - peak)
        # A share 1/K of the negatives is of the anchor's cluster; the similarity of the others is 0.
        same = self.negatives / clusters * weights * np.exp(cross / self.temperature - peak)
        negative = same.sum(1) + self.negatives * (1 - 1 / clusters) * np.exp(-peak)
        total = positive + negative
        repel_global, repel_local = along(same, on_global), along(same, typical)
        return negative / total, repel_global / total, repel_local / total, np.log(total / positive)

    def _drift(
        self,
        query: Query,
        row: AttentionRow,
        to_global: np.ndarray,
        to_own: list[Number],
        to_other: list[np.ndarray],
        mean: np.ndarray,
    ) -> list[Number]:
        """Return the drifts of φ (global, own, other) and of Υ (the same).

        With E over z of the own area and r = 1 − A_own, ``to_global`` is E[r (G_1 − Ḡ)], ``mean`` E[r Ḡ] and
        ``to_other``, for the powers 1 and 0 of z, E[r z^power e^{zφ_o} G_o]; ``to_own`` is E[z^power A_a (G_a − Ḡ)],
        over both latents.
        """
        drift: list[Number] = []
        for power, own, other in zip(self._powers_of_z, to_own, to_other, strict=False):
            above_mean = other - mean * self.moment(power, row.boost)
            drift += [
                self.moment(power, row.share_global * to_global),
                own,
                self.moment(0, row.share_other * above_mean) * (query.others > 0),
            ]
        if self.position_correlations:
            # Υ belongs to one key: a part of its area's drift, less what the key receives in samples that
            # mask it.
            masked = (1 - query.visible) * self.moment(0, row.share_key * mean)
            drift[3:] = [
                each / np.where(np.equal(size, 0), inf, size) - np.exp(up) * masked
                for each, size, up in zip(drift[3:], query.keys, query.upsilon, strict=True)
            ]
        return drift

    def _join(self, drifts: list[list[Number]]) -> State:
        """Return the drifts of both kinds of query in the order of the state."""
        # A global query has no local area of its own: that entry of its drifts is left out.
        local, of_global = drifts
        return np.array(
            [*local[:3], of_global[0], of_global[2], *local[3:], *(of_global[3:4] + of_global[5:6])]
        )
