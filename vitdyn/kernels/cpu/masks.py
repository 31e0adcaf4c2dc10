"""Masks of a seed's visible patches as index bytes, by key and by sample. Compiled for CPU.

Samples are brought into the order of their clusters ("slots"), and cut into chunks of at most 32 of one
cluster. A chunk's word of a key has bit i set where its i-th sample shows the key; a sample's word of a chunk
of at most 32 keys of one area has bit i set where it shows the i-th of them. Each costs about one operation
for eight patches. ``store_index_bytes`` says how words are stored.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vitdyn.data import PatchLayout
from vitdyn.kernels.cpu.bitmasks import copy_to_word, set_bits, store_index_bytes
from vitdyn.kernels.cpu.simd import CHUNK, inner, lanes


class KeyPlan(NamedTuple):
    """In which order and pieces each cluster's keys are summed, for compiled code.

    ``order`` (cluster, key) lists keys by area; ``spans`` (cluster, area, 2) gives each area's part of it. ``cut``
    (cluster, key) lists them in the order in which E is summed, which is the same unless clusters are taken
    ``together`` (how many at a time: 1, or all): then it is by classes, whose keys share their area in every cluster.
    ``chunks`` (chunk, 4) gives area, start and count in ``cut`` for each run of at most 32 keys, and 1 where it is the
    first of its area; those of cluster k are ``chunk_ends[k]`` to ``chunk_ends[k + 1]``. ``member`` (block of patches ·
    cluster · area, patch) is 1 where a patch is in the area, 0 elsewhere and beyond the last patch, and ``owns`` says
    which of its rows are not all 0.
    """

    order: np.ndarray
    spans: np.ndarray
    cut: np.ndarray
    chunks: np.ndarray
    chunk_ends: np.ndarray
    together: int
    member: np.ndarray
    owns: np.ndarray

    @property
    def most_chunks(self) -> int:
        """The largest number of chunks of a cluster."""
        return int(np.diff(self.chunk_ends).max())


@lru_cache(maxsize=32)
def key_plan(layout: PatchLayout, dtype: np.dtype, samples: int) -> KeyPlan:
    """Return the plan of a layout, with ``member`` in the given type.

    Keys that share their area in every cluster are a class. Where classes are few, as with intervals, a table of a
    class's keys serves every cluster.
    """
    areas, clusters, table = layout.areas, layout.clusters, layout.area_of_patch
    class_of_key = np.unique(table, axis=1, return_inverse=True)[1].reshape(-1)
    common, apart = [_cut(class_of_key)], [_cut(area_of_key) for area_of_key in table]
    together = clusters if _work(common, samples) < _work(apart, samples / clusters) else 1
    cuts = common * clusters if together > 1 else apart
    chunks = [_chunks(area_of_key[keys], runs) for area_of_key, (keys, runs) in zip(table, cuts, strict=True)]
    stops = layout.sizes.cumsum(1)
    member = np.zeros((clusters, areas, padded(layout.patches, dtype)), dtype)
    member[:, :, : layout.patches] = table[:, None] == np.arange(areas)[:, None]
    blocks = member.reshape(clusters * areas, -1, lanes(dtype)).transpose(1, 0, 2)
    member = np.ascontiguousarray(blocks).reshape(-1, lanes(dtype))
    return KeyPlan(
        np.array([keys for keys, _ in apart]),
        np.stack([stops - layout.sizes, stops], -1).astype(np.int64),
        np.array([keys for keys, _ in cuts]),
        np.concatenate(chunks),
        np.cumsum([0, *map(len, chunks)]),
        together,
        member,
        np.asarray(member.any(1)),
    )


def _cut(part_of_key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys in the order of their parts, and start and count of runs of at most 32 of one part."""
    stops = np.bincount(part_of_key).cumsum().tolist()
    spans = zip([0, *stops], stops, strict=False)
    runs = [(at, min(CHUNK, stop - at)) for start, stop in spans for at in range(start, stop, CHUNK)]
    return np.argsort(part_of_key, kind="stable"), np.array(runs)


