"""Masks of a seed's visible patches as marks for the matrix unit. Compiled for CPU.

Samples get lanes in the order of their clusters, 32 lanes are a chunk. Keys are sorted so that areas lie together, and
cut to chunks of 32. For a chunk of samples, an area and a chunk of keys there is a pair of tiles of marks, unless no
key is in the area for any of the samples: 1 where a sample shows a key of its area, else 0. One pair of tiles has keys
as rows and samples as columns, for sums over keys; another has it the other way round.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vitdyn.attention.rows_vector import CHUNK, compiled
from vitdyn.attention.rows_words import mark, word_at
from vitdyn.attention.tiles_unit import SIDE, put_marks
from vitdyn.data import PatchLayout


class TilePlan(NamedTuple):
    """Where the keys of each area lie, for compiled code.

    ``order`` (chunk, 32) lists the sorted keys, filled up with 0, and ``place`` (chunk, 32) the place of each key
    there; ``keys`` is ``order`` filled up with P. ``member`` (cluster, area, chunk) has bit i set where the chunk's
    i-th key is in the area. ``area`` (cluster, patch). ``in_order`` says that nothing is moved or filled up.
    """

    order: np.ndarray
    place: np.ndarray
    keys: np.ndarray
    member: np.ndarray
    area: np.ndarray
    in_order: bool

    @property
    def most_pairs(self) -> int:
        """The largest number of pairs of tiles that a chunk of samples can have, with samples of all clusters."""
        return int((self.member > 0).any(0).sum())

    @property
    def filling(self) -> float:
        """Which part of the marks is keys of the area, not others of their chunk."""
        return self.area.size / ((self.member > 0).sum() * CHUNK)


@lru_cache(maxsize=32)
def tile_plan(layout: PatchLayout) -> TilePlan:
    """Return the plan of a layout: keys as they are, or sorted by their areas where that fills tiles much better."""
    sorted_keys = np.lexsort(layout.area_of_patch[::-1])
    return max(
        (_plan(layout, order) for order in (np.arange(layout.patches), sorted_keys)),
        key=lambda plan: plan.filling * (1.2 if plan.in_order else 1.0),
    )


def _plan(layout: PatchLayout, order: np.ndarray) -> TilePlan:
    patches, area = layout.patches, layout.area_of_patch
    chunks = -(-patches // CHUNK)
    room = chunks * CHUNK - patches

    def in_chunks(values: np.ndarray, fill: int) -> np.ndarray:
        return np.pad(values, (0, room), constant_values=fill).reshape(chunks, CHUNK)

    own = area[:, None, order] == np.arange(layout.areas)[:, None]
    bits = np.pad(own, ((0, 0), (0, 0), (0, room))).reshape(*own.shape[:2], chunks, CHUNK)
    return TilePlan(
        order=in_chunks(order, 0).astype(np.int32),
        place=in_chunks(np.argsort(order), 0).astype(np.int32),
        keys=in_chunks(order, patches).astype(np.int64),
        member=(bits << np.arange(CHUNK, dtype=np.uint64)).sum(-1).astype(np.uint32),
        area=area.astype(np.int64),
        in_order=room == 0 and bool((np.diff(order) == 1).all()),
    )


@compiled
def fill_lanes(cluster, clusters, lanes, of_lane, of_cluster):  # pragma: no cover  (compiled)
    """Write each lane's sample (−1: none) to ``lanes`` and its cluster to ``of_lane`` (chunk, 32; none: the last).

    ``of_cluster`` (chunk, cluster) gets the words of each cluster's lanes.
    """
    lanes[:], of_lane[:], of_cluster[:] = -1, clusters - 1, 0
    used = 0
    for k in range(clusters):
        for b in range(cluster.shape[0]):
            if cluster[b] == k:
                chunk, i = used // CHUNK, used % CHUNK
                lanes[used], of_lane[chunk, i] = b, k
                of_cluster[chunk, k] |= np.uint32(1) << np.uint32(i)
                used += 1


@compiled
def fill_own(of_cluster, area, own):  # pragma: no cover  (compiled)
    """Write to ``own`` (chunk, patch, area) the words of lanes in whose cluster the patch is in the area."""
    own[:] = 0
    for chunk in range(own.shape[0]):
        for k in range(area.shape[0]):
            for q in range(area.shape[1]):
                own[chunk, q, area[k, q]] |= of_cluster[chunk, k]


@compiled
def fill_words(visible, lanes, words):  # pragma: no cover  (compiled)
    """Write for each chunk of samples and patch the word of those that show it; that of patch P is 0."""
    patches, width = visible.shape[1], words.shape[1]
    words[:] = 0
    for lane in range(lanes.shape[0]):
        b, start, bit = lanes[lane], lane // CHUNK * width, np.uint32(1) << np.uint32(lane % CHUNK)
        if b >= 0:
            for q in range(0, patches - CHUNK + 1, CHUNK):
                mark(words, start + q, word_at(visible, b * patches + q), bit)
            for q in range(patches - patches % CHUNK, patches):
                if visible[b, q]:
                    words[lane // CHUNK, q] |= bit


@compiled
def fill_marks(
    words, of_lane, of_cluster, keys, member, present, by_key, by_sample
):  # pragma: no cover  (compiled)
    """Write the marks of all pairs of tiles.

    ``by_key`` in the order (samples, area, keys) as 16 pairs of keys, ``by_sample`` as (keys, samples, area) and 16
    pairs of samples; i is paired with 16 + i, as in ``cut``. ``present`` (samples, area, keys) gets which of the keys
    are in the area for any of the samples.
    """
    clusters, areas, of_keys = member.shape
    bits, kept, pair = np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.uint32), 0
    for chunk in range(words.shape[0]):
        for area in range(areas):
            for at in range(of_keys):
                found = np.uint32(0)
                kept[:] = 0
                for k in range(clusters):
                    if of_cluster[chunk, k] and member[k, area, at]:
                        mark(kept, 0, member[k, area, at], of_cluster[chunk, k])
                        found |= member[k, area, at]
                present[chunk, area, at] = found
                if found:
                    for i in range(SIDE):
                        one = words[chunk, keys[at, i]] & kept[i]
                        two = words[chunk, keys[at, SIDE + i]] & kept[SIDE + i]
                        put_marks(by_key, pair * SIDE + i, np.uint32(one), np.uint32(two))
                    pair += 1
    pair = 0
    for at in range(of_keys):
        for chunk in range(words.shape[0]):
            bits[:] = 0
            for i in range(CHUNK):
                mark(bits, 0, words[chunk, keys[at, i]], np.uint32(1) << np.uint32(i))
            for area in range(areas):
                if present[chunk, area, at]:
                    for i in range(SIDE):
                        one = bits[i] & member[of_lane[chunk, i], area, at]
                        two = bits[SIDE + i] & member[of_lane[chunk, SIDE + i], area, at]
                        put_marks(by_sample, pair * SIDE + i, np.uint32(one), np.uint32(two))
                    pair += 1
