"""Masks of a seed's visible patches as codes, by key and by sample. Compiled for CPU.

Samples are brought into the order of their clusters ("slots"), and cut into chunks of at most 32 of one
cluster. A chunk's word of a key has bit i set where its i-th sample shows the key; a sample's word of a chunk
of at most 32 keys of one area has bit i set where it shows the i-th of them. Each costs about one operation
for eight patches. A word is stored as eight bytes, its nibbles in the high half of each: first the nibbles
0, 2, 4, 6, then 1, 3, 5, 7 (``rows_sums`` reads them as addresses).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vitdyn.attention.rows_vector import compiled, lanes, mark
from vitdyn.data import PatchLayout

CHUNK = 32
EVERY_HIGH = np.uint32(0xF0F0F0F0)


class KeyPlan(NamedTuple):
    """Where the keys of each area lie, for compiled code.

    ``order`` (cluster, key) lists keys by area; ``spans`` (cluster, area, 2) gives each area's part of it;
    ``chunks`` (chunk, 3) gives area, start and count for each run of at most 32 keys of one area, those of
    cluster k from ``chunk_ends[k]`` to ``chunk_ends[k + 1]``; ``member`` (cluster, area, patch) is 1 where a
    patch is in the area, 0 elsewhere and beyond the last patch.
    """

    order: np.ndarray
    spans: np.ndarray
    chunks: np.ndarray
    chunk_ends: np.ndarray
    member: np.ndarray

    @property
    def most_chunks(self) -> int:
        """The largest number of chunks of a cluster."""
        return int(np.diff(self.chunk_ends).max())


@lru_cache(maxsize=32)
def key_plan(layout: PatchLayout, dtype: np.dtype) -> KeyPlan:
    """Return the plan of a layout, with ``member`` in the given type."""
    areas, table = layout.areas, layout.area_of_patch
    order = np.argsort(table, axis=1, kind="stable").astype(np.int64)
    stops = layout.sizes.cumsum(1)
    spans = np.stack([stops - layout.sizes, stops], -1).astype(np.int64)
    chunks, ends = [], [0]
    for cluster in spans.astype(int):
        for area, (start, stop) in enumerate(cluster):
            chunks += [(area, at, min(CHUNK, stop - at)) for at in range(start, stop, CHUNK)]
        ends.append(len(chunks))
    member = np.zeros((layout.clusters, areas, padded(layout.patches, dtype)), dtype)
    member[:, :, : layout.patches] = table[:, None] == np.arange(areas)[:, None]
    return KeyPlan(order, spans, np.array(chunks, np.int64), np.array(ends, np.int64), member)


def padded(patches: int, dtype: np.dtype) -> int:
    """Return the number of patches filled up to whole blocks of queries."""
    return -(-patches // lanes(dtype)) * lanes(dtype)


@compiled
def fill_slots(cluster, clusters, slots, sample_chunks):  # pragma: no cover  (compiled)
    """Order the samples by cluster into ``slots``; return the number of chunks (cluster, first slot, count)."""
    chunks, done = 0, 0
    for k in range(clusters):
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
    return chunks


@compiled
def fill_codes(
    visible, slots, sample_chunks, chunks, order, key_chunks, chunk_ends, shown, by_key, by_sample
):  # pragma: no cover  (compiled)
    """Write one seed's masks: bytes by slot, padded with 1, and both kinds of codes.

    ``shown`` (slot, padded patch), ``by_key`` (sample chunk, patch, 8), ``by_sample`` (key chunk of the slot's own
    cluster, slot, 8).
    """
    patches = visible.shape[1]
    words, bits = np.empty(patches, np.uint32), np.empty(CHUNK, np.uint32)
    key_codes, sample_codes = by_key.view(np.uint32), by_sample.view(np.uint32)
    for chunk in range(chunks):
        k, first, count = sample_chunks[chunk, 0], sample_chunks[chunk, 1], sample_chunks[chunk, 2]
        words[:] = 0
        for i in range(count):
            row = visible[slots[first + i]]
            target = shown[first + i]
            for q in range(patches):
                target[q] = row[q]
                words[q] |= np.uint32(row[q]) << np.uint32(i)
            target[patches:] = 1
        for q in range(patches):
            key_codes[chunk, q, 0] = (words[q] << np.uint32(4)) & EVERY_HIGH
            key_codes[chunk, q, 1] = words[q] & EVERY_HIGH
        for at in range(chunk_ends[k], chunk_ends[k + 1]):
            start, keys = key_chunks[at, 1], key_chunks[at, 2]
            bits[:] = 0
            for i in range(keys):
                mark(bits, words[order[k, start + i]], np.uint32(1 << i))
            own = sample_codes[at - chunk_ends[k]]
            for i in range(count):
                own[first + i, 0] = (bits[i] << np.uint32(4)) & EVERY_HIGH
                own[first + i, 1] = bits[i] & EVERY_HIGH


@compiled
def flip_codes(by_sample, key_chunks, first, last, flipped):  # pragma: no cover  (compiled)
    """Write to ``flipped`` the codes of the masked keys of the slots of one cluster."""
    source, target = by_sample.view(np.uint32), flipped.view(np.uint32)
    for chunk in range(key_chunks.shape[0]):
        every = np.uint32((1 << key_chunks[chunk, 2]) - 1)
        for slot in range(first, last):
            target[chunk, slot, 0] = source[chunk, slot, 0] ^ ((every << np.uint32(4)) & EVERY_HIGH)
            target[chunk, slot, 1] = source[chunk, slot, 1] ^ (every & EVERY_HIGH)
