"""Small layouts, random symmetric states and the exact population by enumeration, for the tests of the reduction."""

from itertools import combinations, product

import numpy as np
import torch

from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.models import Correlations
from vitdyn.reduced.symmetry import OrderParameters

LAYOUTS = {
    "one cluster, unequal areas": PatchLayout(partition=((0, 1, 0, 2, 1, 0, 3, 2, 3, 3, 4),)),
    "one cluster, areas of one": PatchLayout(partition=((0, 1, 2, 0, 3, 0, 2),)),
    "two clusters": PatchLayout(partition=((0, 2, 0, 0, 1, 2, 1), (1, 0, 0, 1, 1, 0, 0))),
    "two clusters that exchange": PatchLayout(partition=((0, 0, 1, 0, 1, 2, 2, 0), (0, 0, 0, 1, 2, 1, 2, 0))),
    "two clusters, label by label": PatchLayout(partition=((0, 0, 0, 1, 1, 2, 2), (0, 1, 2, 1, 0, 2, 0))),
    "two clusters that almost exchange": PatchLayout(partition=((0, 0, 0, 1, 1, 1), (0, 0, 1, 0, 0, 1))),
    "areas missing in one": PatchLayout(partition=((0, 0, 1, 2, 1, 2), (0, 1, 1, 0, 0, 1))),
}


def random_order(symmetry, rng, *, seeds=1, scale=0.7):
    """A random symmetric state."""
    return symmetry.zeros(seeds).map(lambda block: torch.from_numpy(scale * rng.standard_normal(block.shape)))


def population(layout, masked, *, values=(0.6, 1.7)):
    """Every cluster, every choice of two-point latents and every mask, once each: all equally likely."""
    masks = np.ones((0, layout.patches), dtype=bool)
    for hidden in combinations(range(layout.patches), masked):
        masks = np.vstack([masks, ~np.isin(np.arange(layout.patches), hidden)])
    drawn = np.array(
        list(product(range(layout.clusters), product(values, repeat=layout.areas))), dtype=object
    )
    cluster = drawn[:, 0].astype(np.int64)
    latents = np.stack([np.array(row) for row in drawn[:, 1]]) * (layout.sizes[cluster] > 0)
    count = len(masks)
    batch = PatchBatch(
        layout,
        (0,),
        torch.from_numpy(np.repeat(cluster, count))[None],
        torch.from_numpy(np.repeat(latents, count, 0))[None],
    )
    return batch, torch.from_numpy(np.tile(masks, (len(cluster), 1)))[None]


def counted(symmetry, visible):
    """The visible positions of each block, (sample, block)."""
    member = symmetry.block[:, None] == np.arange(len(symmetry.block_sizes))
    return visible.numpy().astype(np.int64) @ member.astype(np.int64)


def classes(symmetry):
    """The class of each Φ (−1 for none) and of each Υ, position by position: P² numbers."""
    block, (_, pairs, _) = symmetry.block, symmetry.counts
    pair = symmetry.pair_table[block[:, None], block]
    np.fill_diagonal(pair, pairs + symmetry.block_class[block])
    return symmetry.feature_table[block], pair


def embed(symmetry, order):
    """The symmetric state with these order parameters; Φ is 0 for areas that do not exist."""
    feature, pair = map(torch.from_numpy, classes(symmetry))
    return Correlations(order.feature[:, feature.clamp_min(0)] * (feature >= 0), order.position[:, pair])


def project(symmetry, state):
    """The mean of each class."""
    means = []
    for block, of in zip((state.feature_position, state.position_position), classes(symmetry), strict=True):
        there = of >= 0
        sums = [np.bincount(of[there], weights=each[there]) for each in block.numpy()]
        means.append(torch.from_numpy(np.stack(sums) / np.bincount(of[there])))
    return OrderParameters(*means)
