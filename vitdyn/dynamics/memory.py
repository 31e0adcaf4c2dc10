"""How much memory seeds take while they train, and how many of them train together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch

from vitdyn._errors import require_choice, require_kind
from vitdyn._memory import machine_memory, require_fits
from vitdyn.dynamics.grid import Replica, ReplicaBatch, batch_key, batches_of_cells, is_layer, plan_of
from vitdyn.dynamics.initial import parameter_count
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.dynamics.training import Training
from vitdyn.kernels import Correlations

GROUP_WORK = 2**24
"""P² · samples of a group on CPU: one seed at P = 256 with 256 samples, 64 seeds at P = 64 with 64."""

LEAST_WORK = 2**21
"""P² · samples · seeds of a group on CPU below which groups train in turn: side by side they would wait for the
interpreter's lock longer than they compute (2 seeds at P = 64 take twice as long so)."""

CACHE_MIB = 16.0
"""What a group on CPU may take, where more than one seed would: groups stay near the cache."""

FRAME_ARRAYS = {"cpu": (2, 1), "cuda": (3, 3)}
"""Arrays (sample, area, query), and arrays (query, key), that a frame takes: on CPU compiled loops sum without more."""


def estimate_memory(training: Training, device: str = "cpu") -> int:
    """Return the bytes that one seed takes while it trains on a kind of device, within some 30 %.

    These are Q, its gradient and what the optimizer carries; what is kept of attention, as the plan says
    (``kernels/README.md``); masks and latents of a batch, and a fixed data set; and whichever is larger of a
    frame's arrays (``FRAME_ARRAYS``) and of the copy of the state that is kept at the end or for a
    checkpoint. The estimate is of what is in use at once: the C library may keep as much again of freed
    arrays, while these are below 32 MiB.
    """
    require_kind("training", training, Training)
    require_choice("device", device, ("cpu", "cuda"))
    given = training.batch_size, training.evaluation_samples, training.dataset_size or 0
    return _estimate(training, device, *given)


def _estimate(training: Training, device: str, samples: int, evaluation_samples: int, dataset: int) -> int:
    layout = training.generator.layout
    patches, areas = layout.patches, layout.areas
    blocks, carried = correlation_count(training), optimizer_arrays(training)
    views = training.objective.view_count
    if is_layer(training):
        stored = plan_of(training, device).stored_numbers(samples, evaluation_samples, views)
    else:
        numbers_of, sizes = training.trained_model.stored_numbers, (patches, training.generator.feature_count)
        stored = max(numbers_of(*sizes, samples, views), numbers_of(*sizes, evaluation_samples, 0))
    by_area, maps = FRAME_ARRAYS[device]
    frame = by_area * evaluation_samples * areas * patches + maps * patches**2
    copy = (1 + carried) * blocks
    numbers = (2 + carried) * blocks + stored + max(frame, copy)
    masks = 2 * views * samples * patches
    drawn = (samples + dataset) * training.generator.bytes_per_sample
    return numbers * _bytes(training) + masks + drawn


def correlation_count(training: Training) -> int:
    """Return how many numbers the correlations of a seed are."""
    if not is_layer(training):
        return parameter_count(training)
    layout = training.generator.layout
    patches, by_cluster = layout.patches, layout.areas * layout.clusters
    content = by_cluster * (patches + layout.areas) if training.content_queries else 0
    return patches**2 + patches * by_cluster + content


def optimizer_arrays(training: Training) -> int:
    """Return how many arrays like the correlations the optimizer carries from step to step."""
    # asked, not known: a user's optimizer carries what it likes
    return len(training.resolved_optimizer.init(Correlations(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1))))


def _bytes(training: Training) -> int:
    return torch.finfo(PRECISIONS[training.precision]).bits // 8


def kept_memory(training: Training) -> int:
    """Return the bytes that all seeds of a run keep until it ends: their last state, three times, and their frames."""
    states = (3 + optimizer_arrays(training)) * state_bytes(training)
    return states + 2 * recorded_bytes(training)


def state_bytes(training: Training) -> int:
    """Return the bytes of the correlations of all seeds."""
    return len(training.seed_numbers) * correlation_count(training) * _bytes(training)


def recorded_bytes(training: Training) -> int:
    """Return the bytes of what all seeds record."""
    layout = training.generator.layout
    frames = len(training.schedule.recorded_steps(training.steps))
    numbers = sum(
        prod(each.shape(layout, training.trained_model, 1, training.evaluation_samples))
        * (training.steps if each.each_step else frames)
        for each in training.recorded
    )
    return len(training.seed_numbers) * numbers * _bytes(training)


def require_memory(cells: Sequence[Training], device: torch.device) -> None:
    """Raise ``ValueError`` where what cells are predicted to take is more than there is, with the field to lower."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    largest = 0
    for cell in cells:
        one = estimate_memory(cell, device.type)
        field, value = _dearest(cell, device.type, one)
        require_fits(field, value, one, f"one seed alone does not fit; lower {field}", free)
        largest = max(largest, one)
    kept = sum(kept_memory(cell) for cell in cells)
    count = sum(len(cell.seed_numbers) for cell in cells)
    working = largest if free is None else 0
    require_fits("seeds", count, kept + working, "take fewer seeds, or run them in parts")


def _dearest(training: Training, device: str, whole: int) -> tuple[str, int]:
    """Return the field, with its value, that most of a seed's memory goes to."""
    given = {
        "batch_size": training.batch_size,
        "evaluation_samples": training.evaluation_samples,
        "dataset_size": training.dataset_size or 0,
    }
    # the field whose least value saves most is the one to lower
    without = {name: _estimate(training, device, *(given | {name: 1}).values()) for name in given}
    name = min(without, key=without.__getitem__)
    if without[name] < whole / 2:
        return name, given[name]
    layout = training.generator.layout
    if layout.areas * layout.clusters > 4 * layout.patches:
        return "clusters", layout.clusters
    return "patches", layout.patches


