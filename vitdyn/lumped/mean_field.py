"""The limit of many patches: visible counts at their means, other local areas by their law of large numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import log
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitdyn._errors import require_choice, require_integer, require_real, wrong
from vitdyn.data import AreaSizes, Law, Uniform
from vitdyn.lumped.quadrature import Quadrature, quadrature
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture, Objective

ORDER_PARAMETERS = ("local φ_1", "local φ_a", "local φ_o", "global φ_1", "global φ_o")
POSITION_PARAMETERS = ("local Υ_1", "local Υ_a", "local Υ_o", "global Υ_1", "global Υ_o")

State = Float[np.ndarray, " parameter"]
"""The order parameters, Φ first, then (with position correlations) Υ, in the order of the two tuples above."""


@dataclass(frozen=True, kw_only=True)
class MeanField:
    """A training run in the limit of many patches, as an ordinary differential equation for order parameters.

    By symmetry a local query needs φ_1 (to the global area), φ_a (to its own), φ_o (to another local area), a
    global query φ_1 and φ_o. Visible counts are replaced by their means (1 − γ)C_j, sums over the other local
    areas by their number times the expectation over z, and the ``negatives`` of contrast by their mean: a
    share 1/K of them comes from the own cluster. What is neglected is of relative order C_s^{−1/2} (counts)
    and smaller. With ``position_correlations`` (one cluster only) Υ to the global, own and other areas moves
    too; Υ_self, a share 1/P of a row, is left out.

    The flow ends where the attention that the objective is about reaches ``until`` (None: where nothing moves
    any more); ``learning_rate`` asks for plain gradient descent with a finite step instead. ``nodes`` is
    the number of quadrature nodes for each latent, ``frames`` how many moments are recorded. Source: our notes,
    ``mean_field.md``.
    """

    sizes: AreaSizes
    objective: Objective = field(default_factory=MaskedReconstruction)
    latents: Law = field(default_factory=Uniform)
    clusters: int = 1
    negatives: int = 64
    position_correlations: bool = False
    until: float | None = 0.99
    learning_rate: float | None = None
    steps: int = 10_000
    nodes: int = 24
    frames: int = 96

    def __post_init__(self) -> None:
        if not isinstance(self.sizes, AreaSizes):
            raise wrong("sizes", self.sizes, "must be AreaSizes")
        require_choice("objective", getattr(self.objective, "name", self.objective), ("mae", "cl", "mixture"))
        require_integer("clusters", self.clusters, at_least=1)
        require_integer("negatives", self.negatives, at_least=1)
        require_integer("nodes", self.nodes, at_least=2)
        require_integer("frames", self.frames, at_least=2)
        require_integer("steps", self.steps, at_least=1)
        if self.until is not None:
            require_real("until", self.until, low=0.0, high=1.0, open_low=True, open_high=True)
        if self.learning_rate is not None:
            require_real("learning_rate", self.learning_rate, low=0.0, high=1e300, open_low=True)
        if self.position_correlations and self.clusters > 1:
            raise wrong(
                "position_correlations",
                True,
                "Υ is shared by the clusters, whose partitions differ: take clusters=1",
            )
        quadrature(self.latents, self.nodes)

    @property
    def weight(self) -> float:
        """λ, the share of contrast: 0 for masked reconstruction, 1 for contrast."""
        return (
            self.objective.weight
            if isinstance(self.objective, Mixture)
            else float(isinstance(self.objective, Contrastive))
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the entries of a state."""
        return ORDER_PARAMETERS + (POSITION_PARAMETERS if self.position_correlations else ())

    @cached_property
    def right_hand_side(self) -> RightHandSide:
        """The −gradient of the objective as a function of the state."""
        return RightHandSide(self)


class Row(NamedTuple):
    """Attention of one kind of query; axes (z of the global area, z of the query's own area).

    ``other`` is A_o without its factor ``tilt`` = e^{zφ_o}, which is scaled to 1 at its largest; ``rest`` is
    1 − A_own, free of cancellation; ``key`` is e^{−Υ} times the attention on one hidden key, 1/(PZ).
    """

    to_global: np.ndarray
    to_own: np.ndarray
    other: np.ndarray
    rest: np.ndarray
    key: np.ndarray
    tilt: Float[np.ndarray, " node"]


class Kind(NamedTuple):
    """One kind of query: its correlations and the number of other local areas."""

    phi_global: float
    phi_own: float
    phi_other: float
    position: tuple[float, float, float]
    others: float
    local: bool


