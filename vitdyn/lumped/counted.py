"""The gradient of the order parameters on samples of which only the visible count of every cell is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vitdyn.lumped.symmetry import CellTables, OrderParameters, Symmetry
from vitdyn.objectives import Objective, require_reduction

_LARGEST = 2**22
"""Numbers in the largest working array; samples are taken in chunks below it."""


@dataclass(frozen=True)
class CountedBatch:
    """Samples of one seed, known up to the exchange of positions within a cell.

    ``cluster`` (sample); ``latents`` (sample, area); ``views``: the visible positions of each cell in each
    view, (sample, cell).
    """

    cluster: Int[np.ndarray, " sample"]
    latents: Float[np.ndarray, "sample area"]
    views: tuple[Int[np.ndarray, "sample cell"], ...]


class Attention(NamedTuple):
    """A_{p→j}, the attention of one visible key of area j over e^{Υ}, and the same of a hidden key."""

    areas: Float[np.ndarray, "sample query area"]
    visible: Float[np.ndarray, "sample query area"]
    hidden: Float[np.ndarray, "sample query"]


class Rows:
    """The rows of some query cells at a symmetric state of one seed, ready for attention and pull-back.

    All positions of a cell share their row up to themselves: a query in cell c sees e^{Υ_{cc'}} on the other
    positions and e^{Υ_self} on itself, and whether it is itself visible is the only thing in which the positions
    of a cell differ within a sample.
    """

    def __init__(self, symmetry: Symmetry, state: CellTables, queries: Int[np.ndarray, " query"]) -> None:
        self.symmetry, self.queries = symmetry, queries
        self.each = np.arange(len(queries))
        self.sizes = symmetry.cell_sizes
        self.feature = state.feature[queries]
        upsilon = np.where(symmetry.pair_table[queries] >= 0, state.pair[queries], -inf)
        highest = np.maximum(upsilon.max(1), state.self[queries])
        self.kernel = np.exp(upsilon - highest[:, None])
        self.beside = self.kernel[self.each, queries].copy()
        self.kernel[self.each, queries] = 0.0
        self.itself = np.exp(state.self[queries] - highest)

    def attend(self, cluster: int, latents: np.ndarray, visible: np.ndarray, shown: int) -> Attention:
        """Return the attention of queries that are themselves visible (``shown`` 1) or hidden (0), one cluster."""
        order, starts, areas = _segments(self.symmetry, cluster)
        hidden = self.sizes - visible
        own_visible = np.maximum(visible[:, self.queries] - shown, 0) * self.beside + shown * self.itself
        own_hidden = (
            np.maximum(hidden[:, self.queries] - (1 - shown), 0) * self.beside + (1 - shown) * self.itself
        )
        by_cell = visible[:, None, :] * self.kernel
        by_cell[:, self.each, self.queries] = own_visible
        masses = np.zeros((*by_cell.shape[:2], latents.shape[1]))
        masses[..., areas] = np.add.reduceat(by_cell[..., order], starts, axis=-1)
        rest = hidden @ self.kernel.T + own_hidden
        exponents = np.where(masses > 0, latents[:, None] * self.feature[:, cluster], -inf)
        shift = np.maximum(exponents.max(-1), np.where(rest > 0, 0.0, -inf))
        content = np.exp(exponents - shift[..., None])
        plain = np.where(rest > 0, np.exp(np.minimum(-shift, 700.0)), 0.0)
        weight = content * masses
        total = weight.sum(-1) + plain * rest
        return Attention(weight / total[..., None], content / total[..., None], plain / total)

    def pull(
        self,
        found: Attention,
        pulls: Float[np.ndarray, "sample query area"],
        weight: Float[np.ndarray, "sample query"],
        cluster: int,
        latents: np.ndarray,
        visible: np.ndarray,
        shown: int,
    ) -> CellTables:
        """Return Σ_samples weight · (−∂L/∂Φ, −∂L/∂Υ, −∂L/∂Υ_self) from ``pulls`` = G = −∂L/∂A.

        −∂L/∂Φ_j = z_j A_j (G_j − Ḡ) and −∂L/∂Υ_q = attn_q (u_q G_{a(q)} − Ḡ), the latter averaged over the
        positions q of a cell other than the query.
        """
        area, hidden, own = self.symmetry.cell_areas[:, cluster], self.sizes - visible, self.queries
        mean = (found.areas * pulls).sum(-1)
        above = weight[..., None] * (pulls - mean[..., None])
        feature = np.zeros_like(self.feature)
        feature[:, cluster] = np.einsum("bqj,bj->qj", found.areas * above, latents)
        seen, unseen = found.visible * above, -weight * found.hidden * mean
        keys = np.einsum("bqc,bc->qc", seen[..., area], visible.astype(float)) + unseen.T @ hidden
        pair = self.kernel * keys / self.sizes
        seen_own = seen[:, self.each, area[own]]
        beside = np.maximum(visible[:, own] - shown, 0) * seen_own
        beside += np.maximum(hidden[:, own] - (1 - shown), 0) * unseen
        pair[self.each, own] = self.beside * beside.sum(0) / np.maximum(self.sizes[own] - 1, 1)
        return CellTables(feature, pair, self.itself * (seen_own if shown else unseen).sum(0))

    def chunks(self, batch: CountedBatch) -> Iterator[tuple[int, Int[np.ndarray, " sample"]]]:
        """Yield a cluster and the numbers of some of its samples, in turn, until all have come."""
        most = max(1, _LARGEST // max(1, len(self.queries) * max(len(self.sizes), batch.latents.shape[1])))
        for cluster in range(self.symmetry.layout.clusters):
            numbers = np.flatnonzero(batch.cluster == cluster)
            for start in range(0, len(numbers), most):
                yield cluster, numbers[start : start + most]

    def weight(self, visible: np.ndarray, shown: int) -> Float[np.ndarray, "sample query"]:
        """Return the share of each query cell's positions that are visible (``shown`` 1) or hidden (0)."""
        own = visible[:, self.queries]
        return (own if shown else self.sizes[self.queries] - own) / self.sizes[self.queries]


def counted_gradient(
    symmetry: Symmetry,
    order: OrderParameters,
    objective: Objective,
    batch: CountedBatch,
    *,
    seed: int = 0,
    queries: Int[np.ndarray, " query"] | None = None,
) -> OrderParameters:
    """Return −∂L/∂(order parameters) on a batch: ``Symmetry.lower`` of the full −∂L/∂Q, weight decay included.

    Exactly so with the rows of all cells. A given choice of ``queries`` (one cell at least of each class of positions)
    takes the rows of those alone: the same in expectation. Contrast pools over all cells in any case. ``seed``
    is the row of ``order``; the result has one row. Raises ``ValueError`` for an objective that is none of
    masked reconstruction, contrast and their mixture.
    """
    reduction = require_reduction(objective)
    masked = objective.masking().masked(symmetry.layout.patches) if reduction.per_masked_patch else 1
    reconstruction, contrast = (1 - reduction.contrast) / masked, reduction.contrast
    state, every = symmetry.tables(order, seed), np.arange(len(symmetry.cell_sizes))
    rows = Rows(symmetry, state, every if queries is None else queries)
    pooled = np.zeros_like(batch.latents)
    if contrast:
        pooled = contrast * _contrast(Rows(symmetry, state, every), batch, reduction.temperature)
    total = CellTables(*(np.zeros_like(part[rows.queries]) for part in state))
    for cluster, chosen in rows.chunks(batch):
        latents, visible = batch.latents[chosen], batch.views[0][chosen]
        own = np.eye(latents.shape[1])[symmetry.cell_areas[rows.queries, cluster]]
        for shown in (0, 1) if contrast else (0,):
            found = rows.attend(cluster, latents, visible, shown)
            pulls = np.broadcast_to(pooled[chosen][:, None], found.areas.shape)
            if not shown and reconstruction:
                pulls = pulls + reconstruction * latents[:, None] ** 2 * (own - found.areas)
            part = rows.pull(found, pulls, rows.weight(visible, shown), cluster, latents, visible, shown)
            total = CellTables(*(old + new for old, new in zip(total, part, strict=True)))
    tables = CellTables(*(part / len(batch.cluster) for part in total))
    velocity = symmetry.collect(tables, rows.queries)
    return velocity.map(lambda part, block: part - objective.weight_decay * block[seed : seed + 1], order)


def mean_attention(
    rows: Rows, batch: CountedBatch, objective: Objective
) -> tuple[Float[np.ndarray, "cluster query area"], Float[np.ndarray, "cluster query"]]:
    """Return the mean area attention of each cell's counted positions, and that to the own area where it shows.

    Counted are all positions for contrast, the hidden ones for the others, as in the full simulation.
    NaN where no sample counts.
    """
    all_queries = require_reduction(objective).all_queries
    shape = (rows.symmetry.layout.clusters, *rows.feature.shape[::2])
    total, weights = np.zeros(shape), np.zeros(shape[:2])
    own_total, own_weights = np.zeros(shape[:2]), np.zeros(shape[:2])
    for cluster, chosen in rows.chunks(batch):
        latents, visible = batch.latents[chosen], batch.views[0][chosen]
        area = rows.symmetry.cell_areas[:, cluster]
        some = (visible @ np.eye(shape[2])[area] > 0)[:, area[rows.queries]]
        for shown in (0, 1) if all_queries else (0,):
            found, weight = rows.attend(cluster, latents, visible, shown), rows.weight(visible, shown)
            total[cluster] += np.einsum("bqj,bq->qj", found.areas, weight)
            weights[cluster] += weight.sum(0)
            own_total[cluster] += (found.areas[:, rows.each, area[rows.queries]] * weight * some).sum(0)
            own_weights[cluster] += (weight * some).sum(0)
    with np.errstate(invalid="ignore"):
        return total / weights[..., None], own_total / own_weights


def _contrast(rows: Rows, batch: CountedBatch, temperature: float) -> Float[np.ndarray, "sample area"]:
    """Return G_j = h_j/P of contrast, which is the same for all queries of a sample."""
    patches = rows.symmetry.layout.patches
    anchor, target = (batch.latents * _pooled(rows, batch, view) for view in (0, 1))
    same: Bool[np.ndarray, "sample sample"] = batch.cluster[:, None] == batch.cluster
    logits = same * (anchor @ target.T) / temperature
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return batch.latents / (temperature * patches) * (target - (same * shares) @ target)


def _pooled(rows: Rows, batch: CountedBatch, view: int) -> Float[np.ndarray, "sample area"]:
    """Return Ā_j, the mean over all positions: each cell's visible and hidden positions by their numbers."""
    pooled = np.zeros_like(batch.latents)
    share = rows.sizes / rows.symmetry.layout.patches
    for cluster, chosen in rows.chunks(batch):
        visible = batch.views[view][chosen]
        for shown in (0, 1):
            found = rows.attend(cluster, batch.latents[chosen], visible, shown)
            pooled[chosen] += np.einsum("bqj,bq->bj", found.areas, rows.weight(visible, shown) * share)
    return pooled


def _segments(symmetry: Symmetry, cluster: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cells of a cluster sorted by area, where each area starts, and which areas these are."""
    area = symmetry.cell_areas[:, cluster]
    order = np.argsort(area, kind="stable")
    areas, starts = np.unique(area[order], return_index=True)
    return order, starts, areas
