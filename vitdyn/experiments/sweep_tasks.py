"""The tasks of a sweep: cells that fit together, as many as take some seconds, and how a process carries one out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from vitdyn._errors import is_out_of_memory
from vitdyn._files import is_disk_error
from vitdyn.dynamics import Runtime, Training
from vitdyn.dynamics.grid import batch_key
from vitdyn.experiments.experiment import SMALL_VITS, Experiment
from vitdyn.experiments.sweep import Cell, Sweep
from vitdyn.experiments.sweep_cost import expected_bytes, expected_seconds
from vitdyn.experiments.sweep_folder import DONE, FAILED, Definition, SweepFolder

TASK_SECONDS = 10.0
"""How long a task is to take: much longer than an engine needs to hand it out, and little to lose with a worker."""
MOST_CELLS = 256
"""The cells of a task at most: their results are all in memory at its end."""


class Task(NamedTuple):
    """Cells that run together, by their numbers in the sweep; seconds that they may take here, and bytes on disk."""

    cells: tuple[int, ...]
    seconds: float
    bytes: int = 0


def unfinished(definition: Definition, folder: SweepFolder, *, again: bool = False) -> Iterator[int]:
    """Go through the numbers of the cells without a result; of those that failed only if they are to run ``again``."""
    for index, key in enumerate(definition.keys):
        if key and folder.state(key) not in ((DONE,) if again else (DONE, FAILED)):
            yield index


def tasks_of(
    sweep: Sweep, cells: Iterable[int], runtime: Runtime, *, seconds: float = TASK_SECONDS
) -> Iterator[Task]:
    """Go through the tasks of some cells: each takes about ``seconds``, unless one cell alone takes longer."""
    open_tasks: dict[Hashable, Task] = {}
    for index in cells:
        experiment = sweep[index].experiment
        kind, own = _fitting(experiment, runtime), expected_seconds(experiment, runtime)
        held = open_tasks.pop(kind, Task((), 0.0))
        if held.cells and (held.seconds + own > seconds or len(held.cells) == MOST_CELLS):
            yield held
            held = Task((), 0.0)
        size = held.bytes + expected_bytes(experiment, runtime)
        open_tasks[kind] = Task((*held.cells, index), held.seconds + own, size)
    yield from open_tasks.values()


def carry_out(
    folder: SweepFolder, cells: Sequence[Cell], runtime: Runtime, workers: int | None = None
) -> int:
    """Run those cells of a task that have no result, keep what each gives or why it fails; return how many failed.

    Cells run together. Where that fails, those without a result run one by one: each ends as it does alone. What is not
    a cell's own, a full disk or too little memory, is raised, and the cells stay without a result.
    """
    store = folder.store(runtime, workers)
    missing = [cell for cell in cells if not folder.result(cell.experiment.key).is_file()]
    if len(missing) > 1:
        try:
            store.all([cell.experiment for cell in missing])
            return 0
        except Exception as error:
            _raise_unless_of_a_cell(error)
    failed = 0
    for cell in missing:
        try:
            store(cell.experiment)
        except Exception as error:
            _raise_unless_of_a_cell(error)
            folder.record(cell, cell.experiment.key, error)
            failed += 1
    return failed


def _raise_unless_of_a_cell(error: Exception) -> None:
    """Raise an error that another machine, or this one at another time, may not meet."""
    if isinstance(error, OSError) or is_out_of_memory(error) or is_disk_error(error):
        raise error


def _fitting(experiment: Experiment, runtime: Runtime) -> Hashable:
    """Return what cells of one task share: those that train in one batch, or else those of one kind."""
    spec: Any = experiment.training
    if isinstance(spec, SMALL_VITS):
        return experiment.key  # each alone: it takes a minute or more
    together = batch_key(spec, runtime.place) if isinstance(spec, Training) else None
    return type(spec), together
