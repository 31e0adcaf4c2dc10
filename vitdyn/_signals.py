"""SIGTERM, by which a batch system announces that it will end a job, as an interrupt at which a run saves its state."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 143
"""The exit status of a process that SIGTERM ended: 128 and the signal's number."""


class Terminated(KeyboardInterrupt):
    """SIGTERM as an interrupt: whatever saves a run's state at Ctrl-C saves it now too."""


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise ``Terminated`` in the main thread; what comes after the first is ignored until the end.

    Does nothing in other threads, and where the program has a handler of its own.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut short what the first began
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def whole_steps() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of a step, so that its state is never half of two steps."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    taken = {number: handler for number, handler in handlers.items() if callable(handler)}
    for each in taken:
        signal.signal(each, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        for each, handler in taken.items():
            signal.signal(each, handler)
    if waiting:
        signal.raise_signal(waiting[0])
