"""A folder of results: each run is made once and found again, two at a time where there are two cores."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch

from vitdyn._errors import as_path, require_boolean, require_integer, require_kind, require_sequence, wrong
from vitdyn._progress import duration, progress
from vitdyn.dynamics.resources import device_name, pick_device
from vitdyn.practice.analysis import analyse
from vitdyn.practice.learner import Batch, Learner
from vitdyn.practice.pretraining import Pretraining
from vitdyn.practice.record import Record
from vitdyn.practice.training import descend, make_optimiser, train
from vitdyn.trajectory import require_writable, unusable

_STARTUP = 8.0  # seconds until a process has imported what it needs
_steps_done: Any = None  # in a worker process: the counter that the caller watches,
_stop: Any = None  # and the event by which the caller ends it


def run(
    spec: Pretraining,
    *,
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    checkpoint_seconds: float = 10.0,
    advance: Callable[[int], object] = lambda steps: None,
    anew: bool = False,
) -> Record:
    """Train an encoder and look at it; with ``out`` (a file name) also keep the result there.

    While it trains, its state is kept beside ``out`` in a file that ends in ".checkpoint"; an interrupted run goes on
    from there when it is started again, and ends in the same bits. With ``anew``, a checkpoint that cannot be used is
    no error: the run starts anew.
    """
    began, where = time.monotonic(), pick_device(device)
    require_kind("spec", spec, Pretraining)
    target = as_path("out", out) if out is not None else None
    checkpoint = checkpoint_of(target) if target else None
    if target:
        require_writable(target)
    with single_threaded():
        trained = train(
            spec,
            device=where,
            checkpoint=checkpoint,
            checkpoint_seconds=checkpoint_seconds,
            advance=advance,
            anew=anew,
        )
        images = spec.images.load().to(where)
        found = analyse(spec, trained.learner.encoder, images)
    seconds = time.monotonic() - began
    record = Record.of(
        spec,
        found,
        trained.losses,
        device=device_name(where),
        machine="; ".join(trained.machines),
        seconds=seconds,
    )
    if target and checkpoint:
        record.save(target)
        checkpoint.unlink(missing_ok=True)
    return record


def checkpoint_of(result: Path) -> Path:
    """Return where a run's state is kept until its result is saved."""
    return result.with_name(result.name + ".checkpoint")


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch use one thread, so that runs share no core and sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, kw_only=True)
class PracticeStore:
    """Results in ``folder``, one file for each run.

    ``workers`` processes make those that are missing (None: one to a core, at most four on a GPU). Called with
    specifications it returns their records in the same order; with ``redraw`` it never trains. A result or checkpoint
    that cannot be believed (damaged, of another run) is an error, or made again with ``anew``.
    """

    folder: str | Path
    device: str | torch.device = "auto"
    progress: bool = False
    redraw: bool = False
    workers: int | None = None
    anew: bool = False

    def __post_init__(self) -> None:
        as_path("folder", self.folder)
        for name in ("progress", "redraw", "anew"):
            require_boolean(name, getattr(self, name))

    def path(self, spec: Pretraining) -> Path:
        """Return the file of a run's result."""
        return Path(self.folder) / spec.file_name

    def missing(self, specs: Sequence[Pretraining]) -> list[Pretraining]:
        """Return the runs that have no result yet, each once."""
        _require_specs(specs)
        return [spec for spec in dict.fromkeys(specs) if self._found(spec) is None]

    def __call__(self, specs: Sequence[Pretraining]) -> list[Record]:
        """Return the records, from their files where they are there. Says beforehand what the others will cost."""
        missing = self.missing(specs)
        if missing and self.redraw:
            raise wrong("redraw", str(self.path(missing[0])), "no such result: run without --redraw first")
        if missing:
            self._make(missing)
        return [Record.load(self.path(spec)) for spec in specs]

    def _found(self, spec: Pretraining) -> Record | None:
        """Return the stored record, None where there is none. Raises ``ValueError`` for one that is not the run's."""
        path = self.path(spec)
        if not path.is_file():
            return None
        try:
            found = Record.load(path)
            if found.dataset.attrs["spec"] != spec.to_json():
                raise unusable(path, "holds the result of another run")
        except ValueError as error:
            if self.redraw or not self.anew:
                raise
            warnings.warn(f"{error}: it is made anew", stacklevel=4)
            return None
        checkpoint_of(path).unlink(
            missing_ok=True
        )  # of a process that was killed once it had saved the result
        return found

    def _make(self, missing: list[Pretraining]) -> None:
        where = pick_device(self.device)
        for spec in missing:
            require_writable(self.path(spec))
        workers = min(len(missing), self._workers(where))
        if self.progress:
            seconds = estimate_seconds(missing, device=self.device, workers=workers)
            print(f"{len(missing)} runs, about {duration(seconds)}, {workers} at a time", flush=True)
        longest_first = sorted(missing, key=_weight, reverse=True)
        with progress(self.progress, sum(spec.steps for spec in missing), "step") as bar:
            if workers > 1:
                self._make_side_by_side(longest_first, workers, bar)
            else:
                for spec in longest_first:
                    run(spec, out=self.path(spec), device=self.device, advance=bar.update, anew=self.anew)

    def _make_side_by_side(self, missing: list[Pretraining], workers: int, bar: Any) -> None:
        """Make runs in processes of their own; an error or an interrupt ends all at their next step."""
        context = get_context("spawn")  # a forked process must not use torch's threads or CUDA
        counter, stop = context.Value("q", 0), context.Event()
        with ProcessPoolExecutor(workers, context, initializer=_watch, initargs=(counter, stop)) as pool:
            with _main_left_alone():
                waiting = {
                    pool.submit(_run_counted, spec, self.path(spec), self.device, self.anew)
                    for spec in missing
                }
            try:
                while waiting:
                    done, waiting = wait(waiting, timeout=0.3, return_when=FIRST_COMPLETED)
                    bar.update(counter.value - bar.n)
                    for each in done:
                        each.result()
            except BrokenProcessPool as error:
                raise ChildProcessError(
                    "a process that trains was ended from outside, perhaps for lack of memory: the same call goes on "
                    "from the checkpoints, and fewer workers take less"
                ) from error
            except BaseException:
                stop.set()  # to cancel is not enough: a run may have been handed out, or have begun
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _workers(self, device: torch.device) -> int:
        if self.workers is not None:
            require_integer("workers", self.workers, at_least=1)
            return self.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cores, 4) if device.type == "cuda" else cores


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Let processes that are started here not run the caller's script again, which may lack a main guard.

    Python would do so to find what the script defines; what the processes do lies in this package.
    """
    main = sys.modules["__main__"]
    kept: dict[str, Any] = {name: vars(main)[name] for name in ("__spec__", "__file__") if name in vars(main)}
    try:
        main.__spec__ = None
        vars(main).pop("__file__", None)
        yield
    finally:
        vars(main).update(kept)


def _require_specs(specs: Sequence[Pretraining]) -> None:
    require_sequence("specs", specs, "Pretraining")
    for index, spec in enumerate(specs):
        require_kind(f"specs[{index}]", spec, Pretraining)


class StoppedError(Exception):
    """A run that its caller ended; it goes on from its checkpoint when it is made again."""


def _watch(counter: Any, stop: Any) -> None:
    """Let a process count its steps where the caller sees them, and end with the caller, who alone is interrupted."""
    global _steps_done, _stop
    _steps_done, _stop = counter, stop
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the caller to die: a process of its pool would sleep on for ever, with all that it has in memory."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # what it does is kept whole or not at all


def _run_counted(spec: Pretraining, out: Path, device: str | torch.device, anew: bool = False) -> None:
    def advance(steps: int) -> None:
        if _stop.is_set():
            raise StoppedError
        with _steps_done.get_lock():
            _steps_done.value += steps

    run(spec, out=out, device=device, advance=advance, anew=anew)


def _weight(spec: Pretraining) -> float:
    """Return roughly how much work a run is."""
    work = {"untrained": 0.0, "reconstruction": 1.0, "supervised": 1.4, "contrast": 3.0, "mixture": 4.0}
    return spec.steps * spec.batch * work[spec.method]


def estimate_seconds(
    specs: Sequence[Pretraining], *, device: str | torch.device = "auto", workers: int = 1
) -> float:
    """Return what runs will take here, from a trial of a few steps and one analysis of each kind of run.

    Rough: where other programs use the cores it is too low. Runs on the CPU only share cores with each other.
    """
    where, cost = pick_device(device), {}
    require_integer("workers", workers, at_least=1)
    _require_specs(specs)
    kinds = [replace(spec, seed=0) for spec in specs]
    looks: dict[Any, float] = {}
    with single_threaded():
        for kind in dict.fromkeys(kinds):
            step, look = _trial(kind, where, look=looks.get((kind.images, kind.architecture)))
            looks[kind.images, kind.architecture] = look
            cost[kind] = kind.steps * step + look
    return (_STARTUP if workers > 1 else 0.0) + sum(cost[kind] for kind in kinds) / workers


def _trial(spec: Pretraining, device: torch.device, look: float | None) -> tuple[float, float]:
    """Return the seconds of a step and of an analysis."""
    images = spec.images.load().to(device)
    learner = Learner(spec).to(device)
    optimiser = make_optimiser(learner, spec)
    steps = min(spec.steps, 8)
    for step in range(steps):
        if step == 2:  # the first steps also set things up
            began = time.monotonic()
        descend(learner, optimiser, Batch.draw(spec, images, step))
    each = (time.monotonic() - began) / (steps - 2) if steps > 2 else 0.0
    if look is None:
        began = time.monotonic()
        analyse(spec, learner.encoder, images)
        look = time.monotonic() - began
    return each, look
