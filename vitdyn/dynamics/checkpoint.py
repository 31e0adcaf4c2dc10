"""Checkpoints: a run's state, written whole or not at all, so that a killed run resumes to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vitdyn.trajectory import writable_beside


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: unreadable, or of another run."""


def write_checkpoint(path: Path, spec: str, state: dict[str, Any]) -> None:
    """Write tensors, numbers and strings to ``path``; a kill at any moment leaves the old file or the new one."""
    with writable_beside(path) as scratch:
        torch.save({"spec": spec, "state": state}, scratch)


def read_checkpoint(path: Path, spec: str, device: torch.device) -> dict[str, Any] | None:
    """Return the state, or None where there is no checkpoint. No code in the file is run.

    Raises ``CheckpointError`` where the file is unreadable or was written by a run of another spec.
    """
    if not path.is_file():
        return None
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        written, state = stored["spec"], stored["state"]
    except Exception as error:  # torch.load raises whatever its unpickler meets
        raise CheckpointError(f"checkpoint = {str(path)!r}: unreadable; delete it to start the run anew") from error
    if written != spec:
        raise CheckpointError(
            f"checkpoint = {str(path)!r}: written by a run of another specification; delete it or name another folder"
        )
    return state
