"""The relabellings of areas under which a layout stays what it is, and the orbits that they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int


class Exchange(NamedTuple):
    """A symmetry, its own inverse: where it sends each block, and each feature (cluster · N + area)."""

    blocks: Int[np.ndarray, " block"]
    features: Int[np.ndarray, " feature"]


def exchanges(
    areas: Int[np.ndarray, "block cluster"],
    sizes: Int[np.ndarray, " block"],
    area_sizes: Int[np.ndarray, "cluster area"],
) -> list[Exchange]:
    """Return exchanges that leave the sizes of all blocks as they are, enough to generate all sought ones.

    Sought are the exchange of two local areas of one cluster, of the same two local labels in all clusters, and of
    two clusters. ``areas`` names the blocks, sorted and each once. In each family exchangeability is an
    equivalence, so each member is tried against the first of every class only.
    """
    table = _Table(areas, sizes, area_sizes)
    found = [move for cluster in range(areas.shape[1]) for move in _of_two_areas(table, cluster)]
    # With one cluster the second family is the first again, and the third is empty.
    if areas.shape[1] > 1:
        found += _with_firsts(range(1, area_sizes.shape[1]), partial(_of_two_labels, table))
        found += _with_firsts(range(areas.shape[1]), partial(_of_two_clusters, table))
    return found


class _Table:
    """The table of block sizes, with the place of each block."""

    def __init__(self, areas: np.ndarray, sizes: np.ndarray, area_sizes: np.ndarray) -> None:
        self.areas, self.sizes, self.area_sizes = areas, sizes, area_sizes
        self.features = np.arange(area_sizes.size).reshape(area_sizes.shape)
        self.place = {row.tobytes(): number for number, row in enumerate(areas)}

    def exchange(self, rows: np.ndarray, moved: np.ndarray, features: np.ndarray) -> Exchange | None:
        """Return the exchange by which ``rows`` get the areas ``moved``; None where sizes of blocks would change."""
        image = np.arange(len(self.sizes))
        for row, areas in zip(rows, np.ascontiguousarray(moved), strict=True):
            target = self.place.get(areas.tobytes())
            if target is None or self.sizes[target] != self.sizes[row]:
                return None
            image[row] = target
        return Exchange(image, features.ravel())


def _of_two_areas(table: _Table, cluster: int) -> Iterator[Exchange]:
    """Yield exchanges of two local areas of one cluster: their blocks agree in the other clusters and in size."""
    alike: dict[bytes, np.ndarray] = {}
    for area in range(1, table.area_sizes.shape[1]):
        rows = np.flatnonzero(table.areas[:, cluster] == area)
        if not rows.size:
            continue
        others = np.delete(table.areas[rows], cluster, axis=1)
        # Two areas are alike if their blocks meet the same areas of the other clusters, in equal sizes.
        twin = alike.setdefault(others.tobytes() + b"|" + table.sizes[rows].tobytes(), rows)
        if twin is not rows:
            features, blocks = table.features.copy(), np.arange(len(table.sizes))
            order = _swap(table.area_sizes.shape[1], table.areas[twin[0], cluster], area)
            features[cluster] = features[cluster, order]
            blocks[twin], blocks[rows] = rows, twin
            yield Exchange(blocks, features.ravel())


def _of_two_labels(table: _Table, first: int, area: int) -> Exchange | None:
    """Return the exchange of the same two local labels in all clusters at once."""
    # Most pairs of labels differ in size in some cluster: nothing to look up.
    if (table.area_sizes[:, first] != table.area_sizes[:, area]).any():
        return None
    relabel = _swap(table.area_sizes.shape[1], first, area)
    rows = np.flatnonzero(((table.areas == first) | (table.areas == area)).any(1))
    return table.exchange(rows, relabel[table.areas[rows]], table.features[:, relabel])


def _of_two_clusters(table: _Table, first: int, cluster: int) -> Exchange | None:
    """Return the exchange of two clusters, area by area."""
    order = _swap(table.areas.shape[1], first, cluster)
    return table.exchange(np.arange(len(table.sizes)), table.areas[:, order], table.features[order])


def _with_firsts(members: range, exchange: Callable[[int, int], Exchange | None]) -> Iterator[Exchange]:
    """Yield for each member of a family the exchange with the first of its class, if it is not that itself."""
    firsts: list[int] = []
    for member in members:
        found = next((move for first in firsts if (move := exchange(first, member)) is not None), None)
        if found is None:
            firsts.append(member)
        else:
            yield found


def _swap(count: int, first: int, second: int) -> Int[np.ndarray, " count"]:
    order = np.arange(count)
    order[[first, second]] = second, first
    return order


def orbits(
    shape: tuple[int, int], moves: list[tuple[np.ndarray, np.ndarray]]
) -> Int[np.ndarray, "first second"]:
    """Return the orbit of each pair (first, second) of a table, from edges only where an exchange moves it."""
    if not moves:
        return np.arange(shape[0] * shape[1]).reshape(shape)
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    sources, targets = [], []
    for first, second in moves:
        # Each exchange is its own inverse: every edge is wanted from one of its ends only.
        stays = first == np.arange(shape[0])
        for rows, columns in (
            (np.flatnonzero(first > np.arange(shape[0])), np.arange(shape[1])),
            (np.flatnonzero(stays), np.flatnonzero(second > np.arange(shape[1]))),
        ):
            sources.append((rows[:, None] * shape[1] + columns).ravel())
            targets.append((first[rows][:, None] * shape[1] + second[columns]).ravel())
    source, target = np.concatenate(sources), np.concatenate(targets)
    size = shape[0] * shape[1]
    # Orbits are the connected parts of the graph whose edges are what the generators move.
    graph = coo_matrix((np.ones(len(source), dtype=np.int8), (source, target)), shape=(size, size))
    return connected_components(graph, directed=False)[1].reshape(shape)


def number_classes(
    found: Int[np.ndarray, "first second"], exists: Bool[np.ndarray, "first second"]
) -> Int[np.ndarray, "first second"]:
    """Number the orbits of what exists from 0; −1 elsewhere."""
    classes = np.full(found.shape, -1)
    classes[exists] = np.unique(found[exists], return_inverse=True)[1]
    return classes
