"""What a cluster takes beyond the work: processor time of client, scheduler and workers against ``ResultStore.all``.

Processor time, for that is the same on a machine that does other things too: where two workers have both cores, what
client and scheduler take is taken from them. Prints milliseconds a task, for tasks of one small cell and others.
"""

import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import psutil
from fault_cells import BASE
from faults import Place

import vitdyn as vd
from vitdyn._progress import progress
from vitdyn._tables import text_table
from vitdyn.experiments.sweep_cluster import Cluster
from vitdyn.experiments.sweep_folder import Definition, SweepFolder
from vitdyn.experiments.sweep_tasks import Task

RUNTIME = vd.Runtime(keep_final_state=False)
RATES = count(1)


def small(rate):
    """Return a cell of some 20 ms."""
    layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    return cell(replace(BASE, generator=vd.PatchGenerator(layout=layout), steps=5, seeds=1), rate)


def usual(rate):
    """Return a cell of a tenth of a second."""
    return cell(replace(BASE, steps=60), rate)


def cell(training, rate):
    """Return a training's experiment at a learning rate."""
    return vd.Experiment(
        name="cell", training=replace(training, optimizer=vd.GradientDescent(learning_rate=rate))
    )


def spent(pids):
    """Return the processor time of processes and of their children, seconds."""
    every = [
        each for pid in pids for each in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    ]
    return sum(sum(each.cpu_times()[:2]) for each in every)


def measured(place, out, make, tasks, cells):
    """Return the milliseconds a task that a store takes, and then client, scheduler and workers."""
    rates = [next(RATES) / 1000 for _ in range(tasks * cells)]
    sweep = vd.Sweep.product("overhead", make, {"rate": rates})
    numbers = enumerate(point.experiment.key for point in sweep)
    each = [Task(*zip(*islice(numbers, cells), strict=True)) for _ in range(tasks)]
    own, direct = SweepFolder(out / "cluster"), SweepFolder(out / "store").store(RUNTIME)
    own.add(Definition.of(sweep))
    took = -time.process_time()
    for task in each:
        direct.all([sweep[index].experiment for index in task.cells])
    took += time.process_time()
    pids = {
        "scheduler": [place.scheduler.process.pid],
        "workers": [each.process.pid for each in place.workers],
    }
    before = {name: spent(found) for name, found in pids.items()}
    client = -time.process_time()
    Cluster(scheduler=str(place.file))(sweep, each, own, RUNTIME, progress(False, 0, "cell"))
    client += time.process_time()
    others = {name: spent(found) - before[name] for name, found in pids.items()}
    found = {"store": took, "client": client, **others}
    found["beyond"] = sum(found.values()) - 2 * took
    return {name: 1000 * seconds / tasks for name, seconds in found.items()}


def main():
    """Measure both kinds of tasks, after one round that loads compiled code everywhere."""
    rows = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        place = Place(Path(name), stack, workers=2)
        for label, make, tasks, cells in (
            ("first", small, 20, 1), ("first", usual, 10, 2), ("small", small, 300, 1), ("usual", usual, 20, 20)
        ):  # fmt: skip
            found = measured(place, Path(name) / f"{label}-{cells}", make, tasks, cells)
            print(
                label, {name: round(value, 1) for name, value in found.items()}, file=sys.stderr, flush=True
            )
            rows.append((label, tasks, cells, *(f"{value:.1f}" for value in found.values())))
    print(text_table(("tasks", "number", "cells", *found), rows[2:]))


if __name__ == "__main__":
    main()
