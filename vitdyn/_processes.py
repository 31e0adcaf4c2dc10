"""Work in processes that run side by side, whose steps are counted and which end with their caller."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from vitdyn._progress import Progress

Item = TypeVar("Item")
Work = Callable[[Item, Callable[[int], object]], object]
"""What a process does with an item; it tells the function that it is given of steps done."""

_steps_done: Any = None  # in a worker process: the counter that the caller watches,
_stop: Any = None  # and the event by which the caller ends it


class StoppedError(Exception):
    """Work that its caller ended; it goes on from its checkpoint when it is asked for again."""


def number_of_workers(asked: int | None, *, on_gpu: bool) -> int:
    """Return how many processes run side by side: as many as asked for, else one to a core, at most four on a GPU."""
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4) if on_gpu else cores


def side_by_side(work: Work[Item], items: Iterable[Item], workers: int, bar: Progress) -> None:
    """Do the work of every item, in this process where one worker is enough, else in processes of their own.

    An error or an interrupt ends all of them at their next step. Raises ``ChildProcessError`` where a process was ended
    from outside.
    """
    if workers == 1:
        for item in items:
            work(item, bar.update)
        return
    context = get_context("spawn")  # a forked process must not use torch's threads or CUDA
    counter, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(workers, context, initializer=_watch, initargs=(counter, stop)) as pool:
        with _main_left_alone():
            waiting = {pool.submit(_counted, work, item) for item in items}
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
            stop.set()  # to cancel is not enough: an item may have been handed out, or have begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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


def _watch(counter: Any, stop: Any) -> None:
    """Prepare a process: the caller sees its count of steps, it ends with the caller and leaves interrupts to it."""
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


def _counted(work: Work[Item], item: Item) -> None:
    def advance(steps: int) -> None:
        if _stop.is_set():
            raise StoppedError
        with _steps_done.get_lock():
            _steps_done.value += steps

    work(item, advance)
