"""How far a long piece of work is: a bar on a terminal, and where there is none a plain line now and then."""

from __future__ import annotations

import sys
import threading
import time
from html import escape
from typing import Any, Protocol, Self

FIRST, EVERY = 10.0, 30.0
"""Seconds until the first line, and from line to line. A piece of work that ends sooner leaves one line, at its end."""


class Progress(Protocol):
    """What is told of work done."""

    n: int

    def update(self, count: int) -> object:
        """Take note of ``count`` units more."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> object: ...


def progress(show: bool, total: int, unit: str, label: str = "") -> Progress:
    """Return what shows the progress of ``total`` units on standard error, or shows nothing.

    Under nohup, sbatch or a pipe there is no terminal to draw a bar on; a line is printed instead.
    """
    if not show:
        return _Silent()
    if _is_in_notebook():
        return CellBar(total, unit, label)
    if sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        return tqdm(total=total, unit=unit, desc=label or None, smoothing=0.1)
    return Lines(total, unit, label)


def _is_in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this, by what is loaded: IPython itself is not."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    for most, size, name in ((100, 1, "s"), (6000, 60, "min"), (360_000, 3600, "h"), (4e7, 86_400, "days")):
        if seconds < most:
            return f"{seconds / size:.{1 if name == 'h' else 0}f} {name}"
    return f"{seconds / 31_557_600:.3g} years"


class _Silent:
    """Shows nothing."""

    n = 0

    def update(self, count: int) -> None:
        """Count."""
        self.n += count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        return None


class Lines(_Silent):
    """Prints a line at most every ``EVERY`` seconds and one at the end; groups may tell it from their own threads."""

    every = EVERY

    def __init__(self, total: int, unit: str, label: str) -> None:
        self.total, self.unit, self.label = total, unit, label
        self.began = time.monotonic()
        self.due = self.began + FIRST
        self.pace: tuple[float, int] | None = None
        self.lock = threading.Lock()

    def update(self, count: int) -> None:
        """Take note of ``count`` units more; print a line where one is due."""
        with self.lock:
            self.n += count
            now = time.monotonic()
            # from the first second on: what a checkpoint had done took no time of this process
            if self.pace is None and now > self.began + 1:
                self.pace = now, self.n
            if now >= self.due and self.n < self.total:
                self.due = now + self.every
                self._show(self._words(now))

    def __exit__(self, *raised: object) -> None:
        if raised[0] is None:
            self._show(self._words(time.monotonic()))

    def _words(self, now: float) -> str:
        since, before = self.pace or (self.began, 0)
        left = ""
        if before < self.n < self.total:
            left = f", about {duration((now - since) * (self.total - self.n) / (self.n - before))} left"
        share = f" ({100 * self.n / self.total:.3g} %)" if self.total else ""
        name = f"{self.label}: " if self.label else ""
        return f"{name}{self.n} of {self.total} {self.unit}s{share}, {duration(now - self.began)}{left}"

    def _show(self, words: str) -> None:
        print(words, file=sys.stderr, flush=True)


class CellBar(Lines):
    """A bar below a notebook's cell, in one place however long the work is; plain HTML, which needs no widgets."""

    every = 0.5

    def __init__(self, total: int, unit: str, label: str) -> None:
        super().__init__(total, unit, label)
        self.due = self.began
        self.shown: Any = None

    def _show(self, words: str) -> None:
        from IPython.display import HTML, display

        bar = HTML(f'<progress value="{self.n}" max="{self.total}"></progress> {escape(words)}')
        if self.shown:
            self.shown.update(bar)
        else:
            self.shown = display(bar, display_id=True)
