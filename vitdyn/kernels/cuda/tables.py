"""The tables that the fused kernels read: keys in tiles of one area each, samples in tiles of one cluster each.

The kernels see 32 keys at a time, all of one area, so that which of them a sample shows is one 32-bit word. A
cluster's positions in the order of their areas, each area filled up to whole tiles, are its *slots*; a
slot that stands for no position holds −1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vitdyn.data import PatchLayout

TILE = 32
"""Keys in a tile: the bits of a word."""

MOST_AREAS = 16
"""Areas whose sums fit into the registers of a program, 16 samples and 16 queries at a time."""

_SUMS_IN_REGISTERS = 2**14
"""Numbers W_j that a program holds at once: 64 KiB, a quarter of an SM's registers; temporaries take the rest."""


@dataclass(frozen=True)
class Slots:
    """The key tiles of each cluster.

    ``position`` is the position in each slot or −1; tiles ``edges[k, j]`` to ``edges[k, j + 1]`` hold area j of
    cluster k; ``slot`` and ``area`` are each position's own. Made by ``slots``.
    """

    position: Int[Tensor, "cluster slot"]
    edges: Int[Tensor, "cluster edge"]
    slot: Int[Tensor, "cluster patch"]
    area: Int[Tensor, "cluster patch"]

    @property
    def tiles(self) -> int:
        """The most tiles of a cluster: words for each sample."""
        return self.position.shape[1] // TILE


@lru_cache(maxsize=64)
def slots(layout: PatchLayout, device: torch.device) -> Slots:
    """Lay out the slots of every cluster, on a device."""
    counts = -(-layout.sizes // TILE)
    edges = np.concatenate([np.zeros((layout.clusters, 1), int), counts.cumsum(1)], 1)
    position = np.full((layout.clusters, int(edges.max()) * TILE), -1)
    slot = np.zeros((layout.clusters, layout.patches), int)
    for cluster, areas in enumerate(layout.area_of_patch):
        for area in range(layout.areas):
            members = np.flatnonzero(areas == area)
            slot[cluster, members] = edges[cluster, area] * TILE + np.arange(len(members))
        position[cluster, slot[cluster]] = np.arange(layout.patches)
    tables = (position, edges, slot, layout.area_of_patch)
    return Slots(*(torch.from_numpy(table.astype(np.int32)).to(device) for table in tables))


@dataclass(frozen=True)
class SampleTiles:
    """The samples of each seed in the order of their clusters, cut into tiles of one cluster each.

    ``order`` lists the samples; ``table`` holds for each tile its cluster and its [start, stop) in that
    order; ``count`` is how many tiles a seed has, and the rest of its table is empty.
    """

    order: Int[Tensor, "seed sample"]
    table: Int[Tensor, "seed tile three"]
    count: Int[Tensor, " seed"]


def sample_tiles(
    cluster: Int[Tensor, "seed sample"], clusters: int, size: int, *, ordered: bool = False
) -> SampleTiles:
    """Cut the samples into tiles of at most ``size``, without waiting for the device.

    ``ordered`` says that each seed's samples come in the order of their clusters.
    """
    seeds, samples = cluster.shape
    if ordered:
        order = torch.arange(samples, dtype=torch.int32, device=cluster.device).repeat(seeds, 1)
    else:
        order = torch.argsort(cluster, dim=1, stable=True).int()
    numbers = torch.arange(clusters, device=cluster.device)
    members = (cluster[:, :, None] == numbers).sum(1)
    stops = members.cumsum(1)
    pieces = (members + size - 1) // size
    last = pieces.cumsum(1)
    # the most tiles there can be, each cluster leaving one that is not full: how many there are only the device knows
    tile = torch.arange(-(-samples // size) + clusters - 1, device=cluster.device).expand(seeds, -1)
    owner = (tile[:, :, None] >= last[:, None]).sum(2).clamp_max_(clusters - 1)
    begin = (stops - members).gather(1, owner) + (tile - (last - pieces).gather(1, owner)) * size
    end = torch.minimum(begin + size, stops.gather(1, owner))
    return SampleTiles(order, torch.stack((owner, begin, end), 2).int(), last[:, -1].int())


@lru_cache(maxsize=16)
def one_cluster_tiles(seeds: int, samples: int, size: int, device: torch.device) -> SampleTiles:
    """Return the tiles of samples that are all of one cluster."""
    return sample_tiles(torch.zeros(seeds, samples, dtype=torch.int64, device=device), 1, size, ordered=True)


def block_sizes(layout: PatchLayout, samples: int) -> tuple[int, int]:
    """Return the queries and the samples of a block: the sums of all areas must fit into registers.

    The result depends on the layout and the number of samples alone, so a seed's bits do not depend on
    the seeds beside it.
    """
    # many queries first: masks are spread to numbers again for each block of queries. ``tl.dot`` takes 16 or more
    queries = 64 if layout.patches > 32 else 16
    areas = 1 << (layout.areas - 1).bit_length()
    while queries > 16 and _SUMS_IN_REGISTERS // (areas * queries) < 32:
        queries //= 2
    room = max(16, _SUMS_IN_REGISTERS // (areas * queries))
    of_a_cluster = max(16, 1 << (-(-samples // layout.clusters) - 1).bit_length())
    return queries, min(room, of_a_cluster, 128)
