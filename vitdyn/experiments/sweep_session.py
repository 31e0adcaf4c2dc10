"""One connection to a dask scheduler: which tasks are sent, and what becomes of those that come back undone."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from vitdyn._errors import invalid_value
from vitdyn._extras import from_extra
from vitdyn._progress import Progress, duration
from vitdyn.dynamics import Runtime
from vitdyn.experiments.sweep import Sweep
from vitdyn.experiments.sweep_folder import SweepFolder
from vitdyn.experiments.sweep_tasks import Task
from vitdyn.experiments.sweep_worker import NO_DISK, REFUSED, Order, Outcome, carry_out_order

with from_extra("sweep"):
    import cloudpickle
    from distributed import Client, Future, KilledWorker

AHEAD, FEWEST = 4, 16
"""Tasks in flight for each thread of the workers, and at least: a million cells are never all futures."""
LOOK = 5.0
"""Seconds from look to look at which workers there are."""
RESTART = 60.0
"""Seconds for a worker to come where all that there are have a disk that takes nothing."""
ATTEMPTS = 3
"""Workers on which a task may lack memory, or meet another error of the system, before that is its own fault."""


class LostSchedulerError(Exception):
    """The scheduler does not answer any more; another may take its place."""


class NoWorkerError(Exception):
    """A cell that no worker could carry out."""


class Attempt(NamedTuple):
    """A task, the machines on which it was in vain, and whether it is one cell of a task that was."""

    task: Task
    tried: frozenset[str] = frozenset()
    alone: bool = False


class Work(NamedTuple):
    """What is left of a sweep to send, in whichever session."""

    sweep: Sweep
    folder: SweepFolder
    runtime: Runtime
    bar: Progress
    left: deque[Attempt]
    paths: tuple[str, ...]
    software: str

    def order(self, task: Task) -> Order:
        """Return a task as it is sent."""
        cells = tuple(self.sweep[index] for index in task.cells)
        return Order(
            folder=str(self.folder.folder),
            cells=cloudpickle.dumps(cells),
            keys=task.keys,
            runtime=self.runtime,
            paths=self.paths,
            software=self.software,
        )


class _Flight(NamedTuple):
    """A task that was sent, and to whom alone (None: to any worker)."""

    future: Future
    attempt: Attempt
    only: frozenset[str] | None


@dataclass(kw_only=True, eq=False)
class Session:
    """Sends the tasks that are left over one connection, until all have ended or the scheduler is lost."""

    client: Client
    work: Work
    scheduler: str
    patience: float
    flights: dict[str, _Flight] = field(default_factory=dict)
    ended: SimpleQueue[Future] = field(default_factory=SimpleQueue)
    homes: dict[str, str] = field(default_factory=dict)
    """The nanny of each worker, itself where it has none: a worker that was started anew has the nanny it had."""
    threads: int = 0
    shunned: set[str] = field(default_factory=set)
    full: str = ""
    """What the last of those said of its disk."""
    looked: float = float("-inf")
    last_seen: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Carry out all that is left. Raises ``LostSchedulerError``; what was in flight is then left again."""
        try:
            while self.work.left or self.flights:
                self._look()
                self._send()
                self._take(self._wait())
        except BaseException as error:
            self.work.left.extendleft(flight.attempt for flight in self.flights.values())
            # dask has many errors for a connection that is lost; cancelled futures are no Exception of Python's
            if self.client.status != "running" and not isinstance(error, KeyboardInterrupt):
                raise LostSchedulerError from error
            raise
        finally:
            with suppress(Exception):
                self.client.cancel([flight.future for flight in self.flights.values()])

    def _look(self) -> None:
        """Take note of which workers there are; send again what only workers that are no more were to do."""
        now = time.monotonic()
        if now < self.looked + (LOOK if self._able() else 0.2):
            return
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        self.homes = {address: each["nanny"] or address for address, each in workers.items()}
        self.threads = sum(each["nthreads"] for each in workers.values())
        self.looked = now
        if self._able():
            self.last_seen = now
        # of those whose disk takes nothing others may just be started again
        elif now > self.last_seen + (wait := min(self.patience, RESTART) if self.shunned else self.patience):
            remedy = self.full or "dask worker --scheduler-file FILE starts one"
            raise invalid_value("engine", self.scheduler, f"has had no worker for {duration(wait)}: {remedy}")
        for key, flight in list(self.flights.items()):
            if flight.only is not None and not flight.only & workers.keys():
                self.client.cancel([self.flights.pop(key).future])
                self.work.left.appendleft(flight.attempt)

    def _send(self) -> None:
        """Fill what may be in flight, once half of it has ended: many tasks in one message cost little each."""
        most = max(FEWEST, AHEAD * self.threads)
        if not self._able() or len(self.flights) > most // 2:
            return
        sent = [self.work.left.popleft() for _ in range(min(most - len(self.flights), len(self.work.left)))]
        try:
            self._submit(sent)
        except BaseException:
            under_way = {flight.attempt for flight in self.flights.values()}
            self.work.left.extendleft(attempt for attempt in sent if attempt not in under_way)
            raise

    def _submit(self, attempts: Iterable[Attempt]) -> None:
        grouped: dict[frozenset[str] | None, dict[str, tuple[Attempt, Order]]] = {}
        for attempt in attempts:
            order = self.work.order(attempt.task)
            grouped.setdefault(self._allowed(attempt), {})[_key(attempt, order)] = attempt, order
        for only, each in grouped.items():
            orders = [order for _, order in each.values()]
            workers = None if only is None else sorted(only)
            futures = self.client.map(carry_out_order, orders, key=list(each), workers=workers)
            for (key, (attempt, _)), future in zip(each.items(), futures, strict=True):
                self.flights[key] = _Flight(future, attempt, only)
                future.add_done_callback(self.ended.put)

    def _allowed(self, attempt: Attempt) -> frozenset[str] | None:
        """Return the workers that a task may go to, None for any."""
        if not attempt.tried | self.shunned:
            return None
        able = frozenset(worker for worker, home in self.homes.items() if home not in self.shunned)
        return frozenset(worker for worker in able if self.homes[worker] not in attempt.tried) or able

    def _wait(self) -> list[Future]:
        """Return the tasks that have ended, after some time none."""
        found: list[Future] = []
        with suppress(Empty):
            found.append(self.ended.get(timeout=LOOK if self._able() else 0.2))
            while True:
                found.append(self.ended.get_nowait())
        held = [(each, self.flights.get(str(each.key))) for each in found]
        return [each for each, flight in held if flight is not None and flight.future is each]

    def _take(self, futures: Iterable[Future]) -> None:
        """Take note of how tasks ended."""
        by_status: dict[str, list[Future]] = {}
        for future in futures:
            by_status.setdefault(str(future.status), []).append(future)
        done, lost = by_status.pop("finished", []), by_status.pop("error", [])
        if by_status:
            raise LostSchedulerError(", ".join(by_status))
        for future, outcome in zip(done, self.client.gather(done), strict=True):
            self._take_outcome(self.flights.pop(str(future.key)).attempt, outcome)
        for future in lost:
            self._take_error(self.flights.pop(str(future.key)).attempt, future.exception())

    def _take_outcome(self, attempt: Attempt, outcome: Outcome) -> None:
        if not outcome.fault:
            self.work.bar.update(len(attempt.task.cells))
        elif outcome.fault == REFUSED:
            raise invalid_value("engine", self.scheduler, f"of worker {outcome.worker}: {outcome.words}")
        elif outcome.fault == NO_DISK:
            self._shun(outcome)
            self.work.left.appendleft(attempt)
        else:
            tried = attempt.tried | {self._home(outcome.worker)}
            in_vain = len(tried) >= min(ATTEMPTS, len(set(self.homes.values())))
            self._elsewhere(attempt._replace(tried=tried), in_vain, outcome.words)

    def _take_error(self, attempt: Attempt, error: Any) -> None:
        if not isinstance(error, KilledWorker):
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"
            remedy = f"a worker cannot carry out tasks ({words}): is the same vitdyn installed there?"
            raise invalid_value("engine", self.scheduler, remedy) from error
        # by now a nanny may have another worker
        last = error.last_worker.nanny or error.last_worker.address
        words = (
            f"{error.allowed_failures + 1} workers were lost with it, the last on {last}: for lack of memory?"
        )
        self._elsewhere(attempt._replace(tried=attempt.tried | {last}), True, words)

    def _elsewhere(self, attempt: Attempt, in_vain: bool, words: str) -> None:
        """Send a task elsewhere; one that was in vain cell by cell, and then keep why a cell failed."""
        if not in_vain:
            self.work.left.appendleft(attempt)
        elif not attempt.alone:
            self.work.left.extendleft(Attempt(one, attempt.tried, True) for one in attempt.task.singly())
        else:
            cell = self.work.sweep[attempt.task.cells[0]]
            self.work.folder.record(cell, attempt.task.keys[0], NoWorkerError(words))
            self.work.bar.update(1)

    def _shun(self, outcome: Outcome) -> None:
        """Send a worker nothing more whose disk takes nothing."""
        home, self.full = self._home(outcome.worker), outcome.words
        if home not in self.shunned:
            self.shunned.add(home)
            warnings.warn(f"worker {outcome.worker} is sent no more: {outcome.words}", stacklevel=2)

    def _able(self) -> set[str]:
        """Return the machines that can be sent something."""
        return set(self.homes.values()) - self.shunned

    def _home(self, worker: str) -> str:
        return self.homes.get(worker, worker)


def _key(attempt: Attempt, order: Order) -> str:
    """Return a task's name: one task of two clients is carried out once, what was in vain is another."""
    parts = (order.folder, order.keys, order.runtime, sorted(attempt.tried), attempt.alone)
    return f"vitdyn-{hashlib.sha256(repr(parts).encode()).hexdigest()}"
