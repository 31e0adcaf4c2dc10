"""Summaries over positions: mean, minimum and maximum by the area of the query and the area of the key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import inf, nan

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.data import PatchLayout
from vitdyn.observables.area_kernels import fold_pairs, fold_positions


@dataclass(frozen=True)
class AreaBlocks:
    """The positions of all clusters, sorted so that areas of one size lie side by side.

    A reduction over the positions of each area is then one over an axis of a view, for all areas of that size at once:
    layouts have many areas and few sizes. No sum is a matrix product, whose bits would depend on how many seeds there
    are. ``places`` are positions, ``rows`` the same in the flat order (cluster, position), ``blocks`` says how many
    areas of which size follow each other, and ``areas`` which they are in the flat order (cluster, area).
    """

    layout: PatchLayout
    places: Int[Tensor, " row"]
    rows: Int[Tensor, " row"]
    areas: Int[Tensor, " area"]
    blocks: tuple[tuple[int, int], ...]

    def reduce(self, values: Float[Tensor, "seed row *rest"], how: str) -> Float[Tensor, "seed area *rest"]:
        """Reduce sorted values ("sum", "amin", "amax") over the positions of each area that there is."""
        parts = values.split([count * size for count, size in self.blocks], 1)
        each = [
            getattr(part.unflatten(1, block), how)(2) for part, block in zip(parts, self.blocks, strict=True)
        ]
        return torch.cat(each, 1)

    def spread(self, values: Float[Tensor, "seed area *rest"]) -> Float[Tensor, "seed cluster area *rest"]:
        """Bring values of areas into the order (cluster, area); NaN for areas that a cluster lacks."""
        clusters, count = self.layout.sizes.shape
        whole = values.new_full((len(values), clusters * count, *values.shape[2:]), nan)
        return whole.index_copy_(1, self.areas, values).unflatten(1, (clusters, count))


@lru_cache(maxsize=16)
def area_blocks(layout: PatchLayout, device: torch.device) -> AreaBlocks:
    """Sort the positions of a layout's clusters by the size of their area, then by area."""
    clusters, count = layout.sizes.shape
    sizes = layout.sizes.ravel()
    area = (layout.area_of_patch + count * np.arange(clusters)[:, None]).ravel()
    rows = np.lexsort((area, sizes[area]))
    there = np.argsort(sizes, kind="stable")[(sizes == 0).sum() :]
    distinct, counts = np.unique(sizes[there], return_counts=True)

    def on_device(index: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(index)).to(device)

    blocks = tuple(zip(counts.tolist(), distinct.tolist(), strict=True))
    return AreaBlocks(layout, on_device(rows % layout.patches), on_device(rows), on_device(there), blocks)


def over_positions(
    values: Float[Tensor, "seed cluster query rest"], layout: PatchLayout
) -> Float[Tensor, "seed cluster area rest statistic"]:
    """Return mean, minimum and maximum over the positions of each area of each cluster, NaN left out.

    An area without a value, or without a position, gives NaN.
    """
    if values.is_cuda:
        return positions_by_torch(values, layout)
    return _folded(fold_positions, values, layout, values.shape[3])


def positions_by_torch(values: Tensor, layout: PatchLayout) -> Tensor:
    """Return what ``over_positions`` does, on any device."""
    blocks = area_blocks(layout, values.device)
    ordered = values.flatten(1, 2).index_select(1, blocks.rows)
    # torch has no extreme that passes over NaN: it is replaced by what each reduction does not notice
    missing = ordered.isnan()
    number = blocks.reduce((~missing).to(values), "sum")
    total = blocks.reduce(ordered.masked_fill(missing, 0.0), "sum")
    low = blocks.reduce(ordered.masked_fill(missing, inf), "amin")
    high = blocks.reduce(ordered.masked_fill(missing, -inf), "amax")
    stacked = torch.stack([total / number, low, high], -1)
    return blocks.spread(stacked.masked_fill((number == 0)[..., None], nan))


def over_pairs(
    values: Float[Tensor, "seed query key"], layout: PatchLayout
) -> Float[Tensor, "seed cluster area area statistic"]:
    """Return mean, minimum and maximum over the pairs p ≠ q of each pair of areas; NaN where there is none."""
    if values.is_cuda:
        return pairs_by_torch(values, layout)
    return _folded(fold_pairs, values, layout, layout.areas)


def pairs_by_torch(values: Tensor, layout: PatchLayout) -> Tensor:
    """Return what ``over_pairs`` does, on any device."""
    blocks = area_blocks(layout, values.device)
    ordered = values.index_select(1, blocks.places)
    diagonal = torch.arange(len(blocks.places), device=values.device), blocks.places
    found = []
    for left_out, reduce in ((0.0, "sum"), (inf, "amin"), (-inf, "amax")):
        # pairs p = q take the value that the reduction does not notice: of a copy, since index_select made one
        ordered[:, *diagonal] = left_out
        by_query = blocks.spread(blocks.reduce(ordered, reduce))
        by_key = by_query.transpose(2, 3).flatten(1, 2).index_select(1, blocks.rows)
        found.append(blocks.spread(blocks.reduce(by_key, reduce)).transpose(2, 3))
    sizes = torch.from_numpy(layout.sizes).to(values)
    number = sizes[:, :, None] * sizes[:, None] - torch.diag_embed(sizes)
    return torch.stack([found[0] / number, *found[1:]], -1).masked_fill((number == 0)[..., None], nan)


def _folded(
    kernel: Callable[..., None], values: Tensor, layout: PatchLayout, columns: int
) -> Float[Tensor, "seed cluster area column statistic"]:
    found = values.new_empty(3, len(values), layout.clusters, layout.areas, columns)
    kernel(values.detach().contiguous().numpy(), layout.area_of_patch, found.numpy())
    return found.movedim(0, -1)