def _chunks(area_in_order: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return a cluster's part of ``KeyPlan.chunks``."""
    area = area_in_order[runs[:, 0]]
    begins = np.zeros_like(area)
    begins[np.unique(area, return_index=True)[1]] = 1
    return np.column_stack([area, runs, begins])


def _work(cuts: list[tuple[np.ndarray, np.ndarray]], samples: float) -> float:
    """Return how many rows are read to sum E for so many samples of each cut; to write one counts as two."""
    counts = np.concatenate([runs[:, 1] for _, runs in cuts])
    filled = 15 * (counts // 4) + 2 ** (counts % 4) - 1  # the empty subset's row is never written
    groups = np.array([1, 2, 4, 4, 6, 6, 8, 8])[(counts - 1) // 4]  # as ``subset_sums.lookup`` reads them
    return float((2 * filled + samples * (groups + 3)).sum())


def padded(patches: int, dtype: np.dtype) -> int:
    """Return the number of patches filled up to whole blocks of queries."""
    return -(-patches // lanes(dtype)) * lanes(dtype)


@inner
def fill_slots(cluster, slots, ends, sample_chunks):  # pragma: no cover  (compiled)
    """Write the samples, ordered by cluster, to ``slots``; those of cluster k are ``ends[0, k]`` to ``ends[0, k + 1]``.

    Also cuts them into chunks (cluster, first slot, count), of which ``ends[1]`` tells the same.
    """
    # passes over the samples, one for each cluster: a stable order without an array of counts, and clusters are few
    chunks, done = 0, 0
    ends[:, 0] = 0
    for k in range(ends.shape[1] - 1):
        first = done
        for b in range(cluster.shape[0]):
            if cluster[b] == k:
                slots[done] = b
                done += 1
        for start in range(first, done, CHUNK):
            sample_chunks[chunks, 0] = k
            sample_chunks[chunks, 1] = start
            sample_chunks[chunks, 2] = min(CHUNK, done - start)
            chunks += 1
        ends[0, k + 1], ends[1, k + 1] = done, chunks


@inner
def fill_index_bytes(
    visible, slots, sample_chunks, chunks, order, cut, key_chunks, chunk_ends, visible_bytes, by_key, by_sample
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write one seed's masks: bytes by slot, padded with 1, and both kinds of index bytes, for ``chunks`` of samples.

    ``visible_bytes`` (slot, padded patch), ``by_key`` (sample chunk, key in the order of its cluster, index byte),
    ``by_sample`` (key chunk of the slot's own cluster, slot, index byte).
    """
    patches = visible.shape[1]
    words, bits = np.empty(patches, np.uint32), np.empty(CHUNK, np.uint32)
    for chunk in range(chunks):
        k, first, count = sample_chunks[chunk, 0], sample_chunks[chunk, 1], sample_chunks[chunk, 2]
        # a transposition of bits: word q collects, sample by sample, in which samples of the chunk key q is visible
        words[:] = 0
        for i in range(count):
            source, target, bit = (
                visible[slots[first + i]],
                visible_bytes[first + i],
                np.uint32(1) << np.uint32(i),
            )
            target[patches:] = 1  # queries beyond the last count as visible: they have no gradient
            for q in range(0, patches - CHUNK + 1, CHUNK):
                set_bits(words, q, copy_to_word(source, q, target, q), bit)
            for q in range(patches - patches % CHUNK, patches):
                target[q] = source[q]
                words[q] |= bit if source[q] else np.uint32(0)
        for i in range(patches):
            store_index_bytes(by_key, chunk * patches + i, words[order[k, i]])
        for at in range(chunk_ends[k], chunk_ends[k + 1]):
            start, keys, own = key_chunks[at, 1], key_chunks[at, 2], at - chunk_ends[k]
            bits[:] = 0
            for i in range(keys):
                set_bits(bits, 0, words[cut[k, start + i]], np.uint32(1 << i))
            for i in range(count):
                store_index_bytes(by_sample, own * by_sample.shape[1] + first + i, bits[i])
