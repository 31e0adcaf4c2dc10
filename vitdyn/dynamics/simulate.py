"""The one loop: train a batch of seeds, record on a schedule, survive an interruption."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitdyn._errors import require_real
from vitdyn._specs import to_text
from vitdyn.attention import Correlations
from vitdyn.dynamics.assemble import assemble
from vitdyn.dynamics.batches import BatchSource
from vitdyn.dynamics.checkpoint import Keeper, State
from vitdyn.dynamics.gradient import Workspaces, forward_pass
from vitdyn.dynamics.group import Group, steps_of
from vitdyn.dynamics.memory import Placement, default_limit, side_by_side, split_seeds
from vitdyn.dynamics.resources import (
    PRECISIONS,
    device_name,
    pick_device,
)
from vitdyn.dynamics.training import Training
from vitdyn.observables import observe
from vitdyn.trajectory import Trajectory

STEPS_AHEAD = {"cpu": 1, "cuda": 64}
"""How many steps a device does before anybody asks it for a number."""


def simulate(
    training: Training,
    *,
    device: str = "auto",
    memory_limit_mib: float | None = None,
    start: Correlations | None = None,
    keep_final_state: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 10.0,
    progress: bool = False,
) -> Trajectory:
    """Train the layer from Q = 0 (or from ``start``) by descent on the objective, for every seed.

    Frame 0 is the start, each frame is taken before the step of its number, and the last state is always a
    frame. The seeds are split into groups whose working memory stays under ``memory_limit_mib`` (None: near the cache
    on CPU, what is free on GPUs, all of which train where ``device`` names none). No seed's numbers depend on its
    group: the same specification on the same device gives the same bits.

    With a ``checkpoint`` path the state is written there every ``checkpoint_seconds`` and at an interrupt;
    the same call resumes from it, to the same bits, and removes it at the end.

    Raises ``ValueError`` for a bad argument before any work starts, ``DivergenceError`` at the first value
    that is not finite.
    """
    began = time.monotonic()
    where = pick_device(device)
    limit = default_limit(where) if memory_limit_mib is None else memory_limit_mib
    require_real("memory_limit_mib", limit, low=0.0, high=1e9, open_low=True)
    require_real("checkpoint_seconds", checkpoint_seconds, low=0.0, high=1e9)
    spec = to_text({"training": training, "memory_limit_mib": limit, "start": _digest(start)})
    keeper = Keeper(checkpoint, spec, checkpoint_seconds, where)
    groups = split_seeds(training, where, limit)
    with _progress_bar(progress, len(training.seed_numbers) * training.steps) as bar:
        _train_all(_Loop(training, start, keeper, bar), groups)
    trajectory = assemble(
        [keeper.states[index] for index in range(len(groups))],
        steps=training.schedule.recorded_steps(training.steps),
        learning_rate=training.rule.learning_rate,
        seeds=training.seed_numbers,
        spec=spec,
        device=device_name(where),
        seconds=time.monotonic() - began,
        keep_final_state=keep_final_state,
    )
    keeper.remove()
    return trajectory


def _digest(start: Correlations | None) -> str | None:
    """Return a name for a given start, so that a checkpoint knows its own."""
    if start is None:
        return None
    blocks = start.map(lambda block: block.detach().cpu().contiguous()).named()
    return hashlib.sha256(b"".join(block.numpy().tobytes() for block in blocks.values())).hexdigest()


def _train_all(loop: _Loop, groups: list[Placement]) -> None:
    """Train the groups, on CPU one to a core: whole groups side by side need no barrier inside an operation."""
    workers = side_by_side(loop.training, groups)
    locks = {device: threading.Lock() for device, _ in groups if device.type == "cuda"}
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running: list[Future] = []
        try:  # an interrupt may come while groups are still being handed out
            for index, (device, seeds) in enumerate(groups):
                turn = locks.get(device, nullcontext())
                running.append(pool.submit(loop.train, index, device, seeds, turn))
            for finished in as_completed(running):
                finished.result()
        except BaseException:
            loop.stop.set()
            for future in running:
                future.cancel()
            raise


@dataclass(frozen=True)
class _Loop:
    """Trains one group of seeds; a set ``stop`` makes every group deposit its state and leave."""

    training: Training
    start: Correlations | None
    keeper: Keeper
    bar: Any
    stop: threading.Event = field(default_factory=threading.Event)

    def train(
        self, index: int, device: torch.device, seeds: tuple[int, ...], turn: AbstractContextManager
    ) -> None:
        """Train a group from its checkpoint or start to its last frame; an error stops the others at once."""
        try:
            with turn:
                self._train(index, device, seeds)
        except BaseException:
            self.stop.set()
            raise

    def _train(self, index: int, device: torch.device, seeds: tuple[int, ...]) -> None:
        training, workspaces = self.training, Workspaces()
        recorded = training.schedule.recorded_steps(training.steps)
        group = self._begin(device, seeds, self.keeper.states.get(index))
        self.bar.update(len(seeds) * group.step)
        source = BatchSource(training.generator, training.objective, seeds, training.samples,
                             training.data_set_size, PRECISIONS[training.precision], device)  # fmt: skip
        steps = steps_of(training, group, source, workspaces)
        while len(group.frames) < len(recorded):
            due = recorded[len(group.frames)]
            if group.step == due:
                group.require_finite()
                group.frames.append(self._frame(group, source, workspaces))
                continue
            ahead = min(due - group.step, STEPS_AHEAD[device.type])
            steps.advance(ahead)
            group.require_finite()
            self.bar.update(len(seeds) * ahead)
            if self.stop.is_set() or self.keeper.due(index):
                self.keeper.deposit(index, group.to_state())
            if self.stop.is_set():
                return
        self.keeper.deposit(index, group.to_state())

    def _begin(self, device: torch.device, seeds: tuple[int, ...], state: State | None) -> Group:
        if state is not None:
            return Group.from_state(device, seeds, state)
        training = self.training
        correlations = Correlations.zeros(
            training.generator.layout,
            len(seeds),
            content_queries=training.content_queries,
            dtype=PRECISIONS[training.precision],
            device=device,
        )
        if self.start is not None:
            correlations = correlations.map(
                lambda zero, given: given.detach().to(zero).expand_as(zero).clone(), self.start
            )
        unset = torch.full((len(seeds),), -1, device=device)
        memory = training.objective.init(correlations)
        return Group(seeds, correlations, training.rule.init(correlations), memory, unset)

    def _frame(self, group: Group, source: BatchSource, workspaces: Workspaces) -> dict[str, Tensor]:
        batch, views = source.evaluation(group.step, self.training.evaluation_samples)
        forward = forward_pass(group.correlations, batch, views, group.memory, workspaces)
        values = observe(group.correlations, self.training.objective, forward)
        if self.training.metrics is not None:
            values |= self.training.metrics.measure(group.correlations, source.generator, group.seeds)
        return {name: value.cpu() for name, value in values.items()}


def _progress_bar(show: bool, total: int) -> Any:
    if not show:
        return nullcontext(_Silent())
    from tqdm import tqdm

    return tqdm(total=total, unit="seed-step", disable=None, smoothing=0.1)


class _Silent:
    """A progress bar that shows nothing."""

    def update(self, count: int) -> None:
        """Do nothing."""
