"""How much memory seeds take while they train, and how many train together."""

from __future__ import annotations

import os

import torch

from vitdyn.attention import Correlations
from vitdyn.dynamics.devices import devices_of, split_over_devices
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.dynamics.training import Training
from vitdyn.objectives import Objective

GROUP_WORK = 2**24
"""P² · samples of a group on CPU: one seed at P = 256 with 256 samples, 64 seeds at P = 64 with 64."""

CACHE_MIB = 16.0
"""What a group on CPU may take, where more than one seed would: groups stay near the cache."""

GRAPH = 8
"""Arrays (sample, area, query) that autograd keeps of one view with content queries."""

DIVERSITY_MAPS = 8
"""Arrays (query, key) that a frame takes for the maps of its two samples of attention diversity."""

Placement = tuple[torch.device, tuple[int, ...]]


def estimate_memory(training: Training) -> int:
    """Return the bytes that one seed takes while it trains, within some 30 % (contrast of many samples takes less).

    Q, its gradient, what the rule of descent carries, and the copy that is kept at the end or for a checkpoint. For a
    frame, three arrays (sample, area, query) of the evaluation samples and ``DIVERSITY_MAPS`` arrays (query, key).
    Where attention is stored at all, one array (sample, area, query) for each view of the training samples;
    with content queries autograd keeps ``GRAPH`` of them, of training and of evaluation samples.
    """
    layout, objective = training.generator.layout, training.objective
    patches, areas, clusters = layout.patches, layout.areas, layout.clusters
    blocks = patches**2 + patches * areas * clusters
    carried = len(training.rule.init(Correlations(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1))))
    views = 2 if objective.family in ("contrastive", "hybrid") else 1
    evaluated = training.evaluation_samples * areas * patches
    trained = training.samples * areas * patches
    stored = 0
    if training.content_queries:
        blocks += clusters * areas * (patches + areas)
        stored = GRAPH * (views * (trained + evaluated) + patches**2)
    elif type(objective).residual_strength is Objective.residual_strength:
        stored = views * trained
    frame = 3 * evaluated + DIVERSITY_MAPS * patches**2
    numbers = (3 + carried) * blocks + stored + frame
    masks = 2 * views * training.samples * patches
    return numbers * torch.finfo(PRECISIONS[training.precision]).bits // 8 + masks


def default_limit(device: torch.device) -> float:
    """Return how many MiB a group may take: on a GPU the largest power of two within 80 % of what is free."""
    if device.type == "cpu":
        return CACHE_MIB
    free = min(torch.cuda.mem_get_info(each)[0] for each in devices_of(device))
    return float(2 ** (int(0.8 * free / 2**20).bit_length() - 1))


def split_seeds(training: Training, device: torch.device, limit_mib: float) -> list[Placement]:
    """Split the seeds into groups that train together, each with its device.

    A group's memory stays under the limit, where a single seed's does. On CPU the split depends on the
    specification alone: a step of a group is about ``GROUP_WORK`` multiplications, enough to hide what the host adds
    to a step, and not so much that a core waits for another. On GPUs groups are as large as memory allows, dealt
    out over the devices.
    """
    by_memory = max(1, int(limit_mib * 2**20) // estimate_memory(training))
    if device.type == "cuda":
        return split_over_devices(training.seed_numbers, by_memory, devices_of(device))
    by_work = GROUP_WORK // (training.generator.layout.patches**2 * training.samples)
    size, seeds = max(1, min(by_memory, by_work)), training.seed_numbers
    return [(device, seeds[index : index + size]) for index in range(0, len(seeds), size)]


def side_by_side(training: Training, groups: list[Placement]) -> int:
    """Return how many groups train at the same time: one to a GPU, or to a core as far as memory goes."""
    devices = {device for device, _ in groups}
    if any(device.type == "cuda" for device in devices):
        return len(devices)
    of_a_group = len(groups[0][1]) * estimate_memory(training)
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(groups), torch.get_num_threads(), int(0.8 * installed) // of_a_group))
