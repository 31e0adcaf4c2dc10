"""Positions sorted by area, once for each cluster, and the grouping of samples by cluster."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitdyn.data import PatchLayout


@dataclass(frozen=True)
class SortedCluster:
    """One cluster's positions in the order of their areas.

    ``order`` lists positions by area (None where they are in order already), ``inverse`` undoes it,
    ``spans`` gives each area's [start, stop) in that order.
    """

    cluster: int
    order: Int[Tensor, " key"] | None
    inverse: Int[Tensor, " key"] | None
    spans: tuple[tuple[int, int], ...]

    def sort(self, values: Tensor) -> Tensor:
        """Bring the positions, the last axis, into the order of areas."""
        return values if self.order is None else _select_last(values, self.order)

    def unsort(self, values: Tensor) -> Tensor:
        """Bring the positions, the last axis, back into their own order."""
        return values if self.inverse is None else _select_last(values, self.inverse)


def _select_last(values: Tensor, index: Tensor) -> Tensor:
    """Select on the last axis, by way of a matrix: many times faster on CPU than on a tensor of three axes."""
    return values.reshape(-1, values.shape[-1]).index_select(1, index).reshape(values.shape)


@lru_cache(maxsize=64)
def sorted_clusters(layout: PatchLayout, device: torch.device) -> tuple[SortedCluster, ...]:
    """Sort each cluster's positions by area, on a device."""
    clusters = []
    for cluster, areas in enumerate(layout.area_of_patch):
        order = np.argsort(areas, kind="stable")
        counts = layout.sizes[cluster]
        stops = np.cumsum(counts[counts > 0]).tolist()
        spans = tuple(zip([0, *stops[:-1]], stops, strict=True))
        in_order = bool((order == np.arange(len(order))).all())
        forth = None if in_order else torch.from_numpy(order).to(device)
        back = None if in_order else torch.from_numpy(np.argsort(order)).to(device)
        clusters.append(SortedCluster(cluster, forth, back, spans))
    return tuple(clusters)


@dataclass(frozen=True)
class Group:
    """The samples of one cluster, padded to one count for all seeds (``rows`` None: all samples)."""

    areas: SortedCluster
    rows: Int[Tensor, "seed member"] | None
    valid: Bool[Tensor, "seed member"] | None

    def take(self, values: Float[Tensor, "seed sample *rest"]) -> Float[Tensor, "seed member *rest"]:
        """Pick the members' values."""
        if self.rows is None:
            return values
        return values[torch.arange(len(values), device=values.device)[:, None], self.rows]

    def blank_padding(self, values: Float[Tensor, "seed member *rest"]) -> Float[Tensor, "seed member *rest"]:
        """Put 0, in place, where a seed's group is padded."""
        return values if self.valid is None else values.mul_(self.valid[..., None])

    def put(
        self, target: Float[Tensor, "seed sample *rest"], values: Float[Tensor, "seed member *rest"]
    ) -> Float[Tensor, "seed sample *rest"]:
        """Write the members' values into ``target`` where they belong, and return it."""
        if self.rows is None or self.valid is None:
            return values
        seeds = torch.arange(len(target), device=target.device)[:, None].expand_as(self.rows)
        return target.index_put((seeds[self.valid], self.rows[self.valid]), values[self.valid])


def sample_groups(layout: PatchLayout, cluster: Int[Tensor, "seed sample"]) -> list[Group]:
    """Group the samples of a batch by cluster; clusters that no seed drew are left out."""
    clusters = sorted_clusters(layout, cluster.device)
    if len(clusters) == 1:
        return [Group(clusters[0], None, None)]
    groups = []
    for areas in clusters:
        members = cluster == areas.cluster
        most = int(members.sum(1).max())
        if most:
            rows = torch.argsort((~members).int(), dim=1, stable=True)[:, :most]
            groups.append(Group(areas, rows, members.gather(1, rows)))
    return groups
