"""The folder of a sweep: what it consists of, the result of each cell, and a record of each that failed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from vitdyn._errors import as_path, invalid_value
from vitdyn._files import require_writable, writable_beside
from vitdyn.dynamics import Runtime
from vitdyn.experiments.experiment import Experiment
from vitdyn.experiments.identity import key_or_reason
from vitdyn.experiments.store import ResultStore
from vitdyn.experiments.sweep import Cell, Label, Sweep
from vitdyn.trajectory import versions

SCHEMA = "vitdyn sweep 1"

DONE, FAILED, MISSING = "done", "failed", "missing"
"""What has become of a cell."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a sweep consists of, as its folder keeps it: the labels of its axes, its points, and the key of each.

    ``points`` is None for all combinations of labels, the last axis running fastest. A point that no experiment can be
    made of has no key; ``refused`` says why, by the point's number.
    """

    name: str
    axes: dict[str, tuple[Label, ...]]
    points: tuple[tuple[int, ...], ...] | None
    keys: tuple[str | None, ...]
    refused: dict[int, str]

    @classmethod
    def of(
        cls, sweep: Sweep, visit: Callable[[int, Experiment, str], object] = lambda *_: None
    ) -> Definition:
        """Make every experiment of a sweep once, for its key; ``visit`` is shown each, with its number and key."""
        keys: list[str | None] = []
        refused = {}
        for index in range(len(sweep)):
            try:
                experiment = sweep[index].experiment
                key, reason = key_or_reason(experiment.training)
            except Exception as error:  # whatever a user's function raises
                words = " ".join(str(error).split())
                reason = (
                    words if isinstance(error, ValueError) and words else f"{type(error).__name__}: {words}"
                )
            keys.append(None if reason else key)
            if reason:
                refused[index] = reason
            else:
                visit(index, experiment, key)
        axes = {axis: tuple(labels) for axis, labels in sweep.axes.items()}
        return cls(name=sweep.name, axes=axes, points=sweep.points, keys=tuple(keys), refused=refused)

    @classmethod
    def read(cls, path: Path) -> Definition:
        """Read a definition. Raises ``ValueError`` for a file that is none."""
        try:
            held = json.loads(path.read_text())
            if held.pop("schema") != SCHEMA:
                raise ValueError("of another version of vitdyn")
            return cls(
                name=held["name"],
                axes={axis: tuple(labels) for axis, labels in held["axes"].items()},
                points=None if held["points"] is None else tuple(map(tuple, held["points"])),
                keys=tuple(held["keys"]),
                refused={int(index): words for index, words in held["refused"].items()},
            )
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise invalid_value("sweep", str(path), f"is no definition of a sweep ({error})") from error

    def to_json(self) -> str:
        """Return the definition as JSON."""
        return json.dumps({"schema": SCHEMA, **asdict(self)})

    def labels(self) -> Iterator[tuple[Label, ...]]:
        """Go through the points in order, by their labels."""
        if self.points is None:
            return product(*self.axes.values())
        listed = list(self.axes.values())
        return (tuple(own[at] for own, at in zip(listed, place, strict=True)) for place in self.points)


@dataclass(frozen=True)
class SweepFolder:
    """A folder with the cells of one sweep, which may have grown: it then has a definition for each time.

    ``cells/ab/abcd....nc`` is the result of the experiment of that key, ``failed/ab/abcd....json`` says why there is
    none, ``sweep/`` has the definitions.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", as_path("out", self.folder))

    def result(self, key: str) -> Path:
        """Return the file of a cell's result."""
        # few files to a folder: a million in one take long to list
        return self.folder / "cells" / key[:2] / f"{key}.nc"

    def failure(self, key: str) -> Path:
        """Return the file that says why a cell failed."""
        return self.folder / "failed" / key[:2] / f"{key}.json"

    def store(self, runtime: Runtime, workers: int | None = None) -> ResultStore:
        """Return the store that runs cells and finds their results here."""
        return _Cells(self.folder, runtime=runtime, workers=workers)

    def definitions(self) -> tuple[Definition, ...]:
        """Return what the sweep consists of: one definition for each time that it was run with other points."""
        return tuple(Definition.read(path) for path in sorted((self.folder / "sweep").glob("*.json")))

    def state(self, key: str) -> str:
        """Return whether the cell of a key is "done", "failed" or "missing", by the files that are there."""
        if self.result(key).is_file():
            return DONE
        return FAILED if self.failure(key).is_file() else MISSING

    def require_own(self, definition: Definition) -> None:
        """Raise ``ValueError`` where the folder is another sweep's, or where a point of it has another key."""
        own = dict(zip(definition.labels(), definition.keys, strict=True))
        for held in self.definitions():
            if (held.name, set(held.axes)) != (definition.name, set(definition.axes)):
                there = f"{held.name} over {', '.join(held.axes)}"
                raise invalid_value("out", str(self.folder), f"holds the sweep {there}: name another folder")
            order = [list(held.axes).index(axis) for axis in definition.axes]
            for labels, key in zip(held.labels(), held.keys, strict=True):
                point = tuple(labels[at] for at in order)
                if key and own.get(point, key) not in (key, None):
                    where = dict(zip(definition.axes, point, strict=True))
                    words = f"holds another experiment at {where}: name another folder"
                    raise invalid_value("out", str(self.folder), words)

    def add(self, definition: Definition) -> None:
        """Keep a definition. Raises ``ValueError`` where it cannot stand here, or nothing can be written."""
        self.require_own(definition)
        text = definition.to_json()
        path = self.folder / "sweep" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        require_writable(path)
        with writable_beside(path) as scratch:
            scratch.write_text(text)

    def record(self, cell: Cell, key: str, error: BaseException) -> None:
        """Keep why a cell failed."""
        held = {
            "coordinates": cell.coordinates,
            "error": type(error).__name__,
            "message": " ".join(str(error).split()),
            "versions": versions("vitdyn", "torch", "numpy"),
        }
        path = self.failure(key)
        with writable_beside(path) as scratch:
            scratch.write_text(json.dumps(held))

    def forget_failure(self, key: str) -> None:
        """Drop the record of a cell that has a result now."""
        if self.result(key).is_file():
            self.failure(key).unlink(missing_ok=True)

    def why_failed(self, key: str) -> str | None:
        """Return in words why a cell failed, None where it did not."""
        path = self.failure(key)
        if not path.is_file():
            return None
        held: dict[str, Any] = json.loads(path.read_text())
        return f"{held['error']}: {held['message']}"


class _Cells(ResultStore):
    """Results by key alone, in the folders of a sweep."""

    def place(self, experiment: Experiment, key: str) -> Path:
        """Return the file of the experiment of a key."""
        return SweepFolder(self.folder).result(key)
