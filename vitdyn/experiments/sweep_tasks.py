"""The tasks of a sweep: cells that fit together, as many as take some seconds, and how a process carries one out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vitdyn._errors import is_out_of_memory
from vitdyn._files import is_disk_error
from vitdyn._processes import StoppedError
from vitdyn.dynamics import Runtime, Training
from vitdyn.dynamics.grid import batch_key
from vitdyn.experiments.experiment import SMALL_VITS, Experiment
from vitdyn.experiments.side_by_side import train_and_save
from vitdyn.experiments.sweep import Cell
from vitdyn.experiments.sweep_cost import expected_bytes, expected_seconds
from vitdyn.experiments.sweep_folder import SweepFolder

TASK_SECONDS = 10.0
"""How long a task is to take: much longer than an engine needs to hand it out, and little to lose with a worker."""
MOST_CELLS = 256
"""The cells of a task at most: their results are all in memory at its end."""


class Task(NamedTuple):
    """Cells that run together, by their numbers in the sweep and their keys; seconds and bytes that they may take."""

    cells: tuple[int, ...]
    keys: tuple[str, ...]
    seconds: float = 0.0
    bytes: int = 0

    def singly(self) -> Iterator[Task]:
        """Go through tasks of one cell each."""
        return (Task((index,), (key,)) for index, key in zip(self.cells, self.keys, strict=True))


@dataclass
class Planner:
    """Puts cells together to tasks: each takes about ``seconds``, unless one cell alone takes longer.

    Cells of one kind that train in one batch, or flows, run together.
    """

    runtime: Runtime
    seconds: float = TASK_SECONDS
    tasks: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._open: dict[Hashable, int] = {}  # the number of the task of each kind that has room
        self._costs: dict[Hashable, tuple[float, int]] = {}

    def add(self, index: int, experiment: Experiment, key: str) -> None:
        """Put a cell into a task."""
        kind = self._kind(experiment)
        seconds, size = self._cost(kind, experiment)
        at = self._open.get(kind) if kind is not None else None
        held = Task((), ()) if at is None else self.tasks[at]
        if at is None or held.seconds + seconds > self.seconds or len(held.cells) == MOST_CELLS:
            at, held = len(self.tasks), Task((), ())
            self.tasks.append(held)
            self._open[kind] = at
        cells, keys = (*held.cells, index), (*held.keys, key)
        self.tasks[at] = Task(cells, keys, held.seconds + seconds, held.bytes + size)

    def _kind(self, experiment: Experiment) -> Hashable:
        """Return what cells of one task share, None for a cell that runs alone."""
        spec: Any = experiment.training
        if isinstance(spec, SMALL_VITS):
            return None  # it takes a minute or more
        together = batch_key(spec, self.runtime.place) if isinstance(spec, Training) else None
        return type(spec), together

    def _cost(self, kind: Hashable, experiment: Experiment) -> tuple[float, int]:
        """Return seconds and bytes of a cell: the same for all that train in one batch, with as many seeds."""
        spec: Any = experiment.training
        shared = (kind, len(spec.seed_numbers)) if isinstance(kind, tuple) and kind[1] is not None else None
        if shared in self._costs:
            return self._costs[shared]
        cost = expected_seconds(experiment, self.runtime), expected_bytes(experiment, self.runtime)
        if shared is not None:
            self._costs[shared] = cost
        return cost


def carry_out(folder: SweepFolder, cells: Sequence[Cell], keys: Sequence[str], runtime: Runtime) -> int:
    """Run those cells of a task that have no result, keep what each gives or why it fails; return how many failed.

    Cells run together. Where that fails, those without a result run one by one: each ends as it does alone. What is not
    a cell's own, a full disk or too little memory, is raised, and the cells stay without a result. Where ``runtime``
    says ``anew``, a result that cannot be used is made again.
    """
    store = folder.store(runtime)
    missing = [
        (cell, key)
        for cell, key in zip(cells, keys, strict=True)
        if runtime.anew or not folder.result(key).is_file()
    ]
    if len(missing) > 1:
        try:
            store.all([cell.experiment for cell, _ in missing])
            missing = []
        except Exception as error:
            raise_unless_of_a_cell(error)
    failed = 0
    for cell, key in missing:
        try:
            store(cell.experiment)
        except Exception as error:
            raise_unless_of_a_cell(error)
            folder.record(cell, key, error)
            failed += 1
    for key in keys:
        folder.forget_failure(key)
    return failed


def carry_out_one(
    cell: Cell, advance: Callable[[int], object], *, folder: SweepFolder, runtime: Runtime
) -> None:
    """Run a cell that trains a small Vision Transformer in a process of its own; ``advance`` counts cells."""
    path = folder.result(cell.experiment.key)
    try:
        train_and_save((path, cell.experiment), lambda _: advance(0), runtime=runtime)
        folder.forget_failure(cell.experiment.key)
    except Exception as error:
        raise_unless_of_a_cell(error)
        folder.record(cell, cell.experiment.key, error)
    advance(1)


def raise_unless_of_a_cell(error: Exception) -> None:
    """Raise an error that another machine, or this one at another time, may not meet."""
    elsewhere = isinstance(error, OSError | ImportError | StoppedError)
    if elsewhere or is_out_of_memory(error) or is_disk_error(error):
        raise error
