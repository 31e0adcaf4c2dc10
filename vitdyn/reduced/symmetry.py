"""Which positions and areas of a layout are interchangeable, and the order parameters that this leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import require_integer, require_kind
from vitdyn.data import PatchLayout
from vitdyn.reduced.orbits import exchanges, number_classes, orbits


@dataclass(frozen=True)
class OrderParameters:
    """One number for each class of correlations; one leading seed axis.

    ``feature`` (seed, class): Φ. ``position`` (seed, class): Υ of pairs of distinct positions, then Υ of each
    class of positions with themselves.
    """

    feature: Float[Tensor, "seed feature_class"]
    position: Float[Tensor, "seed position_pair_class"]

    def map(self, function: Callable[..., Tensor], *others: OrderParameters) -> OrderParameters:
        """Apply ``function`` to both blocks (and to the same blocks of ``others``)."""
        return OrderParameters(
            function(self.feature, *(other.feature for other in others)),
            function(self.position, *(other.position for other in others)),
        )


class BlockTables(NamedTuple):
    """Φ (query block, cluster, area), Υ of distinct positions (query block, block) and Υ_self (query block)."""

    feature: Float[np.ndarray, "query cluster area"]
    pair: Float[np.ndarray, "query block"]
    self: Float[np.ndarray, " query"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Symmetry:
    """The classes of interchangeable positions, features and pairs of a layout; made by ``Symmetry.of``.

    A *block* is the set of positions that have the same areas in all clusters: these are always interchangeable.
    Further symmetries come from relabelling areas, as far as the sizes of all blocks stay what they are: the
    exchange of two local areas of one cluster, of the same two labels in all clusters, and of two clusters.
    The data, the masks and the losses do not change under the group that these generate. So a state that is
    constant on its orbits stays so under gradient flow: the orbits are the order parameters. (Relabellings that
    are no product of these are not sought; leaving one out costs classes, not exactness.)

    ``block`` (patch); ``block_areas`` (block, cluster); ``block_sizes`` (block). Classes by block: ``block_class``
    (block), which is also the class of Υ_self; ``feature_table`` (block, cluster, area) and ``pair_table`` (block,
    block), −1 where there is no such area or no pair of distinct positions.
    """

    layout: PatchLayout
    block: Int[np.ndarray, " patch"]
    block_areas: Int[np.ndarray, "block cluster"]
    block_sizes: Int[np.ndarray, " block"]
    block_class: Int[np.ndarray, " block"]
    feature_table: Int[np.ndarray, "block cluster area"]
    pair_table: Int[np.ndarray, "block block"]

    @classmethod
    def of(cls, layout: PatchLayout) -> Symmetry:
        """Find the classes. Raises ``ValueError`` unless given a ``PatchLayout``."""
        require_kind("layout", layout, PatchLayout)
        # A position is known by its areas in all clusters: equal columns form one block.
        areas, block, sizes = np.unique(
            layout.area_of_patch.T, axis=0, return_inverse=True, return_counts=True
        )
        blocks, moves = len(areas), exchanges(areas, sizes, layout.sizes)
        exists = np.broadcast_to(layout.sizes.reshape(-1) > 0, (blocks, layout.sizes.size))
        feature = number_classes(
            orbits(exists.shape, [(move.blocks, move.features) for move in moves]), exists
        )
        # Υ of a position with itself has the classes of positions: it is no pair of distinct ones.
        pairs = sizes[:, None] * (sizes - np.eye(blocks, dtype=np.int64))
        pair = number_classes(orbits(pairs.shape, [(move.blocks, move.blocks) for move in moves]), pairs > 0)
        position = number_classes(
            orbits((blocks, 1), [(move.blocks, np.zeros(1, int)) for move in moves]), sizes[:, None] > 0
        )
        return cls(
            layout=layout,
            block=block.reshape(-1),
            block_areas=areas,
            block_sizes=sizes,
            block_class=position[:, 0],
            feature_table=feature.reshape(blocks, *layout.sizes.shape),
            pair_table=pair,
        )

    @property
    def counts(self) -> tuple[int, int, int]:
        """The number of classes: of Φ, of Υ of distinct positions, of positions."""
        feature, pair, position = (
            int(table.max()) + 1 for table in (self.feature_table, self.pair_table, self.block_class)
        )
        return feature, pair, position

    @property
    def representatives(self) -> Int[np.ndarray, " position_class"]:
        """One block of each class of positions."""
        return np.unique(self.block_class, return_index=True)[1]

    def zeros(self, seeds: int) -> OrderParameters:
        """Return Q = 0."""
        require_integer("seeds", seeds, at_least=1)
        feature, pair, position = self.counts
        shapes = (seeds, feature), (seeds, pair + position)
        return OrderParameters(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def tables(self, order: OrderParameters, seed: int) -> BlockTables:
        """Return one seed's state by block; 0 where there is no such correlation."""
        feature, position = order.feature[seed : seed + 1], order.position[seed : seed + 1]
        return BlockTables(
            _take(feature, self.feature_table)[0].numpy(),
            _take(position, self.pair_table)[0].numpy(),
            position[0, self.counts[1] :].numpy()[self.block_class],
        )

    def collect(self, tables: BlockTables, queries: Int[np.ndarray, " query"]) -> OrderParameters:
        """Return the mean of each class from the rows of some blocks, among them one of each class of positions.

        Exact from any such rows where these are symmetric; the rows of a class are weighted by their positions.
        """
        sizes = self.block_sizes[queries]
        # A query has one partner fewer in its own block.
        others = self.block_sizes - (queries[:, None] == np.arange(len(self.block_sizes)))
        weights = np.broadcast_to(sizes[:, None, None], tables.feature.shape), sizes[:, None] * others, sizes
        classes = (each[queries] for each in (self.feature_table, self.pair_table, self.block_class))
        parts = [_weighted_means(*each) for each in zip(tables, classes, weights, self.counts, strict=True)]
        return OrderParameters(
            torch.from_numpy(parts[0])[None], torch.from_numpy(np.concatenate(parts[1:]))[None]
        )


def _take(order: Tensor, table: np.ndarray) -> Tensor:
    index = torch.from_numpy(table)
    return order[:, index.clamp_min(0)] * (index >= 0)


def _weighted_means(values: np.ndarray, classes: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    kept = (classes >= 0) & (weights > 0)
    total = np.bincount(classes[kept], weights=(values * weights)[kept], minlength=count)
    return total / np.bincount(classes[kept], weights=weights[kept], minlength=count)
