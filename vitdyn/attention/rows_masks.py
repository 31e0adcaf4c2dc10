"""Masks of a seed's visible patches as codes, by key and by sample. Compiled for CPU.

Samples are brought into the order of their clusters ("slots"), and cut into chunks of at most 32 of one
cluster. A chunk's word of a key has bit i set where its i-th sample shows the key; a sample's word of a chunk
of at most 32 keys of one area has bit i set where it shows the i-th of them. Each costs about one operation
for eight patches. ``put_word`` says how words are stored.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vitdyn.attention.rows_vector import CHUNK, compiled, lanes
from vitdyn.attention.rows_words import mark, put_word, take_word
from vitdyn.data import PatchLayout


class KeyPlan(NamedTuple):
    """Where the keys of each area lie, for compiled code.

    ``order`` (cluster, key) lists keys by area; ``spans`` (cluster, area, 2) gives each area's part of it;
    ``chunks`` (chunk, 3) gives area, start and count for each run of at most 32 keys of one area, those of
    cluster k from ``chunk_ends[k]`` to ``chunk_ends[k + 1]``; ``member`` (block of patches · cluster ·
    area, patch) is 1 where a patch is in the area, 0 elsewhere and beyond the last patch, and ``owns`` says which of
    its rows are not all 0.
    """

    order: np.ndarray
    spans: np.ndarray
    chunks: np.ndarray
    chunk_ends: np.ndarray
    member: np.ndarray
    owns: np.ndarray

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
    blocks = member.reshape(layout.clusters * areas, -1, lanes(dtype)).transpose(1, 0, 2)
    member = np.ascontiguousarray(blocks).reshape(-1, lanes(dtype))
    owns = np.asarray(member.any(1))
    return KeyPlan(order, spans, np.array(chunks, np.int64), np.array(ends, np.int64), member, owns)


def padded(patches: int, dtype: np.dtype) -> int:
    """Return the number of patches filled up to whole blocks of queries."""
    return -(-patches // lanes(dtype)) * lanes(dtype)


@compiled
def fill_slots(cluster, slots, ends, sample_chunks):  # pragma: no cover  (compiled)
    """Order the samples by cluster into ``slots``, of which cluster k has ``ends[k]`` to ``ends[k + 1]``.

    Cuts them to chunks (cluster, first slot, count), of which cluster k has ``ends`` [1] in the same way.
    """
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


@compiled
def fill_codes(
    visible, slots, sample_chunks, order, key_chunks, chunk_ends, shown, by_key, by_sample
):  # pragma: no cover  (compiled)
    """Write one seed's masks: bytes by slot, padded with 1, and both kinds of codes.

    ``shown`` (slot, padded patch), ``by_key`` (sample chunk, key chunk of its cluster · 32, code), ``by_sample`` (key
    chunk of the slot's own cluster, slot, code).
    """
    patches = visible.shape[1]
    words, bits = np.empty(patches, np.uint32), np.empty(CHUNK, np.uint32)
    for chunk in range(sample_chunks.shape[0]):
        k, first, count = sample_chunks[chunk, 0], sample_chunks[chunk, 1], sample_chunks[chunk, 2]
        words[:] = 0
        for i in range(count):
            row, target, bit = visible[slots[first + i]], shown[first + i], np.uint32(1) << np.uint32(i)
            target[patches:] = 1
            for q in range(0, patches - CHUNK + 1, CHUNK):
                mark(words, q, take_word(row, q, target, q), bit)
            for q in range(patches - patches % CHUNK, patches):
                target[q] = row[q]
                words[q] |= bit if row[q] else np.uint32(0)
        for at in range(chunk_ends[k], chunk_ends[k + 1]):
            start, keys, own = key_chunks[at, 1], key_chunks[at, 2], at - chunk_ends[k]
            bits[:] = 0
            for i in range(CHUNK):
                word = words[order[k, start + i]] if i < keys else np.uint32(0)
                mark(bits, 0, word, np.uint32(1 << i))
                put_word(by_key, chunk * by_key.shape[1] + own * CHUNK + i, word)
            for i in range(count):
                put_word(by_sample, own * by_sample.shape[1] + first + i, bits[i])
