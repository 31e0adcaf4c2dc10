"""How a run goes on from its checkpoints: with the groups that they hold, and new ones for cells that had not begun."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitdyn.dynamics.checkpoint import (
    Checkpointer,
    CheckpointError,
    State,
    joined_states,
    stored_state,
    unpacked,
)
from vitdyn.dynamics.gradient import Workspaces
from vitdyn.dynamics.grid import Replica, ReplicaBatch, batch_key
from vitdyn.dynamics.group import fresh_group
from vitdyn.dynamics.joint_batches import JointSource
from vitdyn.dynamics.memory import split_cells
from vitdyn.dynamics.recorder import frame_of
from vitdyn.dynamics.training import Training
from vitdyn.models import Parameters


@dataclass(frozen=True)
class Piece:
    """Rows that a file says trained together, and their state if they had begun."""

    path: Path
    group: int
    rows: tuple[Replica, ...]
    state: State | None


def resume(
    cells: tuple[Training, ...],
    start: Parameters | None,
    device: torch.device,
    limit_mib: float,
    checkpointer: Checkpointer,
    *,
    anew: bool = False,
) -> list[ReplicaBatch]:
    """Return how the rows train together, and give the checkpointer the states of those that had begun.

    Cells that a checkpoint holds train in the groups in which they were, whatever the cores, so far as these
    are at the same step; the others are split as if they were alone. With ``anew``, a file that cannot be used counts
    as one that is not there.

    Raises ``CheckpointError`` for a file that is damaged, of another run, or holds what this run cannot have written.
    """
    pieces: list[Piece] = []
    for path, own in checkpointer.files.items():
        try:
            found = _pieces(path, cells, own, checkpointer.specs, device)
            for piece in found:
                _require_fit(piece, ReplicaBatch(cells, piece.rows, device), start)
        except CheckpointError:
            if not anew:
                raise
        else:
            pieces += found
    groups, states = _regrouped(cells, device, pieces)
    known = {cell for rows in groups for cell, _ in rows.rows}
    new = [cell for cell in range(len(cells)) if cell not in known]
    if new:
        for rows in split_cells([cells[cell] for cell in new], device, limit_mib):
            groups.append(
                ReplicaBatch(cells, tuple((new[cell], seed) for cell, seed in rows.rows), rows.device)
            )
    checkpointer.start([rows.rows for rows in groups], states)
    return groups


def _regrouped(
    cells: tuple[Training, ...], device: torch.device, pieces: Sequence[Piece]
) -> tuple[list[ReplicaBatch], dict[int, State]]:
    """Put together what trained together and is at the same step, of however many files."""
    together: dict[Hashable, list[Piece]] = {}
    for number, piece in enumerate(pieces):
        key, state = batch_key(cells[piece.rows[0][0]], device), piece.state
        moment = (state["step"], len(state["frames"]), repr(state["parts"])) if state else None
        kind = ("alone", number) if key is None else (piece.group, key, moment)
        together.setdefault(kind, []).append(piece)
    groups, states = [], {}
    for number, alike in enumerate(together.values()):
        groups.append(ReplicaBatch(cells, tuple(row for piece in alike for row in piece.rows), device))
        if alike[0].state is not None:
            states[number] = joined_states([piece.state for piece in alike if piece.state is not None])
    return groups, states


def _pieces(
    path: Path, cells: tuple[Training, ...], own: Sequence[int], specs: Sequence[str], device: torch.device
) -> list[Piece]:
    """Return what a file holds, in this run's numbers of its cells."""
    stored = stored_state(path, device)
    if stored is None:
        return []
    written, states = stored
    # a file names its cells by their specifications, in its own order: the grid may have been reordered or grown
    place, left = [], list(own)
    for spec in written.split("\n"):
        cell = next((cell for cell in left if specs[cell] == spec), None)
        if cell is None:
            raise CheckpointError.of_another_run(path)
        left.remove(cell)
        place.append(cell)
    try:
        split = next(iter(states.values()))["split"]
        rows = {
            group: tuple((place[cell], int(seed)) for cell, seed in part) for group, part in split.items()
        }
        begun = {group: unpacked(state) for group, state in states.items()}
        pieces = [Piece(path, group, part, begun.get(group)) for group, part in rows.items()]
        whole = Counter(row for part in rows.values() for row in part)
        mine = Counter(
            (cell, seed) for cell in {cell for cell, _ in whole} for seed in cells[cell].seed_numbers
        )
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise CheckpointError.of(path, "holds no groups and frames of this run's seeds") from error
    apart = any(
        len({cell for cell, _ in part}) > 1 and len({batch_key(cells[cell], device) for cell, _ in part}) > 1
        for part in rows.values()
    )
    if whole != mine or apart or not all(rows.values()) or not states.keys() <= rows.keys():
        raise CheckpointError.of(path, "holds no groups of this run's seeds")
    return pieces


def _require_fit(piece: Piece, rows: ReplicaBatch, start: Parameters | None) -> None:
    """Raise unless a state is one that this run can have written: names, shapes, types, step, number of frames."""
    if piece.state is None:
        return
    fresh, found = fresh_group(rows, start), piece.state
    like = fresh.to_state()
    alien = [name for name in like if not (isinstance(found, dict) and fits(found.get(name), like[name]))]
    if not alien and not 0 <= found["step"] <= rows.common.steps:
        alien = ["step"]
    if not alien and not all(_is_part(part) for part in found["parts"] or [None]):
        alien = ["parts"]
    if not alien:
        recorded = rows.common.schedule.recorded_steps(rows.common.steps)
        # a checkpoint may lie on either side of the frame of its own step
        done = {sum(step < end for step in recorded) for end in (found["step"], found["step"] + 1)}
        shapes = frame_of(fresh, JointSource(rows), Workspaces()) if found["frames"] else None
        if len(found["frames"]) not in done or not all(fits(frame, shapes) for frame in found["frames"]):
            alien = ["frames"]
    if alien:
        raise CheckpointError.of(piece.path, f"its {', '.join(alien)} cannot be of this run")


def _is_part(part: Any) -> bool:
    """Return whether a value is a step, an engine and a machine."""
    return isinstance(part, tuple) and tuple(map(type, part)) == (int, str, str)


def fits(found: Any, like: Any) -> bool:
    """Return whether values have the types, names and shapes of others; lists may be of any length."""
    if isinstance(like, Tensor):
        return isinstance(found, Tensor) and (found.shape, found.dtype) == (like.shape, like.dtype)
    if isinstance(like, dict):
        same = isinstance(found, dict) and found.keys() == like.keys()
        return same and all(fits(found[name], like[name]) for name in like)
    return type(found) is type(like)
