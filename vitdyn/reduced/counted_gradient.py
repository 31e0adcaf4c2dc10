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
    """A_{p→j}, the attention of one visible key of area j over e^{Υ}, and the same of a masked key."""

    areas: Float[np.ndarray, "sample query area"]
    visible: Float[np.ndarray, "sample query area"]
    masked: Float[np.ndarray, "sample query"]


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
        # Softmax does not see a shift of a row: less the largest, no exponential overflows.
        highest = np.maximum(upsilon.max(1), state.self[queries])
        self.exp_upsilon = np.exp(upsilon - highest[:, None])
        self.exp_own = self.exp_upsilon[self.each, queries].copy()
        # The own block is counted apart: there the query itself has another Υ than its neighbours.
        self.exp_upsilon[self.each, queries] = 0.0
        self.itself = np.exp(state.self[queries] - highest)

    def attend(self, cluster: int, latents: np.ndarray, visible: np.ndarray, is_visible: int) -> Attention:
        """Return the attention of queries that are themselves visible (``is_visible`` 1) or masked (0), one cluster."""
        order, starts, areas = _segments(self.symmetry, cluster)
        masked = self.sizes - visible
        # The own block comes apart: the query itself has Υ_self, and only the others are counted beside it.
        by_block = visible[:, None, :] * self.exp_upsilon
        by_block[:, self.each, self.queries] = self._own_block(visible, is_visible)
        per_area = np.zeros((*by_block.shape[:2], latents.shape[1]))
        per_area[..., areas] = np.add.reduceat(by_block[..., order], starts, axis=-1)
        rest = masked @ self.exp_upsilon.T + self._own_block(masked, 1 - is_visible)
        # Where no key is visible the exponent is −∞, and where none is masked the plain weight is 0: no 0/0.
        exponents = np.where(per_area > 0, latents[:, None] * self.feature[:, cluster], -inf)
        shift = np.maximum(exponents.max(-1), np.where(rest > 0, 0.0, -inf))
        content = np.exp(exponents - shift[..., None])
        # Where rest is 0 its weight is not used and −shift has no bound: e^700 is still finite.
        plain = np.where(rest > 0, np.exp(np.minimum(-shift, 700.0)), 0.0)
        weight = content * per_area
        total = weight.sum(-1) + plain * rest
        return Attention(weight / total[..., None], content / total[..., None], plain / total)

    def _own_block(self, counts: np.ndarray, itself: int) -> Float[np.ndarray, "sample query"]:
        """Return Σ e^Υ over the counted positions of each query's own block, of which the query is one (1) or not."""
        return np.maximum(counts[:, self.queries] - itself, 0) * self.exp_own + itself * self.itself

    def vjp(
        self,
        found: Attention,
        upstream: Float[np.ndarray, "sample query area"],
        weight: Float[np.ndarray, "sample query"],
        cluster: int,
        latents: np.ndarray,
        visible: np.ndarray,
        is_visible: int,
    ) -> BlockTables:
        """Return Σ_samples weight · (−∂L/∂Φ, −∂L/∂Υ, −∂L/∂Υ_self) from ``upstream`` = G = −∂L/∂A.

        −∂L/∂Φ_j = z_j A_j (G_j − Ḡ) and −∂L/∂Υ_q = attn_q (u_q G_{a(q)} − Ḡ), the latter averaged over the
        positions q of a block other than the query.
        """
        area, masked, own = self.symmetry.block_areas[:, cluster], self.sizes - visible, self.queries
        mean = (found.areas * upstream).sum(-1)
        # The VJP of a softmax: each share times what its gradient has above the mean.
        above = weight[..., None] * (upstream - mean[..., None])
        feature = np.zeros_like(self.feature)
        feature[:, cluster] = np.einsum("bqj,bj->qj", found.areas * above, latents)
        on_visible, on_masked = found.visible * above, -weight * found.masked * mean
        # Keys of a block are interchangeable: their mean is the sum over its positions, over their number.
        keys = np.einsum("bqc,bc->qc", on_visible[..., area], visible.astype(float)) + on_masked.T @ masked
        pair = self.exp_upsilon * keys / self.sizes
        own_on_visible = on_visible[:, self.each, area[own]]
        beside = np.maximum(visible[:, own] - is_visible, 0) * own_on_visible
        beside += np.maximum(masked[:, own] - (1 - is_visible), 0) * on_masked
        pair[self.each, own] = self.exp_own * beside.sum(0) / np.maximum(self.sizes[own] - 1, 1)
        return BlockTables(feature, pair, self.itself * (own_on_visible if is_visible else on_masked).sum(0))

    def chunks(self, batch: CountedBatch) -> Iterator[tuple[int, Int[np.ndarray, " sample"]]]:
        """Yield a cluster and the numbers of some of its samples, in turn, until all have come."""
        most = max(
            1, MOST_NUMBERS // max(1, len(self.queries) * max(len(self.sizes), batch.latents.shape[1]))
        )
        for cluster in range(self.symmetry.layout.clusters):
            numbers = np.flatnonzero(batch.cluster == cluster)
            for start in range(0, len(numbers), most):
                yield cluster, numbers[start : start + most]

    def weight(self, visible: np.ndarray, is_visible: int) -> Float[np.ndarray, "sample query"]:
        """Return the share of each query block's positions that are visible (``is_visible`` 1) or masked (0)."""
        own = visible[:, self.queries]
        return (own if is_visible else self.sizes[self.queries] - own) / self.sizes[self.queries]


