"""What a worker of a cluster does with a task of a sweep, and what it answers; its results go to the sweep's folder."""

from __future__ import annotations

import pickle
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from vitdyn._files import is_disk_error
from vitdyn.dynamics import Runtime
from vitdyn.experiments.sweep_folder import SweepFolder
from vitdyn.experiments.sweep_tasks import carry_out
from vitdyn.trajectory import FORMULAS, versions

REFUSED, NO_DISK, NO_ROOM = "refused", "no disk", "no room"
"""Why a task was not carried out: no such worker ever can; the disk takes nothing there; the task met a lack of memory
or another error of the system."""

_turn = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Order:
    """A task as it is sent: cells, pickled, with their keys, and what a worker must have in common with the client."""

    folder: str
    cells: bytes
    keys: tuple[str, ...]
    runtime: Runtime
    paths: tuple[str, ...]
    software: str


class Outcome(NamedTuple):
    """Which worker answers, how many cells failed, and what was in the way of the task, in a word and in words."""

    worker: str
    failed: int = 0
    fault: str = ""
    words: str = ""


def software() -> str:
    """Return what decides the bits of results, besides the processor."""
    python = "{}.{}".format(*sys.version_info)
    return f"python={python} {versions('vitdyn', 'torch', 'numpy', 'numba', 'scipy')} formulas={FORMULAS}"


def carry_out_order(order: Order) -> Outcome:
    """Carry out a task in a worker of dask: one at a time, by as many threads as the worker has."""
    from distributed import get_worker

    worker = get_worker()
    # dask lets each of its threads take a task, and sets OMP_NUM_THREADS to 1: here one task has them all
    with _turn:
        torch.set_num_threads(worker.state.nthreads)
        return _carried_out(order, worker.address)


def _carried_out(order: Order, worker: str) -> Outcome:
    if (own := software()) != order.software:
        return Outcome(worker, 0, REFUSED, f"it has {own}, this machine has {order.software}")
    if not (Path(order.folder) / "sweep").is_dir():
        return Outcome(worker, 0, NO_DISK, f"it does not see {order.folder}, which all machines must share")
    # behind what the worker has itself: the client's files must not hide its packages
    sys.path.extend(path for path in order.paths if path not in sys.path)
    try:
        cells = pickle.loads(order.cells)
    except Exception as error:  # whatever the import of a user's module raises
        reason = " ".join(str(error).split())
        return Outcome(worker, 0, REFUSED, f"it cannot read a task ({type(error).__name__}: {reason})")
    if order.keys != tuple(cell.experiment.key for cell in cells):
        words = "it has other code of a module than this machine has: start the workers anew"
        return Outcome(worker, 0, REFUSED, words)
    try:
        return Outcome(worker, carry_out(SweepFolder(Path(order.folder)), cells, order.keys, order.runtime))
    except Exception as error:
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        full = isinstance(error, ValueError) and is_disk_error(error)
        return Outcome(worker, 0, NO_DISK if full else NO_ROOM, words)
