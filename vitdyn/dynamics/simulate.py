"""From specifications to trajectories: one cell, or the cells of a grid."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Sequence
from pathlib import Path

from vitdyn._errors import as_path, as_tuple, invalid_value, require_kind
from vitdyn._progress import progress as shown
from vitdyn._specs import to_text, why_unnamed
from vitdyn.dynamics.assemble import Recorded, assemble
from vitdyn.dynamics.checkpoint import Checkpointer
from vitdyn.dynamics.divergence import DivergenceError
from vitdyn.dynamics.grid import is_layer
from vitdyn.dynamics.initial import first_parameters, require_trainable, warn_of_twin
from vitdyn.dynamics.loop import Loop, train_all
from vitdyn.dynamics.memory import require_memory, work_of
from vitdyn.dynamics.resources import PRECISIONS, device_name
from vitdyn.dynamics.resume import resume
from vitdyn.dynamics.runtime import Runtime
from vitdyn.dynamics.training import Training
from vitdyn.models import Correlations, Parameters
from vitdyn.trajectory import FORMULAS, Trajectory


def simulate(
    training: Training,
    *,
    start: Parameters | None = None,
    checkpoint: str | Path | None = None,
    runtime: Runtime = Runtime(),
) -> Trajectory:
    """Train the model from its initial parameters (or from ``start``) by descent on the objective, for every seed.

    Frame 0 is the start, each frame is taken before the step of its number, and the last state is always a
    frame. No seed's numbers depend on the other seeds: the same specification on the same device gives the same bits.

    With a ``checkpoint`` path the state is written there now and then (``runtime``) and at an interrupt; the same call
    resumes from it, to the same bits, and removes it at the end. On another kind of processor than before, the steps
    from there on have other last bits; the result says which machine did which.

    Raises ``ValueError`` for a bad argument, and for a run that needs more memory than there is, before any work
    starts; ``CheckpointError`` (a ``ValueError``) for a checkpoint that cannot be used; ``DivergenceError`` at the
    first value that is not finite.

    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> training = vd.Training(generator=generator, objective=vd.MaskedReconstruction(), steps=20, seeds=2)
    >>> vd.simulate(training)["own_area_attention"].dims
    ('frame', 'seed', 'cluster', 'query_area', 'statistic')
    """
    require_kind("training", training, Training)
    return _simulate((training,), start, checkpoint, runtime)[0]


def simulate_grid(
    trainings: Sequence[Training],
    *,
    checkpoint: str | Path | Sequence[str | Path] | None = None,
    runtime: Runtime = Runtime(),
) -> tuple[Trajectory, ...]:
    """Simulate every cell of a grid; return their trajectories in order.

    Each has the values and the specification of ``simulate`` of its cell, to the bit; its ``seconds`` are its share of
    the whole, by work. On CPU cells of the same shapes (layout, batch size, steps, recorded steps, precision, kinds of
    objective and optimizer, observables) train in one batch, whatever their numbers: η and what else the optimizer has,
    γ, τ, λ and weight decay, the distribution of the latents, the seeds; what they draw alike is drawn once. On GPUs
    those of masked reconstruction in float32 with one distribution (16 areas at most) do so too; other sums there
    depend on the number of seeds. Cells with content queries, a fixed data set, or an objective or optimizer of your
    own share no batch. Batches train beside each other, so that every core is busy.

    ``checkpoint`` is one file for the whole grid, or a sequence of files, one for each cell: as in ``simulate``, and on
    any number of cores. Cells may be in another order than they were, or new: these begin, the others go on.
    The file of one cell is that of ``simulate``.

    Raises ``ValueError`` for a bad argument before any work starts, naming the cell. Where cells diverge, all others
    are finished, and then a ``DivergenceError`` names each with its step and seed, and holds the trajectories.

    >>> from dataclasses import replace
    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> base = vd.Training(generator=generator, objective=vd.MaskedReconstruction(), steps=5)
    >>> cells = [replace(base, optimizer=vd.GradientDescent(learning_rate=rate)) for rate in (1.0, 2.0)]
    >>> [float(trajectory.final["time"]) for trajectory in vd.simulate_grid(cells)]
    [5.0, 10.0]
    """
    cells = as_tuple("trainings", trainings, Training)
    if not cells:
        raise invalid_value("trainings", trainings, "must be a sequence of one Training or more")
    return _simulate(cells, None, checkpoint, runtime)


def _simulate(
    cells: tuple[Training, ...],
    start: Parameters | None,
    checkpoint: str | Path | Sequence[str | Path] | None,
    runtime: Runtime,
) -> tuple[Trajectory, ...]:
    began = time.monotonic()
    require_kind("runtime", runtime, Runtime)
    if start is not None:
        _check_start(start, cells[0])
    if checkpoint is not None and (reason := why_unnamed(list(cells))):
        remedy = f"cannot be told from those of other runs: {reason}"
        raise invalid_value("checkpoint", str(checkpoint), remedy)
    # before any work: a run that the system kills for memory an hour later says nothing of why
    require_memory(cells, runtime.place)
    for cell in cells:
        require_trainable(cell, runtime.place)
        warn_of_twin(cell)
    given = {"memory_limit_mib": runtime.group_limit_mib, "start": _digest(start)}
    specs = [to_text({"training": cell} | given) for cell in cells]
    # a checkpoint is of one run of one set of formulas: its spec says more than the result's
    named = [f"formulas {FORMULAS}, {spec}" for spec in specs]
    checkpointer = Checkpointer(_files_of(checkpoint, len(cells)), named, runtime.checkpoint_seconds)
    lost = _train(cells, start, checkpointer, runtime)
    seconds = time.monotonic() - began
    trajectories = _assemble(cells, specs, checkpointer, lost, runtime, seconds)
    if lost and len(cells) == 1:
        raise DivergenceError(lost)
    if lost:
        names = [f"cell {index}" for index in range(len(cells))]
        raise DivergenceError(lost, names, [trajectories.get(index) for index in range(len(cells))])
    # only now: until the trajectories are made the states are in no other place
    if not runtime.keep_checkpoint:
        checkpointer.remove()
    return tuple(trajectories.values())


def _train(
    cells: tuple[Training, ...], start: Parameters | None, checkpointer: Checkpointer, runtime: Runtime
) -> dict[int, tuple[int, int]]:
    """Train all groups to their end, whose states the checkpointer has; return which cells diverged, and where."""
    groups = resume(cells, start, runtime.place, runtime.group_limit_mib, checkpointer, anew=runtime.anew)
    total = sum(cell.steps * len(cell.seed_numbers) for cell in cells)
    with shown(runtime.progress, total, "seed-step") as bar:
        loop = Loop(groups, start, checkpointer, bar)
        train_all(loop)
    return loop.lost


def _assemble(
    cells: tuple[Training, ...],
    specs: Sequence[str],
    checkpointer: Checkpointer,
    lost: Container[int],
    runtime: Runtime,
    seconds: float,
) -> dict[int, Trajectory]:
    """Return the trajectory of each cell that did not diverge; its seconds are its share by work."""
    good = [index for index in range(len(cells)) if index not in lost]
    recorded, works = _join(checkpointer, good), [max(1, work_of(cell)) for cell in cells]
    return {
        index: assemble(
            recorded[index],
            index,
            cells[index],
            spec=specs[index],
            device=device_name(runtime.place),
            seconds=seconds * works[index] / sum(works),
            keep_final_state=runtime.keep_final_state,
        )
        for index in good
    }


def _files_of(checkpoint: str | Path | Sequence[str | Path] | None, cells: int) -> dict[Path, range]:
    """Return which cells each file of checkpoints holds."""
    if checkpoint is None:
        return {}
    if isinstance(checkpoint, str) or not isinstance(checkpoint, Sequence):
        return {as_path("checkpoint", checkpoint): range(cells)}
    files = {as_path("checkpoint", path): range(index, index + 1) for index, path in enumerate(checkpoint)}
    if len(checkpoint) != cells or len(files) != cells:
        remedy = f"must be one file, or {cells} different ones, one for each cell"
        raise invalid_value("checkpoint", checkpoint, remedy)
    return files


def _check_start(start: Parameters, training: Training) -> None:
    require_kind("start", start, Correlations if is_layer(training) else Parameters)
    if start.seeds not in (1, len(training.seed_numbers)):
        remedy = f"must be 1 or {len(training.seed_numbers)}, one for each seed"
        raise invalid_value("start.seeds", start.seeds, remedy)
    wanted, given = first_parameters(training, training.seed_numbers[:1]).named(), start.named()
    if wanted.keys() != given.keys():
        raise invalid_value("start", sorted(given), f"must have the blocks {', '.join(wanted)}")
    for name, block in given.items():
        shape = (start.seeds, *wanted[name].shape[1:])
        if tuple(block.shape) != shape:
            remedy = f"must have the shape {shape} of this layout"
            raise invalid_value(f"start.{name}", tuple(block.shape), remedy)
        if not block.to(PRECISIONS[training.precision]).isfinite().all():
            raise invalid_value(f"start.{name}", "not finite", "must hold finite numbers")


def _digest(start: Parameters | None) -> str | None:
    """Return a name for a given start, so that a checkpoint knows its own."""
    if start is None:
        return None
    blocks = start.map(lambda block: block.detach().cpu().contiguous()).named()
    return hashlib.sha256(b"".join(block.numpy().tobytes() for block in blocks.values())).hexdigest()


def _join(checkpointer: Checkpointer, cells: Sequence[int]) -> dict[int, Recorded]:
    """Return for each cell what its groups recorded; cells of the same groups share it."""
    of_cell: dict[int, list[int]] = {cell: [] for cell in cells}
    for index, rows in checkpointer.rows.items():
        for cell in {cell for cell, _ in rows} & of_cell.keys():
            of_cell[cell].append(index)
    joined: dict[tuple[int, ...], Recorded] = {}
    for own in map(tuple, of_cell.values()):
        if own not in joined:
            groups = [(checkpointer.rows[index], checkpointer.states[index]) for index in own]
            joined[own] = Recorded.of(groups)
    return {cell: joined[tuple(own)] for cell, own in of_cell.items()}
