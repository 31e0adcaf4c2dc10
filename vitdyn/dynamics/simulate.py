"""The one loop: train a batch of seeds, record on a schedule, survive an interruption."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
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
from vitdyn.dynamics.gradient import Workspaces, forward_pass, loss_gradient
from vitdyn.dynamics.resources import (
    DEFAULT_MEMORY_MIB,
    PRECISIONS,
    device_name,
    estimate_memory,
    pick_device,
)
from vitdyn.dynamics.training import Training
from vitdyn.objectives import Memory
from vitdyn.observables import observe
from vitdyn.trajectory import Trajectory

_FINITE_CHECK_STEPS = 64


class DivergenceError(ArithmeticError):
    """A run whose correlations stopped being finite numbers; says at which step, for which seed."""


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
    frame. The seeds are split into groups whose working memory stays under ``memory_limit_mib``; the split
    depends on the specification alone, so that the same specification gives the same bits.

    With a ``checkpoint`` path the state is written there every ``checkpoint_seconds`` and at an interrupt;
    the same call resumes from it, to the same bits, and removes it at the end.

    Raises ``ValueError`` for a bad argument before any work starts, ``DivergenceError`` at the first value
    that is not finite.
    """
    began = time.monotonic()
    where = pick_device(device)
    limit = DEFAULT_MEMORY_MIB[where.type] if memory_limit_mib is None else memory_limit_mib
    require_real("memory_limit_mib", limit, low=0.0, high=1e9, open_low=True)
    require_real("checkpoint_seconds", checkpoint_seconds, low=0.0, high=1e9)
    spec = to_text({"training": training, "memory_limit_mib": limit, "start": _digest(start)})
    keeper = Keeper(checkpoint, spec, checkpoint_seconds, where)
    groups = _split(training, limit)
    with _progress_bar(progress, len(training.seed_numbers) * training.steps) as bar:
        _train_all(_Loop(training, where, start, keeper, bar), groups)
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


def _split(training: Training, limit_mib: float) -> list[tuple[int, ...]]:
    views = 2 if training.objective.family in ("contrastive", "hybrid") else 1
    each = estimate_memory(training.generator, training.samples, views=views, precision=training.precision)
    size, seeds = max(1, int(limit_mib * 2**20) // each), training.seed_numbers
    return [seeds[index : index + size] for index in range(0, len(seeds), size)]


def _train_all(loop: _Loop, groups: list[tuple[int, ...]]) -> None:
    """Train the groups, on CPU one to a core: whole groups side by side need no barrier inside an operation."""
    workers = min(len(groups), torch.get_num_threads()) if loop.device.type == "cpu" else 1
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running = [pool.submit(loop.train, index, seeds) for index, seeds in enumerate(groups)]
        try:
            for finished in as_completed(running):
                finished.result()
        except BaseException:
            loop.stop.set()
            for future in running:
                future.cancel()
            raise


@dataclass
class _Group:
    """The state of the seeds that train together."""

    seeds: tuple[int, ...]
    correlations: Correlations
    descent: dict[str, Correlations]
    memory: Memory
    first_bad: Tensor
    step: int = 0
    frames: list[dict[str, Tensor]] = field(default_factory=list)

    def state(self) -> State:
        """Return a copy of everything, as plain values."""
        return {
            "correlations": self.correlations.map(torch.clone).named(),
            "descent": {name: part.map(torch.clone).named() for name, part in self.descent.items()},
            "memory": {name: value.clone() for name, value in self.memory.items()},
            "first_bad": self.first_bad,
            "step": self.step,
            "frames": list(self.frames),
        }

    @classmethod
    def from_state(cls, seeds: tuple[int, ...], state: State) -> _Group:
        """Go on from a copy: the keeper may have to write the stored state again, whole, for another group."""
        descent = {name: Correlations(**blocks).map(torch.clone) for name, blocks in state["descent"].items()}
        correlations = Correlations(**state["correlations"]).map(torch.clone)
        copied = {"correlations": correlations, "descent": descent, "frames": list(state["frames"])}
        return cls(seeds, **{**state, **copied})

    def note_bad_values(self) -> None:
        """Remember, without waiting for the device, the first step after which a seed is not finite."""
        total = torch.stack([block.flatten(1).sum(1) for block in self.correlations.named().values()]).sum(0)
        fresh = ~total.isfinite() & (self.first_bad < 0)
        self.first_bad = torch.where(fresh, self.step, self.first_bad)

    def require_finite(self) -> None:
        bad = [
            (step, seed) for step, seed in zip(self.first_bad.tolist(), self.seeds, strict=True) if step >= 0
        ]
        if bad:
            step, seed = min(bad)
            raise DivergenceError(
                f"step {step}, seed {seed}: the correlations are not finite; "
                "take a smaller learning rate or precision='float64'"
            )


@dataclass(frozen=True)
class _Loop:
    """Trains one group of seeds; a set ``stop`` makes every group deposit its state and leave."""

    training: Training
    device: torch.device
    start: Correlations | None
    keeper: Keeper
    bar: Any
    stop: threading.Event = field(default_factory=threading.Event)

    def train(self, index: int, seeds: tuple[int, ...]) -> None:
        training, rule, workspaces = self.training, self.training.rule, Workspaces()
        group = self._begin(seeds, self.keeper.states.get(index))
        self.bar.update(len(seeds) * group.step)
        source = BatchSource(training.generator, training.objective, seeds, training.samples,
                             training.data_set_size, PRECISIONS[training.precision], self.device)  # fmt: skip
        data_set, recorded = source.data_set(), training.schedule.recorded_steps(training.steps)
        while len(group.frames) < len(recorded):
            if group.step == recorded[len(group.frames)]:
                group.require_finite()
                group.frames.append(self._frame(group, source, workspaces))
                continue
            batch, views = source.training(group.step, data_set)
            gradient, forward = loss_gradient(
                group.correlations, training.objective, batch, views, group.memory, workspaces
            )
            rule.step(group.correlations, gradient, group.descent, group.step)
            group.memory = training.objective.after_step(forward, group.correlations)
            group.step += 1
            group.note_bad_values()
            if self.device.type == "cpu" or group.step % _FINITE_CHECK_STEPS == 0:
                group.require_finite()
            self.bar.update(len(seeds))
            if self.stop.is_set() or self.keeper.due(index):
                self.keeper.deposit(index, group.state())
            if self.stop.is_set():
                return
        self.keeper.deposit(index, group.state())

    def _begin(self, seeds: tuple[int, ...], state: State | None) -> _Group:
        if state is not None:
            return _Group.from_state(seeds, state)
        training = self.training
        correlations = Correlations.zeros(
            training.generator.layout,
            len(seeds),
            content_queries=training.content_queries,
            dtype=PRECISIONS[training.precision],
            device=self.device,
        )
        if self.start is not None:
            correlations = correlations.map(
                lambda zero, given: given.detach().to(zero).expand_as(zero).clone(), self.start
            )
        unset = torch.full((len(seeds),), -1, device=self.device)
        memory = training.objective.init(correlations)
        return _Group(seeds, correlations, training.rule.init(correlations), memory, unset)

    def _frame(self, group: _Group, source: BatchSource, workspaces: Workspaces) -> dict[str, Tensor]:
        batch, views = source.evaluation(group.step, self.training.evaluation_samples)
        forward = forward_pass(group.correlations, batch, views, group.memory, workspaces)
        values = observe(group.correlations, self.training.objective, forward)
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
