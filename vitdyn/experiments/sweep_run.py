"""The verb of a sweep: run what its folder lacks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vitdyn._errors import as_path, invalid_value, require_boolean, require_kind
from vitdyn._processes import number_of_workers, side_by_side
from vitdyn._progress import Progress, progress
from vitdyn.dynamics import Runtime
from vitdyn.experiments.experiment import SMALL_VITS, Experiment
from vitdyn.experiments.sweep import Sweep
from vitdyn.experiments.sweep_folder import DONE, FAILED, MISSING, Definition, SweepFolder
from vitdyn.experiments.sweep_scan import held_by
from vitdyn.experiments.sweep_tasks import Planner, Task, carry_out, carry_out_one

Engine = Callable[[Sweep, Sequence[Task], SweepFolder, Runtime, Progress], None]
"""What has every task of a sweep carried out (``carry_out``) and tells the progress of each cell that ended."""


class Work(NamedTuple):
    """A sweep and what is left of it to run."""

    sweep: Sweep
    definition: Definition
    folder: SweepFolder
    tasks: tuple[Task, ...]
    runtime: Runtime

    @property
    def seconds(self) -> float:
        """How long the tasks may take one after the other."""
        return sum(task.seconds for task in self.tasks)

    @property
    def bytes(self) -> int:
        """How much room their results may take on the disk."""
        return sum(task.bytes for task in self.tasks)

    @property
    def free(self) -> int:
        """How much room there is."""
        there = next(
            each for each in (self.folder.folder, *self.folder.folder.absolute().parents) if each.exists()
        )
        return shutil.disk_usage(there).free


def local_engine(
    sweep: Sweep, tasks: Sequence[Task], folder: SweepFolder, runtime: Runtime, bar: Progress
) -> None:
    """Carry out tasks on this machine: small Vision Transformers side by side, then all else, which takes all cores."""
    small = {task for task in tasks if isinstance(sweep[task.cells[0]].experiment.training, SMALL_VITS)}
    if small:
        workers = min(len(small), number_of_workers(None, on_gpu=runtime.place.type == "cuda"))
        # the longest first: so no process is left alone with a long one at the end
        ordered = sorted(small, key=lambda task: (-task.seconds, task.cells))
        cells = [sweep[index] for task in ordered for index in task.cells]
        side_by_side(partial(carry_out_one, folder=folder, runtime=runtime), cells, workers, bar)
    for task in tasks:
        if task in small:
            continue
        carry_out(folder, [sweep[index] for index in task.cells], task.keys, runtime)
        bar.update(len(task.cells))


def plan_sweep(sweep: Sweep, out: str | Path, *, runtime: Runtime = Runtime(), again: bool = False) -> Work:
    """Return what of a sweep is left to run, ``again`` what failed too; nothing is written.

    Where ``runtime`` says ``anew``, results that cannot be used are to be made again: all are read.

    Raises ``ValueError`` where the folder holds another sweep, or where no point of it has an experiment.
    """
    require_kind("sweep", sweep, Sweep)
    require_kind("runtime", runtime, Runtime)
    require_boolean("again", again)
    folder, planner = SweepFolder(as_path("out", out)), Planner(runtime)

    def plan(index: int, experiment: Experiment, key: str) -> None:
        state = folder.state(key)
        unusable = runtime.anew and state == DONE and held_by(folder.result(key), key).why_not
        if state == MISSING or unusable or (again and state == FAILED):
            planner.add(index, experiment, key)

    definition = Definition.of(sweep, plan)
    if not any(definition.keys):
        raise ValueError(f"no cell of {sweep.name} can be run: {definition.refused[0]}")
    folder.require_own(definition)
    return Work(sweep, definition, folder, tuple(planner.tasks), runtime)


def run_sweep(
    sweep: Sweep,
    out: str | Path,
    *,
    engine: Engine = local_engine,
    runtime: Runtime = Runtime(keep_final_state=False),
    again: bool = False,
) -> None:
    """Run the cells of a sweep that its folder ``out`` has no result of, and keep each there; ``collect`` reads them.

    A cell that fails leaves a record of its error and no result; it runs once more only if asked to ``again``.
    Interrupted, the same call goes on. A sweep that has grown by points, or by values on its axes, runs what is new.

    Raises ``ValueError`` where the folder holds another sweep, or cannot be written.

    >>> def limit(kappa_s):
    ...     sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=kappa_s)
    ...     return vd.Experiment(name="limit", training=vd.MeanField(sizes=sizes))
    >>> vd.run_sweep(vd.Sweep.product("limits", limit, {"kappa_s": (0.2, 0.3)}), "limits")
    >>> vd.collect("limits")["status"].values
    array(['done', 'done'], dtype='<U4')
    """
    carry_out_work(plan_sweep(sweep, out, runtime=runtime, again=again), engine)


def carry_out_work(work: Work, engine: Engine = local_engine) -> None:
    """Keep a sweep's definition in its folder, and have an engine run what is left of it.

    Raises ``ValueError`` where the results do not fit on the disk.
    """
    if work.bytes > work.free:
        words = f"has {work.free / 2**20:.0f} MiB of room, and the results may take {work.bytes / 2**20:.0f}"
        raise invalid_value("out", str(work.folder.folder), f"{words}: make room, or name another folder")
    work.folder.add(work.definition)
    quiet = replace(work.runtime, progress=False)  # one bar, over all cells
    with progress(work.runtime.progress, sum(len(task.cells) for task in work.tasks), "cell") as bar:
        engine(work.sweep, work.tasks, work.folder, quiet, bar)