class RightHandSide:
    """−∂L/∂(order parameters), for masked reconstruction, contrast and their mixture.

    Called with a state it returns the drift. All formulas are those of ``gradients.md`` with sums replaced as
    ``MeanField`` says; sizes enter through logarithms and every exponential after subtracting the row's maximum.
    """

    def __init__(self, spec: MeanField) -> None:
        sizes, objective = spec.sizes, spec.objective
        self.spec = spec
        self.rule: Quadrature = quadrature(spec.latents, spec.nodes)
        self.hidden = float(objective.mask_ratio)  # type: ignore[attr-defined]
        self.log_patches = log(sizes.patches)
        self.log_global = log(sizes.global_size) - self.log_patches
        self.log_local = log(sizes.local_size) - self.log_patches
        self.local_areas = sizes.local_areas
        self.share_global = sizes.global_size / sizes.patches
        self.share_local = sizes.local_size / sizes.patches
        self.temperature = float(getattr(objective, "temperature", 1.0))
        self.decay = float(objective.weight_decay)
        # The mixture takes the mean over masked patches of the reconstruction error, masked reconstruction its sum.
        masked = self.hidden * sizes.patches
        self.reconstruction_scale = 1 / masked if isinstance(objective, Mixture) else 1.0

    def __call__(self, state: State) -> State:
        """Return the drift at a state."""
        rows = self.rows(state)
        total = np.zeros(len(self.spec.parameters))
        weight = self.spec.weight
        if weight < 1:
            total += (1 - weight) * self.reconstruction_scale * self._reconstruction(rows)
        if weight > 0:
            total += weight * self._contrast(rows)
        return total - self.decay * state if self.decay else total

    def kinds(self, state: State) -> tuple[Kind, Kind]:
        """Return the local and the global query of a state."""
        position = state[5:] if self.spec.position_correlations else np.zeros(5)
        local = Kind(
            state[0], state[1], state[2], (position[0], position[1], position[2]), self.local_areas - 1, True
        )
        central = Kind(state[3], 0.0, state[4], (position[3], 0.0, position[4]), self.local_areas, False)
        return local, central

    def rows(self, state: State) -> tuple[tuple[Kind, Row], tuple[Kind, Row]]:
        """Return both kinds of query with their attention."""
        local, central = self.kinds(state)
        return (local, self._row(local)), (central, self._row(central))

    def _row(self, kind: Kind) -> Row:
        z, weights = self.rule
        shown, hidden = log(1 - self.hidden), log(self.hidden)
        to_global, to_own, to_other = kind.position
        log_others = self.log_local + (log(kind.others) if kind.others > 0 else -np.inf)
        on_global = shown + self.log_global + to_global + z * kind.phi_global
        on_own = shown + self.log_local + to_own + z * kind.phi_own if kind.local else np.full(1, -np.inf)
        peak = (z * kind.phi_other).max()
        tilt = np.exp(z * kind.phi_other - peak)
        on_others = shown + log_others + to_other + peak + log(weights @ tilt)
        unseen = hidden + np.array(
            [
                self.log_global + to_global,
                self.log_local + to_own if kind.local else -np.inf,
                log_others + to_other,
            ]
        )
        shift = max(on_global.max(), on_own.max(), on_others, unseen.max())
        from_global = np.exp(on_global - shift)[:, None]
        from_own = np.exp(on_own - shift)[None, :]
        from_rest = np.exp(on_others - shift) + np.exp(unseen - shift).sum()
        normaliser = from_global + from_own + from_rest
        return Row(
            to_global=from_global / normaliser,
            to_own=from_own / normaliser if kind.local else from_global / normaliser,
            other=np.exp(shown + self.log_local + to_other + peak - shift) / normaliser,
            rest=((from_global if kind.local else from_own) + from_rest) / normaliser,
            key=np.exp(-self.log_patches - shift) / normaliser,
            tilt=tilt,
        )

    def moment(self, power: int, factor: Float[np.ndarray, " node"]) -> float:
        """Return E z^power factor(z)."""
        z, weights = self.rule
        return float(weights @ (z**power * factor))

    def mean(self, values: np.ndarray) -> float:
        """Return the expectation over z of the global and of the own area."""
        weights = self.rule.weights
        over_own = values @ weights if values.shape[1] == len(weights) else values[:, 0]
        return float(weights @ over_own) if len(over_own) == len(weights) else float(over_own[0])

    def _reconstruction(self, rows: tuple[tuple[Kind, Row], ...]) -> State:
        """Return γ/K E[z_j A_j (g_j − ḡ)] for Φ and γ/K E[attn (u g − ḡ)] for Υ."""
        z = self.rule.nodes
        drifts = []
        for kind, row in rows:
            strength = z[:, None]
            spread = kind.others * row.other**2 * self.moment(2, row.tilt**2)  # Σ_o z_o² A_o²
            if kind.local:
                own = z[None, :]
                wrong_push = -(strength**2) * row.to_global
                mean_push = own**2 * row.to_own * row.rest - strength**2 * row.to_global**2 - spread
                own_push = own**2 * row.rest**2 + strength**2 * row.to_global**2 + spread
                pushes = ((wrong_push - mean_push, own_push), (strength, own))
            else:
                mean_push = strength**2 * row.to_own * row.rest - spread
                own_push = strength**2 * row.rest**2 + spread
                pushes = ((own_push, own_push), (strength, strength))
            own_of_other = lambda power, row=row: -row.other * self.moment(power, row.tilt**2)  # noqa: E731
            drifts.append(self._drift(kind, row, pushes, mean_push, own_of_other))
        return self.hidden / self.spec.clusters * self._join(drifts)

    def _contrast(self, rows: tuple[tuple[Kind, Row], ...]) -> State:
        """Return 1/(PK) E[z_j A_j (h_j − h̄)] for Φ and its like for Υ."""
        z, weights = self.rule
        pull_global, pull_local = self.similarity_pull(rows)
        drifts = []
        for kind, row in rows:
            raised = weights * row.tilt
            weighted = [
                (pull_local * (raised * z**power)).sum(1)[:, None] for power in (0, 1)
            ]  # E_z [z^i e^{zφ_o} h]
            mean_pull = row.to_global * pull_global[:, None] + kind.others * row.other * weighted[0]
            if kind.local:
                mean_pull = mean_pull + row.to_own * pull_local
                pushes = (
                    (pull_global[:, None] - mean_pull, pull_local - mean_pull),
                    (z[:, None], z[None, :]),
                )
            else:
                pushes = ((pull_global[:, None] - mean_pull,) * 2, (z[:, None],) * 2)
            drifts.append(
                self._drift(
                    kind, row, pushes, mean_pull, lambda power, weighted=weighted: weighted[power - 2]
                )
            )
        return np.exp(-self.log_patches) / self.spec.clusters * self._join(drifts)

    def pooled(self, rows: tuple[tuple[Kind, Row], ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates z_j Ā_j of the pooled output: global (z_1), and of a local area (z_1, z_j)."""
        z = self.rule.nodes
        (_, local_row), (_, central_row) = rows
        share = self.share_global
        on_global = share * central_row.to_global[:, 0] + (1 - share) * self._over_own(local_row.to_global)
        elsewhere = (1 - share - self.share_local) * self._over_own(local_row.other)[:, None] * local_row.tilt
        central_part = share * central_row.other * central_row.tilt
        on_local = self.share_local * local_row.to_own + elsewhere + central_part
        return z * on_global, z * on_local

    def similarity_pull(self, rows: tuple[tuple[Kind, Row], ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return h_1(z_1) and h_j(z_1, z_j)."""
        z, _ = self.rule
        on_global, on_local = self.pooled(rows)
        away, repel_global, repel_local, _ = self._negatives(on_global, on_local)
        scale = z / self.temperature
        return (
            scale * (away * on_global - repel_global),
            scale * (away[:, None] * on_local - repel_local[:, None]),
        )

    def _negatives(self, on_global: np.ndarray, on_local: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return 1 − π_+, the repelling means along the global and a local feature, and −log π_+; axis z_1."""
        weights, clusters = self.rule.weights, self.spec.clusters
        typical = on_local @ weights
        agree = on_global**2 + self.local_areas * (on_local**2 @ weights)
        cross = on_global[:, None] * on_global + self.local_areas * typical[:, None] * typical
        peak = max(agree.max(), cross.max(), 0.0) / self.temperature
        positive = np.exp(agree / self.temperature - peak)
        same = self.spec.negatives / clusters * weights * np.exp(cross / self.temperature - peak)
        negative = same.sum(1) + self.spec.negatives * (1 - 1 / clusters) * np.exp(-peak)
        total = positive + negative
        return negative / total, same @ on_global / total, same @ typical / total, np.log(total / positive)

    def _drift(self, kind, row, pushes, mean_push, of_other) -> list[float]:  # type: ignore[no-untyped-def]
        """Return the drifts of φ (global, own, other) and of Υ (the same), from G_j − Ḡ and its factors.

        ``of_other(power)`` is E_z of z^{power − 2} e^{zφ_o} G_o(z), a function of the row's own latents.
        """
        (to_global, to_own), (z_global, z_own) = pushes
        tilt = self.moment(1, row.tilt)
        drift = [
            self.mean(z_global * row.to_global * to_global),
            self.mean(z_own * row.to_own * to_own) if kind.local else 0.0,
            self.mean(row.other * (of_other(3) - mean_push * tilt)) if kind.others > 0 else 0.0,
        ]
        if not self.spec.position_correlations:
            return drift
        unseen = self.hidden * self.mean(row.key * mean_push)
        sizes = self.spec.sizes
        up_global, up_own, up_other = np.exp(kind.position)
        tilt = self.moment(0, row.tilt)
        return [
            *drift,
            self.mean(row.to_global * to_global) / sizes.global_size - up_global * unseen,
            self.mean(row.to_own * to_own) / sizes.local_size - up_own * unseen if kind.local else 0.0,
            self.mean(row.other * (of_other(2) - mean_push * tilt)) / sizes.local_size - up_other * unseen,
        ]

    def _join(self, drifts: list[list[float]]) -> State:
        local, central = drifts
        return np.array([*local[:3], central[0], central[2], *local[3:], *(central[3:4] + central[5:6])])

    def _over_own(self, values: np.ndarray) -> np.ndarray:
        weights = self.rule.weights
        return values @ weights if values.shape[1] == len(weights) else values[:, 0]
