"""How the benchmarks measure: contenders in turn in one process, on one core, medians with quartiles."""

import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

BURST, SLOW = 0.02, 5.0
"""Seconds that one turn of a fast contender lasts at least; seconds of a call from which one call must do."""

Samples = dict[str, list[float]]
"""Seconds of processor time a call, one value for each turn, by contender."""


def cores() -> list[int]:
    """The cores that this process was given."""
    return sorted(os.sched_getaffinity(0))


def spent(call: Callable[[], object], times: int = 1) -> tuple[float, float]:
    """Return the processor time of the whole process, and the time that passed, for one of several calls.

    On a core of its own the two agree. Where others share the core only the first says what the work costs.
    """
    passed, worked = time.perf_counter(), time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - worked) / times, (time.perf_counter() - passed) / times


def in_turn(
    calls: dict[str, Callable[[], object]], seconds: float, known: dict[str, float] | None = None
) -> tuple[Samples, float]:
    """Time all calls in turn until ``seconds`` have passed, thrice at least, so that drifts fall on all alike.

    ``known`` is what a first call of each took: one of ``SLOW`` seconds is not made again, that one time is its
    value. Also returns which share of a core the process was given.
    """
    began, shares = time.perf_counter(), []
    known = known or {}
    slow = {name: cost for name, cost in known.items() if cost >= SLOW}
    others = [name for name in calls if name not in slow]
    found: Samples = {name: [slow[name]] if name in slow else [] for name in calls}
    long = {name for name, cost in known.items() if cost > 20 * BURST}
    times = {name: 1 if name in long else max(1, round(BURST / spent(calls[name])[0])) for name in others}
    enabled = gc.isenabled()
    gc.disable()
    for turn in range(1000):
        if turn >= 3 and time.perf_counter() - began > seconds:
            break
        for name in others:
            if times[name] > 1:
                calls[name]()  # brings its arrays back into the cache that the others used
            worked, passed = spent(calls[name], times[name])
            found[name].append(worked)
            shares.append(worked / passed)
    if enabled:
        gc.enable()
    return found, float(np.median(shares)) if shares else 1.0


def spread(values: list[float]) -> dict[str, float]:
    """Return median, quartiles and number of values."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "low": float(low), "high": float(high), "count": len(values)}


def ratios(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Return how many times more ``slow`` takes, turn by turn where both were timed in turn."""
    if len(slow) != len(fast):
        slow, fast = [float(np.median(slow))], [float(np.median(fast))]
    return spread([a / b for a, b in zip(slow, fast, strict=True)])


def side_by_side(works: list[Callable[[], object]], given: list[int]) -> float:
    """Run each work in a thread bound to a core of its own, all at once; return the time that passed."""

    def run(pair):
        os.sched_setaffinity(0, {pair[1]})  # of this thread alone
        pair[0]()

    with ThreadPoolExecutor(len(works), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(run, ((lambda: None, core) for core in given)))
        began = time.perf_counter()
        list(pool.map(run, zip(works, given, strict=True)))
        return time.perf_counter() - began


def rates(size: int = 1536, mebibytes: int = 128) -> dict[str, float]:
    """Measure what the core can do: a float32 product of two matrices, a copy that no cache of a core holds."""
    left, right = torch.randn(2, size, size)
    source, target = torch.randn(2, mebibytes * 2**18)
    product = torch.empty(size, size)
    multiply = lambda: torch.mm(left, right, out=product)  # noqa: E731
    copy = lambda: target.copy_(source)  # noqa: E731
    multiply(), copy()
    flops = 2 * size**3 / np.median([spent(multiply)[0] for _ in range(9)])
    moved = 2 * mebibytes * 2**20 / np.median([spent(copy)[0] for _ in range(9)])
    return {"sgemm": float(flops), "copy": float(moved)}


def machine() -> dict[str, object]:
    """Return what a reader must know to read the numbers."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(part for line in lines if len(part := [x.strip() for x in line.split(":", 1)]) == 2)
    flags = fields.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "")
    names = ("torch", "numba", "jax", "numpy")
    return {
        "processor": fields.get("model name", platform.processor()),
        "vectors": {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}.get(vectors, platform.machine()),
        "cores": len(cores()),
        "date": datetime.now(UTC).strftime("%d %B %Y").lstrip("0"),
        "versions": {"Python": platform.python_version()} | {name: _version(name) for name in names},
        **rates(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "none"


def available_bytes() -> int:
    """Return what memory the machine has left."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))


def peak_mebibytes(name: str, case) -> float:
    """Return the peak resident memory of three steps above what imports and compiled code take, in a new process."""
    arguments = [f"{field}={value}" for field, value in vars(case).items() if field != "layout"]
    command = [sys.executable, str(Path(__file__).with_name("peak_memory.py")), name, *arguments]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=plain).stdout)
