"""``vitdyn sweep | collect``: experiments over named axes, and one dataset of their results."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from vitdyn._errors import invalid_value
from vitdyn._progress import duration

SHOWN = 5
"""How many cells without a result are named."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Run an experiment at all points of some axes, or of a list: what the folder lacks of them.

    FILE.toml has a base specification and axes over its fields, FILE.py a ``sweep``. What it costs is said first. A
    cell that fails leaves a record of its error, and the others go on. After Ctrl-C, SIGTERM or a kill the same command
    goes on; a file with more values on its axes runs what is new. The exit status is 0 if every cell has its result.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """FILE.toml or FILE.py."""
    out: Path
    """Folder of the sweep: a result for each cell."""
    engine: str = "local"
    """local, or the cluster of a dask scheduler, by its file (dask scheduler --scheduler-file FILE) or tcp://HOST:PORT."""
    plan_only: bool = False
    """Say what it costs, and run nothing."""
    again: bool = False
    """Run cells again that failed."""
    device: str = "auto"
    """auto, cpu or cuda."""
    keep_final_state: bool = False
    """Keep every patch's correlations at the end of simulations: most of a file."""
    anew: bool = False
    """Make kept results and checkpoints again that cannot be used; all are read."""

    def __call__(self) -> int:
        """Say the cost, run what is missing, say what came of it."""
        from vitdyn.dynamics import Runtime
        from vitdyn.experiments.sweep_run import carry_out_work, plan_sweep

        engine = _engine_of(self.engine)
        runtime = Runtime(
            device=self.device, progress=True, keep_final_state=self.keep_final_state, anew=self.anew
        )
        work = plan_sweep(_sweep_of(self.file), self.out, runtime=runtime, again=self.again)
        print(_cost(work), flush=True)
        if self.plan_only:
            return 0
        carry_out_work(work, engine)
        states = [(labels, *_state(work, index, key)) for index, (labels, key) in enumerate(_cells(work))]
        return _told(list(work.definition.axes), states)


@dataclass(frozen=True, kw_only=True)
class Collect:
    """Say what a sweep's folder holds, and which cells lack a result; write all of it to one netCDF4 file.

    In Python ``vitdyn.collect(DIR)`` is the same dataset, read when it is asked for. The exit status is 0 if every cell
    has its result.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of a sweep."""
    out: Path | None = None
    """File for the dataset."""

    def __call__(self) -> int:
        """Print the axes, the variables and the holes; write the file."""
        from vitdyn._files import require_writable
        from vitdyn._memory import require_fits
        from vitdyn.experiments import collect
        from vitdyn.trajectory import write_result

        if self.out is not None:
            require_writable(self.out)
        data = collect(self.folder)
        status = data["status"]
        print(f"{data.attrs['sweep']}: {', '.join(f'{axis} ({data.sizes[axis]})' for axis in status.dims)}")
        for name in [name for name in data.data_vars if name not in ("status", "error", "key")]:
            inner = [f"{axis} {data.sizes[axis]}" for axis in data[name].dims if axis not in status.dims]
            print(f"  {name!s:<24} {', '.join(inner)}")
        if self.out is not None:
            remedy = "write it in parts: vitdyn.collect(DIR).sel(...).to_netcdf(...)"
            require_fits("out", str(self.out), 2 * data.nbytes, remedy)
            write_result(self.out, data)
            print(f"result   {self.out}")
        cells = data[["status", "error"]].stack(all_cells=status.dims, create_index=False)
        axes = [name for name in cells.coords if cells[name].dims == ("all_cells",)]
        labels = zip(*(cells[axis].to_numpy().tolist() for axis in axes), strict=True)
        words = (cells[name].to_numpy().tolist() for name in ("status", "error"))
        return _told(list(map(str, axes)), list(zip(labels, *words, strict=True)))


def _engine_of(name: str) -> Any:
    from vitdyn.experiments.sweep_run import local_engine

    if name == "local":
        return local_engine
    from vitdyn.experiments.sweep_cluster import Cluster

    return Cluster(scheduler=name)


def _sweep_of(file: Path) -> Any:
    """Return the sweep of a file."""
    from vitdyn.cli.modules import import_modules
    from vitdyn.experiments.sweep import Sweep
    from vitdyn.experiments.sweep_file import read_sweep

    if file.suffix != ".py":
        return read_sweep(file)
    import_modules([str(file)])
    found = getattr(sys.modules[file.stem], "sweep", None)
    if not isinstance(found, Sweep):
        raise invalid_value("file", str(file), "has no sweep: it must say sweep = vd.Sweep.product(...)")
    return found


def _cost(work: Any) -> str:
    """Return what there is, what of it is to run, and what that takes."""
    from vitdyn.experiments.sweep_folder import DONE, FAILED

    definition = work.definition
    states = [work.folder.state(key) for key in definition.keys if key]
    new = sum(len(task.cells) for task in work.tasks)
    over = ", ".join(f"{axis} ({len(labels)})" for axis, labels in definition.axes.items())
    held = (
        f"{states.count(DONE)} kept, {states.count(FAILED)} failed before, {len(definition.refused)} refused"
    )
    tasks = f"{len(work.tasks)} task{'s' * (len(work.tasks) != 1)}"
    return (
        f"{definition.name}: {len(definition.keys)} cells over {over}: {held}\n"
        f"{new} to run in {tasks}: about {duration(work.seconds)}, "
        f"up to {_size(work.bytes)} of disk ({_size(work.free)} are free)"
    )


def _size(count: float) -> str:
    for size, name in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count / 2**10:.0f} KiB"


def _cells(work: Any) -> Iterable[tuple[tuple[Any, ...], str | None]]:
    return zip(work.definition.labels(), work.definition.keys, strict=True)


def _state(work: Any, index: int, key: str | None) -> tuple[str, str]:
    """Return the state of a cell and, where it has no result, why."""
    if key is None:
        return "refused", work.definition.refused[index]
    return work.folder.state(key), work.folder.why_failed(key) or ""


def _told(axes: list[str], cells: list[tuple[tuple[Any, ...], str, str]]) -> int:
    """Print how many cells are in which state, and the first without a result; return the exit status."""
    states = [state for _, state, _ in cells]
    holes = [cell for cell in cells if cell[1] not in ("done", "absent")]
    print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(["done", *states])))
    for labels, state, words in holes[:SHOWN]:
        where = ", ".join(f"{axis} = {label}" for axis, label in zip(axes, labels, strict=True))
        print(f"  {state} at {where}" + (f": {words}" if words else ""))
    if len(holes) > SHOWN:
        print(f"  and {len(holes) - SHOWN} more")
    return 1 if holes else 0
