"""The −gradient of the mean field as a function of the order parameters, of one run or of many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from vitdyn.lumped.attention import Kind, MeanAttention, Number, Queries, Row, Rows, State, along
from vitdyn.lumped.quadrature import Quadrature, quadrature

if TYPE_CHECKING:
    from vitdyn.lumped.mean_field import MeanField

_OF_ALL = ("position_correlations", "contrast_alone")
"""What runs that go together share."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RightHandSide(MeanAttention):
    """−∂L/∂(order parameters), for masked reconstruction, contrast and their mixture.

    Called with a state it returns the drift, of one run (``of``) or of many at once (``together``). All formulas are
    those of ``gradients.md`` with sums replaced as ``MeanField`` says.
    """

    contrast_alone: bool
    temperature: Number
    decay: Number
    weight: Number
    reconstruction_scale: Number
    clusters: Number
    negatives: Number

    @classmethod
    def of(cls, spec: MeanField) -> RightHandSide:
        """Return that of one run."""
        sizes, reduction = spec.sizes, spec.reduction
        hidden = float(spec.objective.masking().ratio)
        return cls(
            rule=quadrature(spec.latents, spec.nodes),
            hidden=hidden,
            patches=sizes.patches,
            global_size=sizes.global_size,
            local_size=sizes.local_size,
            local_areas=sizes.local_areas,
            contrast_alone=reduction.all_queries,
            temperature=float(reduction.temperature),
            decay=float(spec.objective.weight_decay),
            weight=spec.weight,
            # The mixture takes the mean over masked patches of the reconstruction error, masked reconstruction its sum.
            reconstruction_scale=1 / (hidden * sizes.patches) if reduction.per_masked_patch else 1.0,
            clusters=float(spec.clusters),
            negatives=float(spec.negatives),
            position_correlations=spec.position_correlations,
        )

    @classmethod
    def together(cls, cells: Sequence[MeanField]) -> RightHandSide:
        """Return that of many runs, which have the same parameters and the same number of nodes."""
        parts = [spec.right_hand_side for spec in cells]
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

    @classmethod
    def _numbers(cls) -> list[str]:
        """Return the names of what is a number for each run."""
        return [each.name for each in fields(cls) if each.name not in ("rule", *_OF_ALL)]

    def __call__(self, state: State) -> State:
        """Return the drift at a state."""
        return self.drift(state, self.rows(state))

    def rows(self, state: State) -> Queries:
        """Return the rows of attention that the objective asks for."""
        return Queries(
            hidden=None if self.contrast_alone else self.rows_of(state, hidden=True),
            every=self.rows_of(state, hidden=False) if self._contrasts else None,
        )

    def drift(self, state: State, queries: Queries) -> State:
        """Return the drift at a state whose rows of attention are known."""
        total = np.zeros(state.shape)
        if self._reconstructs:
            assert queries.hidden is not None
            total += (1 - self.weight) * self.reconstruction_scale * self._reconstruction(queries.hidden)
        if self._contrasts:
            assert queries.every is not None
            total += self.weight * self._contrast(queries.every)
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

    def apart(self, count: int) -> list[tuple[np.ndarray, list[np.ndarray]]]:
        """Return order parameters that may be moved at once, and which drifts each of them changes.

        Without contrast the two kinds of query do not see each other.
        """
        every = np.arange(count)
        if self._contrasts:
            return [(every[entry : entry + 1], [every]) for entry in range(count)]
        local, central = every[every % 5 < 3], every[every % 5 > 2]
        pairs = zip(local, central, strict=False)
        found = [(np.array(pair), [local, central]) for pair in pairs]
        return found + [(local[entry : entry + 1], [local]) for entry in range(len(central), len(local))]

    def watched(self, queries: Queries) -> Number:
        """Return the attention that the run is about, in the kind of query that has least of it.

        Own-area attention for masked reconstruction, attention to the global area for contrast, the larger of
        the two for a mixture: which of them takes over is its question.
        """
        (_, local), (_, central) = queries.counted
        home = self.mean(central.to_global)
        to_own = np.minimum(self.mean(local.to_own), home)
        to_global = np.minimum(self.mean(local.to_global), home)
        larger = np.maximum(to_own, to_global)
        return np.where(
            np.equal(self.weight, 1), to_global, np.where(np.equal(self.weight, 0), to_own, larger)
        )

    def _reconstruction(self, rows: Rows) -> State:
        """Return γ/K E[z_j A_j (g_j − ḡ)] for Φ and γ/K E[attn (u g − ḡ)] for Υ."""
        square = self.rule.nodes**2
        drifts = []
        seen: Number
        for kind, row in rows:
            # Σ_o z_o² A_o², per left²
            spread = kind.others * row.share_other**2 * self.moment(2, row.tilt**2)
            if kind.local:
                left_square = row.left**2
                held = left_square * row.to_own
                seen = self.over_own(left_square)
                level = square * row.share_global**2 + spread
                mean_push = self.over_own(held, 2) - level * self.over_own(left_square * row.left)
                to_global = -square * row.share_global * seen - mean_push
                to_own = [
                    self.moment(0, self.over_own(held, power + 2) + level * self.over_own(held, power))
                    for power in self._needed
                ]
            else:
                rest, seen, to_own = row.rest[:, 0], 1.0, [0.0, 0.0]
                mean_push = square * row.share_global * rest - spread
                to_global = square * rest**2 + spread
            to_other = [
                -row.share_other * seen * self.moment(power + 2, row.tilt**2) for power in self._needed
            ]
            drifts.append(self._drift(kind, row, to_global, to_own, to_other, mean_push))
        return self.hidden / self.clusters * self._join(drifts)

    def _contrast(self, rows: Rows) -> State:
        """Return 1/(PK) E[z_j A_j (h_j − h̄)] for Φ and its like for Υ."""
        z, weights = self.rule
        pull_global, pull_local = self.similarity_pull(rows)
        drifts = []
        for kind, row in rows:
            raised = weights * row.tilt
            weighted = [along(pull_local, raised * z if power else raised) for power in (1, 0)]
            through = row.share_global * pull_global + kind.others * row.share_other * weighted[1]
            seen = self.over_own(row.left)
            mean_pull = self.over_own(row.left**2) * through
            to_own: list[Number] = [0.0, 0.0]
            if kind.local:
                held = row.left * row.to_own
                pulled = held * pull_local
                mean_pull = mean_pull + self.over_own(pulled)
                to_own = [
                    self.moment(0, self.over_own(pulled, power) - through * self.over_own(held, power))
                    for power in self._needed
                ]
            to_other = [seen * each for each in weighted]
            drifts.append(self._drift(kind, row, pull_global * seen - mean_pull, to_own, to_other, mean_pull))
        return np.exp(-self.log_patches) / self.clusters * self._join(drifts)

    @property
    def _needed(self) -> tuple[int, ...]:
        """Powers of z in the drifts: 1 for Φ, 0 for Υ."""
        return (1, 0) if self.position_correlations else (1,)

    def pooled(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates z_j Ā_j of the pooled output: global (z_1), and of a local area (z_1, z_j)."""
        z = self.rule.nodes
        (_, local_row), (_, central_row) = rows
        share, seen = self.share_global, self.over_own(local_row.left)
        on_global = share * central_row.share_global + (1 - share) * local_row.share_global * seen
        elsewhere = (1 - share - self.share_local) * local_row.share_other * seen
        on_local = self.share_local * local_row.to_own + elsewhere[:, None] * local_row.tilt
        on_local += (share * central_row.share_other)[:, None] * central_row.tilt
        return z * on_global, z * on_local

    def similarity_pull(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return h_1(z_1) and h_j(z_1, z_j)."""
        z, _ = self.rule
        on_global, on_local = self.pooled(rows)
        away, repel_global, repel_local, _ = self.repulsion(on_global, on_local)
        scale = z / self.temperature
        return (
            scale * (away * on_global - repel_global),
            scale * (away[:, None] * on_local - repel_local[:, None]),
        )

    def repulsion(self, on_global: np.ndarray, on_local: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return 1 − π_+, the repelling means along the global and a local feature, and −log π_+; axis z_1."""
        weights, clusters = self.rule.weights, self.clusters
        typical = self.over_own(on_local)
        agree = on_global**2 + self.local_areas * self.over_own(on_local**2)
        cross = on_global[:, None] * on_global + self.local_areas * typical[:, None] * typical
        peak = agree.max(0) / self.temperature  # no cross is larger (Cauchy-Schwarz), and it is not negative
        positive = np.exp(agree / self.temperature - peak)
        same = self.negatives / clusters * weights * np.exp(cross / self.temperature - peak)
        negative = same.sum(1) + self.negatives * (1 - 1 / clusters) * np.exp(-peak)
        total = positive + negative
        repel_global, repel_local = along(same, on_global), along(same, typical)
        return negative / total, repel_global / total, repel_local / total, np.log(total / positive)

    def _drift(
        self,
        kind: Kind,
        row: Row,
        to_global: np.ndarray,
        to_own: list[Number],
        to_other: list[np.ndarray],
        mean_push: np.ndarray,
    ) -> list[Number]:
        """Return the drifts of φ (global, own, other) and of Υ (the same).

        With E over z of the own area, ``to_global`` is E[left (G_1 − Ḡ)], ``mean_push`` E[left Ḡ] and ``to_other``,
        for the powers 1 and 0 of z, E[left z^power e^{zφ_o} G_o]; ``to_own`` is E[z^power A_a (G_a − Ḡ)], over both.
        """
        drift: list[Number] = []
        for power, own, other in zip(self._needed, to_own, to_other, strict=False):
            beyond = other - mean_push * self.moment(power, row.tilt)
            drift += [
                self.moment(power, row.share_global * to_global),
                own,
                self.moment(0, row.share_other * beyond) * (kind.others > 0),
            ]
        if self.position_correlations:
            unseen = (1 - kind.shown) * self.moment(0, row.share_key * mean_push)
            drift[3:] = [
                each / np.where(np.equal(size, 0), inf, size) - np.exp(up) * unseen
                for each, size, up in zip(drift[3:], kind.keys, kind.position, strict=True)
            ]
        return drift

    def _join(self, drifts: list[list[Number]]) -> State:
        local, central = drifts
        return np.array([*local[:3], central[0], central[2], *local[3:], *(central[3:4] + central[5:6])])
