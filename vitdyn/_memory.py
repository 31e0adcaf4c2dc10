"""What fits into this machine: its memory, and the sizes beyond which nothing is even tried."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from vitdyn._errors import invalid_value

MOST_FRAMES = 10**6
"""All frames of a run are in memory until it ends."""
LAST_STEP = 10**15
"""Whole numbers up to it are exact in float64, which frames are spaced in; at a million steps a second, 32 years."""
MOST_POSITIONS = 2**21
"""Positions of all clusters of a layout. P patches have P² correlations: of 2²⁰ four TiB."""

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container or a batch system says how much memory a job has."""


@cache
def machine_memory() -> int | None:
    """Return the bytes of memory of this machine, or of the job where it has less; None where nobody says."""
    found = []
    if hasattr(os, "sysconf"):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _LIMITS:
        try:
            found.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(found, default=None)


def require_fits(field: str, value: object, needed: float, remedy: str, have: int | None = None) -> None:
    """Raise unless ``needed`` bytes of memory fit into the machine, or into ``have`` bytes of a GPU."""
    limit = machine_memory() if have is None else have
    if limit is not None and needed > limit:
        where = "this machine" if have is None else "the GPU"
        words = f"takes {_gibibytes(needed)} of memory, and {where} has {_gibibytes(limit)}: {remedy}"
        raise invalid_value(field, value, words)


def _gibibytes(count: float) -> str:
    size = count / 2**30
    return f"{size:.1f} GiB" if size < 1000 else f"{size:.1e} GiB"
