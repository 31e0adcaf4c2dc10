"""Checkpoints: a run's state, written whole or not at all, so that a killed run resumes to the same bits."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import torch

from vitdyn.trajectory import writable_beside

State = dict[Any, Any]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: unreadable, or of another run."""


def write_checkpoint(path: Path, spec: str, state: State) -> None:
    """Write tensors, numbers and strings to ``path``; a kill at any moment leaves the old file or the new one."""
    with writable_beside(path) as scratch:
        torch.save({"spec": spec, "state": state}, scratch)


def read_checkpoint(path: Path, spec: str, device: torch.device) -> State | None:
    """Return the state, or None where there is no checkpoint. No code in the file is run.

    Raises ``CheckpointError`` where the file is unreadable or was written by a run of another spec.
    """
    if not path.is_file():
        return None
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        written, state = stored["spec"], stored["state"]
    except Exception as error:  # torch.load raises whatever its unpickler meets
        raise CheckpointError(
            f"checkpoint = {str(path)!r}: unreadable; delete it to start the run anew"
        ) from error
    if written != spec:
        raise CheckpointError(
            f"checkpoint = {str(path)!r}: written by a run of another specification; delete it or name another folder"
        )
    return state


class Keeper:
    """Keeps one run's checkpoint up to date: the state of each group of seeds, finished or under way.

    The groups train on threads of their own; each deposits a copy of its state when ``seconds`` have
    passed since its last. Does nothing where ``path`` is None.
    """

    def __init__(self, path: str | Path | None, spec: str, seconds: float, device: torch.device) -> None:
        self.path = Path(path) if path is not None else None
        self.spec, self.seconds = spec, seconds
        self.lock = threading.Lock()
        self.states: dict[int, State] = {}
        if self.path:
            self.states = read_checkpoint(self.path, spec, device) or {}
        self.last: dict[int, float] = {}

    def due(self, group: int) -> bool:
        """Say whether a group should deposit its state now."""
        return (
            self.path is not None
            and time.monotonic() - self.last.setdefault(group, time.monotonic()) >= self.seconds
        )

    def deposit(self, group: int, state: State) -> None:
        """Take over a group's state, which nobody changes any more, and write the checkpoint."""
        with self.lock:
            self.states[group] = state
            self.last[group] = time.monotonic()
            if self.path:
                write_checkpoint(self.path, self.spec, self.states)

    def remove(self) -> None:
        """Delete the checkpoint: the run is over."""
        if self.path:
            self.path.unlink(missing_ok=True)