def default_limit(device: torch.device) -> float:
    """Return how many MiB a group may take: on a GPU the largest power of two within 80 % of what is free."""
    if device.type == "cpu":
        return CACHE_MIB
    free = torch.cuda.mem_get_info(device)[0]
    # a power of two, since what is free differs from call to call, and the split should not
    return float(2 ** (int(0.8 * free / 2**20).bit_length() - 1))


def split_cells(cells: Sequence[Training], device: torch.device, limit_mib: float) -> list[ReplicaBatch]:
    """Split the seeds of all cells of a grid into groups that train together, on CPU the longest first.

    A group's memory stays under the limit, where a single seed's does. The split of a cell that is the only one, or
    trains by itself (``batch_key``), depends on the specification alone.

    On CPU a step of a group is about ``GROUP_WORK`` multiplications, enough to hide what the host adds to a step, and
    not so much that a core waits for another. Cells that share a batch are cut evenly, within the same limits, into as
    many groups as give every core its part of all work but none less than ``LEAST_WORK``; rows of one seed stay side
    by side, since cells draw alike for it.

    On a GPU each cell is cut as it is alone; a piece joins the last group of its batch if memory allows and that holds
    no piece of the same cell.
    """
    if device.type == "cuda":
        return _split_on_gpu(cells, device, limit_mib)
    batches = batches_of_cells(cells, device)
    work = [sum(work_of(cells[index]) for index in own) for own in batches]
    groups = []
    for own, part in zip(batches, work, strict=True):
        first = cells[own[0]]
        rows = [(cell, seed) for cell in own for seed in cells[cell].seed_numbers]
        size = max(1, min(_most_rows(first, device, limit_mib), GROUP_WORK // _work_of_a_step(first)))
        pieces = [tuple(rows[index : index + size]) for index in range(0, len(rows), size)]
        if len(cells) > 1 and batch_key(first, device) is not None:
            rows.sort(key=lambda row: row[1])
            wanted = -(-torch.get_num_threads() * part // max(1, sum(work)))
            worthwhile = _work_of_a_step(first) * len(rows) // max(1, LEAST_WORK)
            count = max(len(pieces), min(wanted, worthwhile, len(rows)))
            pieces = _even_pieces(rows, -(-len(rows) // count))
        groups += [ReplicaBatch(tuple(cells), piece, device) for piece in pieces]
    # the longest first, so that no core is left with a long one when the others are done
    groups.sort(key=lambda group: -group.common.steps * _work_of_a_step(group.common) * len(group.rows))
    return groups


def _split_on_gpu(cells: Sequence[Training], device: torch.device, limit_mib: float) -> list[ReplicaBatch]:
    groups: list[list[Replica]] = []
    for own in batches_of_cells(cells, device):
        size = _most_rows(cells[own[0]], device, limit_mib)
        last: list[Replica] = []
        for cell in own:
            for piece in _even_pieces([(cell, seed) for seed in cells[cell].seed_numbers], size):
                if not last or last[-1][0] == cell or len(last) + len(piece) > size:
                    last = []
                    groups.append(last)
                last.extend(piece)
    return [ReplicaBatch(tuple(cells), tuple(rows), device) for rows in groups]


def _even_pieces(rows: Sequence[Replica], size: int) -> list[tuple[Replica, ...]]:
    """Cut rows into as few pieces of at most ``size`` as there can be, whose lengths differ by one at most."""
    count = -(-len(rows) // size)
    edges = [len(rows) * index // count for index in range(count + 1)]
    return [tuple(rows[start:stop]) for start, stop in pairwise(edges)]


def concurrent_groups(groups: list[ReplicaBatch]) -> int:
    """Return how many groups train at the same time: one on a GPU; on CPU one to a core, if memory and work allow."""
    if any(group.device.type == "cuda" for group in groups):
        return 1
    largest = max(len(group.rows) * estimate_memory(group.common, group.device.type) for group in groups)
    installed = machine_memory() or largest
    worthwhile = sum(_work_of_a_step(group.common) * len(group.rows) >= LEAST_WORK for group in groups)
    return max(1, min(worthwhile, torch.get_num_threads(), int(0.8 * installed) // largest))


def _most_rows(training: Training, device: torch.device, limit_mib: float) -> int:
    return max(1, int(limit_mib * 2**20) // estimate_memory(training, device.type))


def work_of(training: Training) -> int:
    """Return about how many multiplications a cell's steps take, for its share of a grid's work."""
    return len(training.seed_numbers) * training.steps * _work_of_a_step(training)


def _work_of_a_step(training: Training) -> int:
    return training.generator.layout.patches**2 * training.batch_size
