"""The gradient of masked reconstruction by the matrix unit of a core (AMX), in float32: what is usual, most quickly.

Blocks of 16 queries, samples side by side in registers. For each block: E and its pieces (``tiles_sums``), then for
each chunk of samples W by the matrix unit and the pulls on areas (``tiles_shares``), then what keys gather of them,
again by the matrix unit. A block of 64 samples has some 100 KB in play at P = 256, apart from marks: the second cache
feeds it. A seed's result depends on that seed only, to the bit.

Exponents are not shifted and W_0 is a difference. A seed for which that does not do, because some |z_j Φ_j| is large,
some Σ_q E very large or small, or masked keys have next to nothing left, is left to ``rows``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numba.extending import register_jitable

from vitdyn.attention.rows_powers import LOG2_E
from vitdyn.attention.rows_shares import AHEAD, MODERATE_EXPONENT
from vitdyn.attention.rows_vector import (
    CHUNK,
    compiled,
    larger,
    load_part,
    magnitude,
    row,
    set_row,
    splat,
    store_part,
    take_rows,
)
from vitdyn.attention.tiles_lanes import EVERY_LANE, gather, totals_of
from vitdyn.attention.tiles_masks import fill_lanes, fill_marks, fill_own, fill_words, tile_plan
from vitdyn.attention.tiles_shares import pull
from vitdyn.attention.tiles_sums import PAIR, read_queries, sum_keys, write_queries
from vitdyn.attention.tiles_unit import PIECES, SIDE, TILE, available, configure, release, settings
from vitdyn.data import PatchLayout

MOST_AREAS, LEAST_SAMPLES = 8, 16
"""How many areas there may be, and how many samples a cluster must have, for this to be quicker than ``rows``."""
LEAST_FILLING, FEW_PATCHES = (0.4, 0.65), 128
"""How much of the marks must be keys of the area: for one cluster of few patches, and else."""
MASS_STEP = SIDE + 1
"""Rows from area to area: not a multiple of 4096 bytes."""


def worthwhile(layout: PatchLayout, dtype: torch.dtype, samples: int) -> bool:
    """Say whether this is quicker than ``rows``: where the machine has tiles, and they get mostly full."""
    clusters, many = layout.clusters, layout.patches > FEW_PATCHES or layout.clusters > 1
    if (
        dtype != torch.float32
        or layout.areas > MOST_AREAS
        or clusters > SIDE
        or samples < LEAST_SAMPLES * clusters
    ):
        return False
    return available() and tile_plan(layout).filling >= LEAST_FILLING[many]


def prepare(seeds: int, samples: int, layout: PatchLayout) -> Callable[..., Iterable[int]]:
    """Return the gradient for a layout, with scratch of its own.

    It takes what ``_gradient`` takes of seeds, with both results last, and returns the seeds that it has to leave.
    """
    done, room = np.empty(seeds, np.bool_), _make_room(samples, layout)

    def gradient(*given: Any) -> Iterable[int]:
        left = _gradient(*given, done, *room)
        return np.flatnonzero(~done) if left else ()

    return gradient


def _make_room(samples: int, layout: PatchLayout) -> tuple[np.ndarray, ...]:
    """Return the layout's plan, and room for blocks of numbers, marks, pieces and words."""
    plan, areas = tile_plan(layout), layout.areas
    key_chunks, chunks = len(plan.order), -(-samples // CHUNK)
    of_areas = areas * (chunks * (MASS_STEP + 2) + 3 * AHEAD)
    of_slopes = _slope_blocks(areas) * (CHUNK + layout.clusters)
    count = SIDE * (key_chunks | 1) + of_areas + of_slopes + 3 * AHEAD + 3 * SIDE + 2
    pairs = chunks * plan.most_pairs
    return (
        *plan[:-1],
        np.array(plan.in_order),
        torch.empty(count, CHUNK).numpy(),
        *torch.empty(2, pairs * PAIR, dtype=torch.uint16).numpy(),
        *(
            torch.empty(count * PIECES * TILE, dtype=torch.uint16).numpy()
            for count in (key_chunks, chunks * areas)
        ),
        np.empty((chunks, layout.patches + 1), np.uint32),
        _sources_of_slopes(layout),
        settings(),
    )


@register_jitable
def _slope_blocks(areas: int) -> int:
    """Return how many blocks of 32 the slopes (query · area) of a block of queries fill."""
    return -(-SIDE * areas // CHUNK)


def _sources_of_slopes(layout: PatchLayout) -> np.ndarray:
    """Return where ∂L/∂Φ of a block of queries, (query, cluster, area), lies among sums (cluster, query · area)."""
    query, cluster, area = np.indices((SIDE, layout.clusters, layout.areas))
    width = _slope_blocks(layout.areas) * CHUNK
    sources = (cluster * width + query * layout.areas + area).ravel()
    return np.pad(sources, (0, -sources.size % CHUNK)).astype(np.int32).reshape(-1, CHUNK)


@compiled
def _gradient(
    phi, upsilon, latents, cluster, visible, scale, d_phi, d_upsilon, done,
    order, place, keys, member, area, as_it_is, rows, by_key, by_sample, pieces, pulled, words, sources, settings,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write ∂L/∂Φ and ∂L/∂Υ of each seed for which this will do, and to ``done`` for which; return for how many not."""
    seeds, patches, clusters, areas = phi.shape
    in_order, step = as_it_is.item(), order.shape[0] | 1
    chunks, slope_blocks = words.shape[0], _slope_blocks(areas)
    lanes, of_lane = np.empty(chunks * CHUNK, np.int64), np.empty((chunks, CHUNK), np.int32)
    of_cluster = np.empty((chunks, clusters), np.uint32)
    own = np.empty((chunks, patches, areas), np.uint32)
    present = np.empty((chunks, areas, order.shape[0]), np.uint32)
    totals, losses = np.empty((2, SIDE), phi.dtype)
    by_area = clusters * areas > SIDE
    block_phi = np.zeros((SIDE * areas if by_area else SIDE, SIDE), phi.dtype)
    places = np.empty((chunks * areas, CHUNK), np.int32)
    kernel, used = take_rows(rows, 0, SIDE * step)
    gathered, used = take_rows(rows, used, 2 * SIDE)
    masses, used = take_rows(rows, used, chunks * areas * MASS_STEP)
    own_latents, used = take_rows(rows, used, chunks * areas)
    own_strength, used = take_rows(rows, used, chunks * areas)
    ratios, used = take_rows(rows, used, AHEAD * areas)
    weighted, used = take_rows(rows, used, AHEAD * areas)
    strong, used = take_rows(rows, used, AHEAD * areas)
    slopes, used = take_rows(rows, used, slope_blocks * CHUNK)
    sums, used = take_rows(rows, used, slope_blocks * clusters)
    scales, used = take_rows(rows, used, 3 * AHEAD)
    everywhere, used = take_rows(rows, used, SIDE)
    margin, used = take_rows(rows, used, 1)
    spare, used = take_rows(rows, used, 1)
    configure(settings)
    for s in range(seeds):
        fill_lanes(cluster[s], clusters, lanes, of_lane, of_cluster)
        strongest = _by_lane(latents[s], lanes, scale[s], own_latents, own_strength)
        done[s] = strongest * _largest(phi[s], spare) <= MODERATE_EXPONENT
        if not done[s]:
            continue
        margin[0], slopes[:], sums[:] = 0, 0, 0
        if clusters > 1:
            _fill_places(of_lane, areas, by_area, places)
        fill_own(of_cluster, area, own)
        fill_words(visible[s], lanes, words)
        fill_marks(words, of_lane, of_cluster, keys, member, present, by_key, by_sample)
        for first in range(0, patches, SIDE):
            queries = min(SIDE, patches - first)
            done[s] = read_queries(upsilon[s], first, queries, order, in_order, step, kernel, pieces, totals)
            if not done[s]:
                break
            sum_keys(by_key, pieces, present, masses, MASS_STEP)
            everywhere[:] = 0
            if clusters > 1:
                _read_phi(phi[s], first, queries, by_area, block_phi)
            for chunk in range(chunks):
                pull(
                    chunk, own_latents, own_strength, phi[s], block_phi, places, own[chunk],
                    first, queries, words[chunk], totals, masses, MASS_STEP,
                    ratios, weighted, strong, scales, pulled, slopes, everywhere, margin,
                )  # fmt: skip
                # while one cluster fills whole chunks, slopes add up by themselves
                if chunk + 1 == chunks or of_lane[chunk, 0] < of_lane[chunk + 1, CHUNK - 1]:
                    _sum_slopes(slopes, of_lane[chunk, 0], of_lane[chunk, CHUNK - 1], of_cluster[chunk], sums)
            write_queries(
                by_sample, pulled, present, everywhere, kernel, step, losses, gathered,
                first, queries, place, in_order, d_upsilon[s],
            )  # fmt: skip
            _write_slopes(sums, sources, first, queries, d_phi[s])
        done[s] = done[s] and margin[0].min() >= 0
    release()
    return seeds - done.sum()


@compiled
def _by_lane(latents, lanes, scale, own_latents, own_strength):  # pragma: no cover  (compiled)
    """Write z_j log₂e and ``scale`` z_j² as rows (chunk · area) of lanes; return the largest |z_j| log₂e."""
    kind, areas = latents.dtype.type, latents.shape[1]
    most, unit = kind(0), kind(LOG2_E)
    for chunk in range(lanes.size // CHUNK):
        for i in range(CHUNK):
            b = lanes[chunk * CHUNK + i]
            for j in range(areas):
                latent = latents[b, j] if b >= 0 else kind(0)
                own_latents[chunk * areas + j, i] = latent * unit
                own_strength[chunk * areas + j, i] = scale * latent * latent
                most = max(most, abs(latent * unit))
    return most


@compiled
def _largest(values, spare):  # pragma: no cover  (compiled)
    """Return the largest magnitude of an array."""
    most = splat(values.dtype.type(0))
    for at in range(0, values.size, CHUNK):
        most = larger(most, magnitude(load_part(values, np.uint64(at), min(CHUNK, values.size - at))))
    set_row(spare, 0, most)
    return spare[0].max()


@compiled
def _fill_places(of_lane, areas, by_area, places):  # pragma: no cover  (compiled)
    """Write where in its row of Φ (``_read_phi``) each lane finds its own, as rows (chunk · area) of lanes."""
    for chunk in range(of_lane.shape[0]):
        for j in range(areas):
            for i in range(CHUNK):
                places[chunk * areas + j, i] = of_lane[chunk, i] if by_area else of_lane[chunk, i] * areas + j


@compiled
def _read_phi(phi, first, queries, by_area, block):  # pragma: no cover  (compiled)
    """Copy Φ of a block of queries: as rows (query · area) of clusters, or (query) of clusters and areas.

    The second where they fit: rows that are written anew for each block have to come back to the first cache.
    """
    clusters, areas = phi.shape[1:]
    if not by_area:
        size = clusters * areas
        for u in range(queries):
            store_part(block, np.uint64(u * SIDE), size, load_part(phi, np.uint64((first + u) * size), size))
        return
    for u in range(queries):
        for k in range(clusters):
            for j in range(areas):
                block[u * areas + j, k] = phi[first + u, k, j]


@compiled
def _sum_slopes(slopes, first, last, of_cluster, sums):  # pragma: no cover  (compiled)
    """Add slopes (query · area) of the lanes of clusters ``first`` to ``last`` to each one's rows of ``sums``."""
    blocks = slopes.shape[0] // CHUNK
    for k in range(first, last + 1):
        word = of_cluster[k] if first < last else EVERY_LANE
        for at in range(blocks if word else 0):
            set_row(sums, k * blocks + at, row(sums, k * blocks + at) + totals_of(slopes, at * CHUNK, word))
    slopes[:] = 0


@compiled
def _write_slopes(sums, sources, first, queries, d_phi):  # pragma: no cover  (compiled)
    """Write ∂L/∂Φ of a block of queries, and zeros to ``sums``."""
    size, unit = d_phi[0].size, splat(d_phi.dtype.type(1 / LOG2_E))
    for at in range(0, queries * size, CHUNK):
        slope = gather(sums, 0, sources, at // CHUNK) * unit
        store_part(d_phi, np.uint64(first * size + at), min(CHUNK, queries * size - at), slope)
    sums[:] = 0