def counted_gradient(
    symmetry: Symmetry,
    order: OrderParameters,
    objective: Objective,
    batch: CountedBatch,
    *,
    seed: int = 0,
    queries: Int[np.ndarray, " query"] | None = None,
) -> OrderParameters:
    """Return −∂L/∂(order parameters) on a batch: the mean of the full −∂L/∂Q over each class, weight decay included.

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
        # Reconstruction reads masked queries alone; contrast pools over all of them.
        for is_visible in (0,) if pooled is None else (0, 1):
            found = rows.attend(cluster, latents, visible, is_visible)
            common = np.zeros_like(latents) if pooled is None else pooled[chosen]
            upstream = np.broadcast_to(common[:, None], found.areas.shape)
            if not is_visible and residual:
                upstream = upstream + residual * latents[:, None] ** 2 * (own - found.areas)
            weight = rows.weight(visible, is_visible)
            part = rows.vjp(found, upstream, weight, cluster, latents, visible, is_visible)
            total = BlockTables(*(old + new for old, new in zip(total, part, strict=True)))
    tables = BlockTables(*(part / len(batch.cluster) for part in total))
    velocity = symmetry.collect(tables, rows.queries)
    return velocity.map(lambda part, block: part - objective.weight_decay * block[seed : seed + 1], order)


def mean_attention(
    rows: Rows, batch: CountedBatch, objective: Objective
) -> tuple[Float[np.ndarray, "cluster query area"], Float[np.ndarray, "cluster query"]]:
    """Return the mean area attention of each block's counted positions, and that to the own area where it shows.

    Counted are all positions for contrast, the masked ones for the others, as in the full simulation.
    NaN where no sample counts.
    """
    all_queries = require_reduction(objective).all_queries
    shape = (rows.symmetry.layout.clusters, *rows.feature.shape[::2])
    total, weights = np.zeros(shape), np.zeros(shape[:2])
    own_total, own_weights = np.zeros(shape[:2]), np.zeros(shape[:2])
    for cluster, chosen in rows.chunks(batch):
        latents, visible = batch.latents[chosen], batch.views[0][chosen]
        area = rows.symmetry.block_areas[:, cluster]
        # Samples that show some of the query's own area: in the others there is nothing of it to attend to.
        some = (visible @ np.eye(shape[2])[area] > 0)[:, area[rows.queries]]
        for is_visible in (0, 1) if all_queries else (0,):
            found = rows.attend(cluster, latents, visible, is_visible)
            weight = rows.weight(visible, is_visible)
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
    # The closed form is that of a mean over samples, which is taken once, at the end.
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
    """Return Ā_j, the mean over all positions: each block's visible and masked positions by their numbers."""
    pooled = np.zeros_like(batch.latents)
    share = rows.sizes / rows.symmetry.layout.patches
    for cluster, chosen in rows.chunks(batch):
        visible = batch.views[view][chosen]
        for is_visible in (0, 1):
            found = rows.attend(cluster, batch.latents[chosen], visible, is_visible)
            pooled[chosen] += np.einsum("bqj,bq->bj", found.areas, rows.weight(visible, is_visible) * share)
    return pooled


def _segments(symmetry: Symmetry, cluster: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the blocks of a cluster sorted by area, where each area starts, and which areas these are."""
    area = symmetry.block_areas[:, cluster]
    order = np.argsort(area, kind="stable")
    areas, starts = np.unique(area[order], return_index=True)
    return order, starts, areas
