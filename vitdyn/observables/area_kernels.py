"""The sums of a frame in one pass over memory, compiled for the CPU; other devices have torch's forms of the same.

Each seed is summed by itself and in one order, so that its bits don't depend on its neighbours. Means are summed in
double precision. The loops run along the last axis of contiguous arrays, where they become vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vitdyn._compiler import compiled

_compiled = compiled(needs_folder=False)


@_compiled
def sum_samples(
    attention: Float[np.ndarray, "seed sample area query"],
    errors: Float[np.ndarray, "seed sample query"],
    counted: Bool[np.ndarray, "seed sample query"],
    visible: Bool[np.ndarray, "seed sample query"],
    area: Int[np.ndarray, "cluster query"],
    cluster: Int[np.ndarray, "seed sample"],
    sums: Float[np.ndarray, "seed cluster row query"],
    number: Float[np.ndarray, "seed cluster kind query"],
) -> None:  # pragma: no cover  (compiled)
    """Add to ``sums`` each sample's A to every area, A_own and squared error; to ``number``, how many count for each.

    A counts where a query is ``counted``, A_own where its sample shows some of its area besides, an error where the
    query is masked.
    """
    seeds, samples, areas, queries = attention.shape
    shows = np.empty(areas, np.bool_)
    # float weights: a product with 0 or 1 is branchless
    weight, own = np.empty(queries, attention.dtype), np.empty(queries, attention.dtype)
    for seed in range(seeds):
        for sample in range(samples):
            k = cluster[seed, sample]
            total, count, seen = sums[seed, k], number[seed, k], visible[seed, sample]
            shows[:] = False
            for query in range(queries):
                if seen[query]:
                    shows[area[k, query]] = True
                weight[query] = counted[seed, sample, query]
            for j in range(areas):
                for query in range(queries):
                    total[j, query] += attention[seed, sample, j, query] * weight[query]
            for query in range(queries):
                j = area[k, query]
                own[query] = attention[seed, sample, j, query] if shows[j] else 0
                count[1, query] += weight[query] if shows[j] else 0
            for query in range(queries):
                total[areas, query] += own[query] * weight[query]
                count[0, query] += weight[query]
                total[areas + 1, query] += 0 if seen[query] else errors[seed, sample, query]
                count[2, query] += 0 if seen[query] else 1


@_compiled
def _fold(values: Any, total: Any, low: Any, high: Any) -> None:  # pragma: no cover  (compiled)
    for place in range(values.size):
        value = values[place]
        total[place] += value
        low[place] = value if value < low[place] else low[place]
        high[place] = value if value > high[place] else high[place]


@_compiled
def fold_positions(
    values: Float[np.ndarray, "seed cluster query rest"],
    area: Int[np.ndarray, "cluster query"],
    found: Float[np.ndarray, "statistic seed cluster area rest"],
) -> None:  # pragma: no cover  (compiled)
    """Write mean, minimum and maximum over the positions of each area, NaN left out; NaN where nothing is left."""
    seeds, clusters, queries, rest = values.shape
    for seed in range(seeds):
        for k in range(clusters):
            total, number = np.zeros(found.shape[3:]), np.zeros(found.shape[3:])
            low, high = found[1, seed, k], found[2, seed, k]
            low[:], high[:] = np.inf, -np.inf
            for query in range(queries):
                i = area[k, query]
                for place in range(rest):
                    value = values[seed, k, query, place]
                    is_there = value == value  # false of NaN, as is every comparison below
                    total[i, place] += value if is_there else 0.0
                    number[i, place] += 1.0 if is_there else 0.0
                    low[i, place] = value if value < low[i, place] else low[i, place]
                    high[i, place] = value if value > high[i, place] else high[i, place]
            _finish(total, number, found[:, seed, k])


@_compiled
def fold_pairs(
    values: Float[np.ndarray, "seed query key"],
    area: Int[np.ndarray, "cluster query"],
    found: Float[np.ndarray, "statistic seed cluster area key_area"],
) -> None:  # pragma: no cover  (compiled)
    """Write mean, minimum and maximum over the pairs p ≠ q of each pair of areas; NaN where there is none."""
    areas, patches = found.shape[3], values.shape[1]
    for seed in range(values.shape[0]):
        for k in range(found.shape[2]):
            by_key, low = np.zeros((areas, patches), values.dtype), np.empty((areas, patches), values.dtype)
            high = np.empty((areas, patches), values.dtype)
            low[:], high[:] = np.inf, -np.inf
            for p in range(patches):
                i, row = area[k, p], values[seed, p]
                _fold(row[:p], by_key[i, :p], low[i, :p], high[i, :p])
                _fold(row[p + 1 :], by_key[i, p + 1 :], low[i, p + 1 :], high[i, p + 1 :])
            total, sizes = np.zeros((areas, areas)), np.zeros(areas)
            lowest, highest = found[1, seed, k], found[2, seed, k]
            lowest[:], highest[:] = np.inf, -np.inf
            for q in range(patches):
                j = area[k, q]
                sizes[j] += 1
                for i in range(areas):
                    total[i, j] += by_key[i, q]
                    lowest[i, j] = min(lowest[i, j], low[i, q])
                    highest[i, j] = max(highest[i, j], high[i, q])
            number = np.empty((areas, areas))  # by a loop: np.outer takes seconds to compile
            for i in range(areas):
                for j in range(areas):
                    number[i, j] = sizes[i] * (sizes[j] - (i == j))
            _finish(total, number, found[:, seed, k])


@_compiled
def _finish(total: Any, number: Any, found: Any) -> None:  # pragma: no cover  (compiled)
    """Write means; make all three statistics NaN where there is no number."""
    for i in range(total.shape[0]):
        for j in range(total.shape[1]):
            if number[i, j] == 0:
                found[:, i, j] = np.nan
            else:
                found[0, i, j] = total[i, j] / number[i, j]
