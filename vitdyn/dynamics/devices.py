"""Several GPUs of one machine: which group of seeds trains where."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch

from vitdyn._errors import require_integer, wrong

Seed = TypeVar("Seed")
"""A seed, or a row of a grid."""


def devices_of(device: torch.device) -> tuple[torch.device, ...]:
    """Return where seeds may train: all GPUs for "cuda", the device itself for one that is named ("cuda:1", "cpu")."""
    if device.type != "cuda" or device.index is not None:
        return (device,)
    return tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))


def split_over_devices(
    seeds: Sequence[Seed], size: int, devices: Sequence[torch.device | str]
) -> list[tuple[torch.device, tuple[Seed, ...]]]:
    """Split seeds into groups of at most ``size``, dealt out to the devices in turn.

    Groups are as even as can be, and as many as the devices or a multiple of it where there are seeds enough. A
    seed's run does not depend on its group, so the split changes no result.

    Raises ``ValueError`` where there are no devices, or ``size`` is no positive whole number.
    """
    require_integer("size", size, at_least=1)
    if not devices:
        raise wrong("devices", tuple(devices), "must name at least one device")
    rounds = -(-len(seeds) // (size * len(devices)))
    count = min(len(seeds), rounds * len(devices))
    edges = [len(seeds) * index // count for index in range(count + 1)]
    return [
        (torch.device(devices[index % len(devices)]), tuple(seeds[start:stop]))
        for index, (start, stop) in enumerate(pairwise(edges))
    ]
