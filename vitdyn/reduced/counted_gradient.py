"""The gradient of the order parameters on samples of which only the visible count of every block is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from vitdyn.data import PatchBatch
from vitdyn.objectives import Objective
from vitdyn.objectives.closed_form import MeanPooled, Residual
from vitdyn.objectives.contract import closed_form_of, mean_gradient_of, require_reduction
from vitdyn.reduced.symmetry import BlockTables, OrderParameters, Symmetry

MOST_NUMBERS = 2**22
"""Numbers in the largest working array; samples are taken in chunks below it."""


@dataclass(frozen=True)
class CountedBatch:
    """Samples of one seed, known up to the exchange of positions within a block.

    ``cluster`` (sample); ``latents`` (sample, area); ``views``: the visible positions of each block in each
    view, (sample, block).
    """

    cluster: Int[np.ndarray, " sample"]
    latents: Float[np.ndarray, "sample area"]
    views: tuple[Int[np.ndarray, "sample block"], ...]


class Attention(NamedTuple):
    """A_{p→j}, the attention of one visible key of area j over e^{Υ}, and the same of a hidden key."""

    areas: Float[np.ndarray, "sample query area"]
    visible: Float[np.ndarray, "sample query area"]
    hidden: Float[np.ndarray, "sample query"]


class Rows:
    """The rows of some query blocks at a symmetric state of one seed, ready for attention and its VJP.

    All positions of a block share their row up to themselves: a query in block c sees e^{Υ_{cc'}} on the other
    positions and e^{Υ_self} on itself, and whether it is itself visible is the only thing in which the positions
    of a block differ within a sample.
    """

    def __init__(self, symmetry: Symmetry, state: BlockTables, queries: Int[np.ndarray, " query"]) -> None:
        self.symmetry, self.queries = symmetry, queries
        self.each = np.arange(len(queries))
        self.sizes = symmetry.block_sizes
        self.feature = state.feature[queries]
        upsilon = np.where(symmetry.pair_table[queries] >= 0, state.pair[queries], -inf)
        highest = np.maximum(upsilon.max(1), state.self[queries])
        self.exp_upsilon = np.exp(upsilon - highest[:, None])
        self.exp_own = self.exp_upsilon[self.each, queries].copy()
        self.exp_upsilon[self.each, queries] = 0.0
        self.itself = np.exp(state.self[queries] - highest)

    def attend(self, cluster: int, latents: np.ndarray, visible: np.ndarray, shown: int) -> Attention:
        """Return the attention of queries that are themselves visible (``shown`` 1) or hidden (0), one cluster."""
        order, starts, areas = _segments(self.symmetry, cluster)
        hidden = self.sizes - visible
        own_visible = np.maximum(visible[:, self.queries] - shown, 0) * self.exp_own + shown * self.itself
        own_hidden = (
            np.maximum(hidden[:, self.queries] - (1 - shown), 0) * self.exp_own + (1 - shown) * self.itself
        )
        # The own block comes apart: the query itself has Υ_self, and only the others are counted beside it.
        by_block = visible[:, None, :] * self.exp_upsilon
        by_block[:, self.each, self.queries] = own_visible
        per_area = np.zeros((*by_block.shape[:2], latents.shape[1]))
        per_area[..., areas] = np.add.reduceat(by_block[..., order], starts, axis=-1)
        rest = hidden @ self.exp_upsilon.T + own_hidden
        # Where no key is visible the exponent is −∞, and where none is masked the plain weight is 0: no 0/0.
        exponents = np.where(per_area > 0, latents[:, None] * self.feature[:, cluster], -inf)
        shift = np.maximum(exponents.max(-1), np.where(rest > 0, 0.0, -inf))
        content = np.exp(exponents - shift[..., None])
        plain = np.where(rest > 0, np.exp(np.minimum(-shift, 700.0)), 0.0)
        weight = content * per_area
        total = weight.sum(-1) + plain * rest
        return Attention(weight / total[..., None], content / total[..., None], plain / total)

    def vjp(
        self,
        found: Attention,
        upstream: Float[np.ndarray, "sample query area"],
        weight: Float[np.ndarray, "sample query"],
        cluster: int,
        latents: np.ndarray,
        visible: np.ndarray,
        shown: int,
    ) -> BlockTables:
        """Return Σ_samples weight · (−∂L/∂Φ, −∂L/∂Υ, −∂L/∂Υ_self) from ``upstream`` = G = −∂L/∂A.

        −∂L/∂Φ_j = z_j A_j (G_j − Ḡ) and −∂L/∂Υ_q = attn_q (u_q G_{a(q)} − Ḡ), the latter averaged over the
        positions q of a block other than the query.
        """
        area, hidden, own = self.symmetry.block_areas[:, cluster], self.sizes - visible, self.queries
        mean = (found.areas * upstream).sum(-1)
        above = weight[..., None] * (upstream - mean[..., None])
        feature = np.zeros_like(self.feature)
        feature[:, cluster] = np.einsum("bqj,bj->qj", found.areas * above, latents)
        seen, unseen = found.visible * above, -weight * found.hidden * mean
        # Keys of a block are interchangeable: their mean is the sum over its positions, over their number.
        keys = np.einsum("bqc,bc->qc", seen[..., area], visible.astype(float)) + unseen.T @ hidden
        pair = self.exp_upsilon * keys / self.sizes
        seen_own = seen[:, self.each, area[own]]
        beside = np.maximum(visible[:, own] - shown, 0) * seen_own
        beside += np.maximum(hidden[:, own] - (1 - shown), 0) * unseen
        pair[self.each, own] = self.exp_own * beside.sum(0) / np.maximum(self.sizes[own] - 1, 1)
        return BlockTables(feature, pair, self.itself * (seen_own if shown else unseen).sum(0))

    def chunks(self, batch: CountedBatch) -> Iterator[tuple[int, Int[np.ndarray, " sample"]]]:
        """Yield a cluster and the numbers of some of its samples, in turn, until all have come."""
        most = max(
            1, MOST_NUMBERS // max(1, len(self.queries) * max(len(self.sizes), batch.latents.shape[1]))
        )
        for cluster in range(self.symmetry.layout.clusters):
            numbers = np.flatnonzero(batch.cluster == cluster)
            for start in range(0, len(numbers), most):
                yield cluster, numbers[start : start + most]

    def weight(self, visible: np.ndarray, shown: int) -> Float[np.ndarray, "sample query"]:
        """Return the share of each query block's positions that are visible (``shown`` 1) or hidden (0)."""
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
    """Return −∂L/∂(order parameters) on a batch: ``Symmetry.project`` of the full −∂L/∂Q, weight decay included.

    Exactly so with the rows of all blocks. A choice of ``queries`` (one block at least of each class of positions)
    takes the rows of those alone: the same in expectation. Contrast pools over all blocks in any case. ``seed``
    is the row of ``order``; the result has one row. Raises ``ValueError`` for an objective that is none of
    masked reconstruction, contrast and their mixture.
    """
    require_reduction(objective)
    state, every = symmetry.tables(order, seed), np.arange(len(symmetry.block_sizes))
    rows = Rows(symmetry, state, every if queries is None else queries)
    residual, pooled = _closed_form(symmetry, state, batch, objective)
    total = BlockTables(*(np.zeros_like(part[rows.queries]) for part in state))
    for cluster, chosen in rows.chunks(batch):
        latents, visible = batch.latents[chosen], batch.views[0][chosen]
        own = np.eye(latents.shape[1])[symmetry.block_areas[rows.queries, cluster]]
        for shown in (0,) if pooled is None else (0, 1):
            found = rows.attend(cluster, latents, visible, shown)
            common = np.zeros_like(latents) if pooled is None else pooled[chosen]
            upstream = np.broadcast_to(common[:, None], found.areas.shape)
            if not shown and residual:
                upstream = upstream + residual * latents[:, None] ** 2 * (own - found.areas)
            part = rows.vjp(found, upstream, rows.weight(visible, shown), cluster, latents, visible, shown)
            total = BlockTables(*(old + new for old, new in zip(total, part, strict=True)))
    tables = BlockTables(*(part / len(batch.cluster) for part in total))
    velocity = symmetry.collect(tables, rows.queries)
    return velocity.map(lambda part, block: part - objective.weight_decay * block[seed : seed + 1], order)


def mean_attention(
    rows: Rows, batch: CountedBatch, objective: Objective
) -> tuple[Float[np.ndarray, "cluster query area"], Float[np.ndarray, "cluster query"]]:
    """Return the mean area attention of each block's counted positions, and that to the own area where it shows.

    Counted are all positions for contrast, the hidden ones for the others, as in the full simulation.
    NaN where no sample counts.
    """
    all_queries = require_reduction(objective).all_queries
    shape = (rows.symmetry.layout.clusters, *rows.feature.shape[::2])
    total, weights = np.zeros(shape), np.zeros(shape[:2])
    own_total, own_weights = np.zeros(shape[:2]), np.zeros(shape[:2])
    for cluster, chosen in rows.chunks(batch):
        latents, visible = batch.latents[chosen], batch.views[0][chosen]
        area = rows.symmetry.block_areas[:, cluster]
        some = (visible @ np.eye(shape[2])[area] > 0)[:, area[rows.queries]]
        for shown in (0, 1) if all_queries else (0,):
            found, weight = rows.attend(cluster, latents, visible, shown), rows.weight(visible, shown)
            total[cluster] += np.einsum("bqj,bq->qj", found.areas, weight)
            weights[cluster] += weight.sum(0)
            own_total[cluster] += (found.areas[:, rows.each, area[rows.queries]] * weight * some).sum(0)
            own_weights[cluster] += (weight * some).sum(0)
    with np.errstate(invalid="ignore"):
        return total / weights[..., None], own_total / own_weights


def _closed_form(
    symmetry: Symmetry, state: BlockTables, batch: CountedBatch, objective: Objective
) -> tuple[float, Float[np.ndarray, "sample area"] | None]:
    """Return the scale of the residual in G = −∂L/∂A of a sample, and the part of G that is that of all its queries.

    Both are those of the objective's own closed form, which asks for a batch and for means over queries alone.
    """
    numbers = torch.from_numpy(batch.cluster)[None], torch.from_numpy(batch.latents)[None]
    terms = closed_form_of(objective, PatchBatch(symmetry.layout, (0,), *numbers))
    count = len(batch.cluster)
    scale = count * sum(float(term.scale) for term in terms if isinstance(term, Residual))
    pooled = [term for term in terms if isinstance(term, MeanPooled)]
    if not pooled:
        return scale, None
    rows = Rows(symmetry, state, np.arange(len(symmetry.block_sizes)))
    means = [torch.from_numpy(_pooled(rows, batch, view))[None] for view in range(len(batch.views))]
    gradient, *stopped = mean_gradient_of(objective, pooled, means)
    assert gradient is not None and stopped == [None]
    return scale, -count / symmetry.layout.patches * gradient[0].numpy()


def _pooled(rows: Rows, batch: CountedBatch, view: int) -> Float[np.ndarray, "sample area"]:
    """Return Ā_j, the mean over all positions: each block's visible and hidden positions by their numbers."""
    pooled = np.zeros_like(batch.latents)
    share = rows.sizes / rows.symmetry.layout.patches
    for cluster, chosen in rows.chunks(batch):
        visible = batch.views[view][chosen]
        for shown in (0, 1):
            found = rows.attend(cluster, batch.latents[chosen], visible, shown)
            pooled[chosen] += np.einsum("bqj,bq->bj", found.areas, rows.weight(visible, shown) * share)
    return pooled


def _segments(symmetry: Symmetry, cluster: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the blocks of a cluster sorted by area, where each area starts, and which areas these are."""
    area = symmetry.block_areas[:, cluster]
    order = np.argsort(area, kind="stable")
    areas, starts = np.unique(area[order], return_index=True)
    return order, starts, areas
