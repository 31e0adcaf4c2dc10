"""An engine of sweeps on many machines: tasks go to the workers of a dask scheduler, their results to the one folder.

What is on disk is the only state: whoever is lost, worker, scheduler or client, what has no result is sent once more.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vitdyn._errors import as_path, invalid_value, require_real
from vitdyn._extras import from_extra
from vitdyn._progress import Progress, duration
from vitdyn.dynamics import Runtime
from vitdyn.experiments.sweep import Sweep
from vitdyn.experiments.sweep_folder import SweepFolder
from vitdyn.experiments.sweep_session import Attempt, LostSchedulerError, Session, Work
from vitdyn.experiments.sweep_tasks import Task
from vitdyn.experiments.sweep_worker import software

with from_extra("sweep"):
    from distributed import Client
    from distributed.comm.registry import backends

_FIRST = 30.0
"""Seconds for a scheduler to answer at the start, when there is none yet that could come back."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """An engine that has tasks carried out by the workers of a dask scheduler, named by its file or its address.

    A task whose worker is lost runs elsewhere. Where four workers are lost with it, its cells run one by one, and one
    that is lost with four more has failed. A worker whose disk takes nothing is sent no more, and a task that lacks
    memory goes to other workers first. Workers, or the scheduler once it is lost, have ``patience`` seconds to come.
    An interrupt cancels what was sent.

    Raises ``ValueError`` of one line where there is no such scheduler, no worker comes, or one has other software than
    this process.
    """

    scheduler: str
    patience: float = 600.0

    def __post_init__(self) -> None:
        require_real("patience", self.patience, low=0.0, high=1e9)
        self._address()

    def __call__(
        self, sweep: Sweep, tasks: Sequence[Task], folder: SweepFolder, runtime: Runtime, bar: Progress
    ) -> None:
        """Carry out tasks; tell the progress of each cell that ended."""
        folder = SweepFolder(folder.folder.resolve())
        left = deque(Attempt(task) for task in tasks)
        work = Work(sweep, folder, runtime, bar, left, _own_paths(), software())
        wait = min(_FIRST, self.patience)
        while work.left:
            with _without_logs(), self._client(wait) as client:
                session = Session(client=client, work=work, scheduler=self.scheduler, patience=self.patience)
                try:
                    session.run()
                except LostSchedulerError:
                    wait = self.patience
                    words = (
                        f"the scheduler does not answer: waiting up to {duration(wait)} for it to come back"
                    )
                    warnings.warn(words, stacklevel=2)

    def _address(self) -> str:
        """Return where the scheduler listens; a new one may have written its file anew."""
        if "://" in self.scheduler:
            if self.scheduler.partition("://")[0] not in backends:
                known = ", ".join(f"{each}://" for each in backends)
                raise invalid_value("engine", self.scheduler, f"must be a file, or begin with one of {known}")
            return self.scheduler
        path = as_path("engine", self.scheduler)
        try:
            return str(json.loads(path.read_text())["address"])
        except FileNotFoundError as error:
            remedy = (
                "no such file: 'dask scheduler --scheduler-file FILE' writes one; or give tcp://HOST:PORT"
            )
            raise invalid_value("engine", self.scheduler, remedy) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise invalid_value("engine", self.scheduler, "is no file of a dask scheduler") from error

    @contextmanager
    def _client(self, wait: float) -> Iterator[Client]:
        """Connect to the scheduler as soon as there is one."""
        until = time.monotonic() + wait
        while True:
            try:
                client = Client(self._address(), timeout=5, set_as_default=False)
                break
            except (OSError, ValueError) as error:
                if time.monotonic() > until:
                    remedy = f"no scheduler answers there for {duration(wait)}"
                    raise invalid_value("engine", self.scheduler, remedy) from error
                time.sleep(0.2)
        try:
            yield client
        finally:
            with suppress(OSError):
                client.close(timeout=2)


def _own_paths() -> tuple[str, ...]:
    """Return where this process finds modules that no package brings: workers find them there too."""
    found = (Path(path or ".").resolve() for path in sys.path)
    prefixes = {Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)}
    return tuple(str(path) for path in found if path.is_dir() and not any(map(path.is_relative_to, prefixes)))


@contextmanager
def _without_logs() -> Iterator[None]:
    """Keep dask from telling in its own words, over many lines, what is told here in one."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
