"""Checkpoints: a run's state, written whole or not at all, so that a killed run resumes to the same bits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitdyn._files import DamagedFileError, read_sealed, require_writable, write_sealed
from vitdyn.dynamics.grid import Replica
from vitdyn.trajectory import ANEW

State = dict[Any, Any]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: damaged, or of another run."""

    @classmethod
    def of(cls, path: Path, reason: str, remedy: str = "delete it to start the run anew") -> CheckpointError:
        """Build the error for a file."""
        return cls(f"checkpoint = {str(path)!r}: {reason}; {remedy}, or ask for that ({ANEW})")

    @classmethod
    def of_another_run(cls, path: Path) -> CheckpointError:
        """Build the error for a file that holds the state of something else."""
        remedy = "delete it or name another folder to start anew"
        return cls.of(path, "written by a run of another specification", remedy)


def write_checkpoint(path: Path, spec: str, state: State) -> None:
    """Write tensors, numbers and strings to ``path``; a kill at any moment leaves the old file or the new one."""
    write_sealed(path, lambda file: torch.save({"spec": spec, "state": state}, file))


def read_checkpoint(path: Path, spec: str, device: torch.device) -> State | None:
    """Return the state, or None where there is no checkpoint. No code in the file is run.

    Raises ``CheckpointError`` where the file is damaged or was written by a run of another spec.
    """
    stored = stored_state(path, device)
    if stored is None:
        return None
    if stored[0] != spec:
        raise CheckpointError.of_another_run(path)
    return stored[1]


def stored_state(path: Path, device: torch.device) -> tuple[str, State] | None:
    """Return the specification and state that a file holds, None where there is none.

    Raises ``CheckpointError`` where its contents are not what was written.
    """
    try:
        contents = read_sealed(path)
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        raise CheckpointError.of(path, f"unreadable ({error})") from error
    try:  # weights_only: a file from elsewhere must not be able to run code
        stored = torch.load(BytesIO(contents), map_location=device, weights_only=True)
        written, state = stored["spec"], stored["state"]
    except Exception as error:  # torch.load raises whatever its unpickler meets
        raise CheckpointError.of(path, "unreadable (it holds something else)") from error
    if not isinstance(written, str) or not isinstance(state, dict):
        raise CheckpointError.of(path, "unreadable (it holds something else)")
    return written, state


class Checkpointer:
    """Writes the checkpoints of a run's cells: the state of each group of seeds, finished or under way.

    ``files`` says which cells each file holds: all of a grid, or one each. The groups train on threads of their own;
    each saves a copy of its state when ``seconds`` have passed since the last one, up to six times as many where
    writing takes long. Without files nothing is written.
    """

    def __init__(self, files: Mapping[Path, Sequence[int]], specs: Sequence[str], seconds: float) -> None:
        self.files, self.specs, self.seconds = files, specs, seconds
        self.lock = threading.Lock()
        self.rows: dict[int, tuple[Replica, ...]] = {}
        self.states: dict[int, State] = {}
        self.packed: dict[int, State] = {}
        self.last: dict[int, float] = {}
        self.took = 0.0
        self.lost: set[int] = set()
        for path in files:
            require_writable(path)

    def start(self, rows: Sequence[tuple[Replica, ...]], states: dict[int, State]) -> None:
        """Take over how the rows are grouped, and the states of those groups that have one."""
        self.rows, self.states = dict(enumerate(rows)), states
        self.packed = {group: packed(state) for group, state in states.items()}

    def should_save(self, group: int) -> bool:
        """Return whether a group should save its state now."""
        now = time.monotonic()
        # a group's first question starts its clock: what it has not trained yet needs no saving
        waited = now - self.last.setdefault(group, now)
        return bool(self.files) and waited >= self.seconds + min(20 * self.took, 5 * self.seconds)

    def save(self, group: int, rows: tuple[Replica, ...], state: State) -> None:
        """Take over a group's state, which nobody changes any more, and write the checkpoints of its cells."""
        # one writer at a time: a file holds the states of all groups, of which the others' must not change meanwhile
        with self.lock:
            began = time.monotonic()
            self.rows[group], self.states[group] = rows, state
            if self.files:
                self.packed[group] = packed(state)
            cells = {cell for cell, _ in rows}
            for path, own in self.files.items():
                if not cells.isdisjoint(own):
                    self._write(path, list(own))
            # of what saving takes, ``should_save`` makes at most a twentieth of a run
            self.last[group] = time.monotonic()
            self.took = self.last[group] - began

    def forget(self, cell: int) -> None:
        """Leave a cell that diverged out of what is written from here on."""
        with self.lock:
            self.lost.add(cell)

    def remove(self) -> None:
        """Delete the checkpoints: the run is over."""
        for path in self.files:
            path.unlink(missing_ok=True)

    def _write(self, path: Path, own: list[int]) -> None:
        """Write the rows of a file's cells, under their numbers in that file."""
        split: dict[int, list[Replica]] = {}
        states: dict[int, State] = {}
        for group, rows in self.rows.items():
            places = [place for place, (cell, _) in enumerate(rows) if cell in own and cell not in self.lost]
            if not places:  # a group without a row of this file's cells
                continue
            split[group] = [(own.index(rows[place][0]), rows[place][1]) for place in places]
            if group in self.packed:
                state = self.packed[group]
                states[group] = state if len(places) == len(rows) else _rows_of_packed(state, places)
        if states:
            states = {group: state | {"split": split} for group, state in states.items()}
            write_checkpoint(path, "\n".join(self.specs[cell] for cell in own), states)


def packed(state: State) -> State:
    """Return a state with one array for each name over all frames: a file of a hundred small ones is slow to write."""
    frames = state["frames"]
    names = frames[0] if frames else ()
    return state | {"frames": {name: torch.stack([frame[name] for frame in frames]) for name in names}}


def unpacked(state: State) -> State:
    """Return a state with its frames one by one. Raises ``ValueError`` where they are not as many for each name."""
    arrays = state["frames"]
    counts = {len(values) for values in arrays.values()} or {0}
    if len(counts) > 1:
        raise ValueError(f"frames: {sorted(counts)}")
    frames = [{name: values[number] for name, values in arrays.items()} for number in range(*counts)]
    return state | {"frames": frames}


def _rows_of_packed(state: State, places: Sequence[int]) -> State:
    rest = {name: part for name, part in state.items() if name != "frames"}
    frames = {name: values[:, places] for name, values in state["frames"].items()}
    return rows_of_state(rest, places) | {"frames": frames}


def rows_of_state(state: State, places: Sequence[int]) -> State:
    """Return the state of some of a group's rows."""
    index = torch.tensor(places)
    return _mapped(lambda tensor: tensor[index.to(tensor.device)], state)


def joined_states(states: Sequence[State]) -> State:
    """Return the state of several groups' rows, which are at the same step, one after the other."""
    return states[0] if len(states) == 1 else _mapped(lambda *parts: torch.cat(parts), *states)


def _mapped(function: Callable[..., Tensor], first: Any, *others: Any) -> Any:
    """Apply a function to each tensor of nested dictionaries and lists, and to the same tensor of others."""
    if isinstance(first, Tensor):
        return function(first, *others)
    if isinstance(first, dict):
        return {
            name: _mapped(function, part, *(other[name] for other in others)) for name, part in first.items()
        }
    if isinstance(first, list):
        return [_mapped(function, *parts) for parts in zip(first, *others, strict=True)]
    return first
