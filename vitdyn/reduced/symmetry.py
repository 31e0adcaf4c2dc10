"""Which positions and areas of a layout are interchangeable, and the order parameters that this leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer, require_kind
from vitdyn.data import PatchLayout
from vitdyn.models import Correlations
from vitdyn.reduced.orbits import class_totals, exchanges, number_classes, orbits


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
    block), −1 where there is no such area or no pair of distinct positions. ``feature_sizes`` and ``pair_sizes``
    count the correlations of each class, ``class_sizes`` the positions.
    """

    layout: PatchLayout
    block: Int[np.ndarray, " patch"]
    block_areas: Int[np.ndarray, "block cluster"]
    block_sizes: Int[np.ndarray, " block"]
    block_class: Int[np.ndarray, " block"]
    feature_table: Int[np.ndarray, "block cluster area"]
    pair_table: Int[np.ndarray, "block block"]
    class_sizes: Int[np.ndarray, " position_class"]
    feature_sizes: Int[np.ndarray, " feature_class"]
    pair_sizes: Int[np.ndarray, " pair_class"]

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
            class_sizes=class_totals(position, sizes[:, None]),
            feature_sizes=class_totals(feature, np.broadcast_to(sizes[:, None], feature.shape)),
            pair_sizes=class_totals(pair, pairs),
        )

    @property
    def position_class(self) -> Int[np.ndarray, " patch"]:
        """The class of each position."""
        return self.block_class[self.block]

    @property
    def feature_class(self) -> Int[np.ndarray, "patch cluster area"]:
        """The class of each Φ_{p→v_{k,m}}; −1 for areas that a cluster does not have."""
        return self.feature_table[self.block]

    @property
    def position_pair_class(self) -> Int[np.ndarray, "patch patch"]:
        """The class of each Υ_{p→q}, as ``OrderParameters.position`` counts them. P² numbers."""
        classes = self.pair_table[self.block[:, None], self.block]
        np.fill_diagonal(classes, len(self.pair_sizes) + self.position_class)
        return classes

    @property
    def position_pair_sizes(self) -> Int[np.ndarray, " position_pair_class"]:
        """The number of pairs in each class of ``OrderParameters.position``."""
        return np.concatenate([self.pair_sizes, self.class_sizes])

    @property
    def representatives(self) -> Int[np.ndarray, " position_class"]:
        """One block of each class of positions."""
        return np.unique(self.block_class, return_index=True)[1]

    def zeros(self, seeds: int) -> OrderParameters:
        """Return Q = 0."""
        require_integer("seeds", seeds, at_least=1)
        counts = len(self.feature_sizes), len(self.position_pair_sizes)
        return OrderParameters(*(torch.zeros(seeds, count, dtype=torch.float64) for count in counts))

    def embed(self, order: OrderParameters) -> Correlations:
        """Return the symmetric state with these order parameters; Φ is 0 for areas that do not exist."""
        self.require_order("order", order)
        phi = _take(order.feature, self.feature_table)[:, torch.from_numpy(self.block)]
        pair = _take(order.position, self.pair_table)
        block = torch.from_numpy(self.block)
        upsilon = pair[:, block[:, None], block]
        # A position's correlation with itself has classes apart, behind those of pairs.
        own = order.position[:, len(self.pair_sizes) :][:, torch.from_numpy(self.position_class)]
        upsilon.diagonal(dim1=1, dim2=2).copy_(own)
        return Correlations(phi, upsilon)

    def require_order(self, field: str, order: object, seeds: int | None = None) -> None:
        """Raise ``ValueError`` unless there is a number for each class, and a row for each of so many seeds."""
        require_kind(field, order, OrderParameters)
        for name, count in (("feature", self.feature_sizes), ("position", self.position_pair_sizes)):
            block, size = getattr(order, name), len(count)
            shape = tuple(getattr(block, "shape", ()))
            is_right = len(shape) == 2 and shape[1] == size and seeds in (None, shape[0])
            if not isinstance(block, Tensor) or not is_right:
                words = f"must be a tensor of shape ({seeds or 'seeds'}, {size}) for this layout"
                raise invalid_value(f"{field}.{name}", shape, words)

    def project(self, correlations: Correlations) -> OrderParameters:
        """Return the mean of each class; of an embedded state, the very numbers that were embedded.

        Applied to −∂L/∂Q it gives the velocity of the order parameters. Raises ``ValueError`` for content queries.
        """
        require_kind("correlations", correlations, Correlations)
        if correlations.content_queries:
            words = "order parameters exist for position queries only"
            raise invalid_value("correlations", "content queries", words)
        patches = self.layout.patches
        for name, shape in (
            ("feature_position", (patches, *self.layout.sizes.shape)),
            ("position_position", (patches, patches)),
        ):
            found = tuple(correlations.named()[name].shape)
            if found[1:] != shape:
                words = f"must have the shape {shape} after the seeds"
                raise invalid_value(f"correlations.{name}", found, words)
        first = self._first_members(correlations)
        # Means of what is left beside one member: equal members then give their common value to the bit.
        rest = correlations.map(torch.sub, self.embed(first))
        block = torch.from_numpy(self.block)
        upsilon = rest.position_position.clone()
        own = upsilon.diagonal(dim1=1, dim2=2).clone()
        # The diagonal has classes of its own and must not enter the sums over pairs.
        upsilon.diagonal(dim1=1, dim2=2).zero_()
        by_row = _summed(upsilon, block, len(self.block_sizes))
        by_block = _summed(by_row.transpose(1, 2), block, len(self.block_sizes)).transpose(1, 2)
        phi = _summed(rest.feature_position, block, len(self.block_sizes))
        feature = _class_sums(phi, self.feature_table, len(self.feature_sizes))
        position = torch.cat(
            [
                _class_sums(by_block, self.pair_table, len(self.pair_sizes)),
                _class_sums(own, self.position_class, len(self.class_sizes)),
            ],
            1,
        )
        sizes = [torch.from_numpy(sizes) for sizes in (self.feature_sizes, self.position_pair_sizes)]
        return OrderParameters(first.feature + feature / sizes[0], first.position + position / sizes[1])

    def tables(self, order: OrderParameters, seed: int) -> BlockTables:
        """Return one seed's state by block; 0 where there is no such correlation."""
        feature, position = order.feature[seed : seed + 1], order.position[seed : seed + 1]
        return BlockTables(
            _take(feature, self.feature_table)[0].numpy(),
            _take(position, self.pair_table)[0].numpy(),
            position[0, len(self.pair_sizes) :].numpy()[self.block_class],
        )

    def collect(self, tables: BlockTables, queries: Int[np.ndarray, " query"]) -> OrderParameters:
        """Return the mean of each class from the rows of some blocks, among them one of each class of positions.

        Exact from any such rows where these are symmetric; the rows of a class are weighted by their positions.
        """
        sizes = self.block_sizes[queries]
        # A query has one partner fewer in its own block.
        others = self.block_sizes - (queries[:, None] == np.arange(len(self.block_sizes)))
        feature = self.feature_table[queries], np.broadcast_to(sizes[:, None, None], tables.feature.shape)
        parts = [
            _weighted_means(tables.feature, *feature, len(self.feature_sizes)),
            _weighted_means(
                tables.pair, self.pair_table[queries], sizes[:, None] * others, len(self.pair_sizes)
            ),
            _weighted_means(tables.self, self.block_class[queries], sizes, len(self.class_sizes)),
        ]
        return OrderParameters(
            torch.from_numpy(parts[0])[None], torch.from_numpy(np.concatenate(parts[1:]))[None]
        )

    def _first_members(self, correlations: Correlations) -> OrderParameters:
        """Read one member of each class."""
        by_block = np.argsort(self.block, kind="stable")
        first = by_block[np.cumsum(self.block_sizes) - self.block_sizes]
        # A pair within a block needs two members; where there is only one, no class asks for the second.
        second = by_block[np.minimum(np.cumsum(self.block_sizes) - self.block_sizes + 1, len(by_block) - 1)]
        rows, clusters, areas = _members(self.feature_table)
        queries, keys = _members(self.pair_table)
        key = np.where(queries == keys, second[keys], first[keys])
        own = first[self.representatives]
        upsilon = correlations.position_position
        return OrderParameters(
            correlations.feature_position[:, first[rows], clusters, areas],
            torch.cat([upsilon[:, first[queries], key], upsilon[:, own, own]], 1),
        )


def _members(table: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the indices of the first entry of each class."""
    values, flat = np.unique(table, return_index=True)
    return np.unravel_index(flat[values >= 0], table.shape)


def _take(order: Tensor, table: np.ndarray) -> Tensor:
    index = torch.from_numpy(table)
    return order[:, index.clamp_min(0)] * (index >= 0)


def _summed(values: Tensor, block: Tensor, count: int) -> Tensor:
    return values.new_zeros(len(values), count, *values.shape[2:]).index_add_(1, block, values)


def _class_sums(values: Tensor, table: np.ndarray, count: int) -> Tensor:
    index = torch.from_numpy(table.ravel())
    kept = index >= 0
    return values.new_zeros(len(values), count).index_add_(1, index[kept], values.flatten(1)[:, kept])


def _weighted_means(values: np.ndarray, classes: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    kept = (classes >= 0) & (weights > 0)
    total = np.bincount(classes[kept], weights=(values * weights)[kept], minlength=count)
    return total / np.bincount(classes[kept], weights=weights[kept], minlength=count)
