"""The one loop: groups of seeds side by side, each from its start or checkpoint to its last frame."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import torch

from vitdyn.dynamics.checkpoint import Checkpointer
from vitdyn.dynamics.gradient import Workspaces
from vitdyn.dynamics.grid import ReplicaBatch, engine_of
from vitdyn.dynamics.group import Group, fresh_group
from vitdyn.dynamics.joint_batches import JointSource
from vitdyn.dynamics.memory import concurrent_groups
from vitdyn.dynamics.recorder import frame_of
from vitdyn.dynamics.resources import machine_of
from vitdyn.dynamics.steppers import stepper_of
from vitdyn.kernels import Parameters

STEPS_AHEAD = {"cpu": 1, "cuda": 64}
"""How many steps a device does before the host asks it for a number, which on a GPU means to wait for it."""


def train_all(loop: Loop) -> None:
    """Train the groups, on CPU one to a core: whole groups side by side need no barrier inside an operation."""
    workers = concurrent_groups(loop.groups)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running: list[Future] = []
        try:  # an interrupt may come while groups are still being handed out
            for index in range(len(loop.groups)):
                running.append(pool.submit(loop.train, index))
            loop.start_event.set()
            for finished in as_completed(running):
                finished.result()
        except (
            BaseException
        ):  # an interrupt too: threads save their state and leave, those that wait for the start first
            loop.stop.set()
            loop.start_event.set()
            for future in running:
                future.cancel()
            raise


@dataclass(frozen=True)
class Loop:
    """Trains groups of seeds; a set ``stop`` makes every group save its state and leave.

    A cell that diverges leaves its group, the others of which go on; ``lost`` has the step and the seed of each.

    No group starts before ``start_event`` is set, when all threads are started. An interrupt that comes in between can
    make the pool forget a thread, which it then would not wait for; such a thread finds ``stop`` set and does nothing.
    """

    groups: list[ReplicaBatch]
    start: Parameters | None
    checkpointer: Checkpointer
    bar: Any
    start_event: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    lost: dict[int, tuple[int, int]] = field(default_factory=dict)

    def train(self, index: int) -> None:
        """Train a group from its checkpoint or start to its last frame; an error stops the others at once."""
        try:
            self.start_event.wait()
            if not self.stop.is_set():
                self._train(index)
        except BaseException:
            self.stop.set()
            raise

    def _train(self, index: int) -> None:
        common, device = self.groups[index].common, self.groups[index].device
        recorded = common.schedule.recorded_steps(common.steps)
        group = self._initialise(index)
        source, workspaces = JointSource(group.rows), Workspaces()
        steps = stepper_of(group, source, workspaces)
        self.bar.update(len(group.rows.rows) * group.step)
        while len(group.frames) < len(recorded):
            next_frame = recorded[len(group.frames)]
            # a frame is taken before the step of its number, so that frame 0 is the start
            if group.step == next_frame:
                group.frames.append(frame_of(group, source, workspaces))
                continue
            ahead = min(next_frame - group.step, STEPS_AHEAD[device.type])
            steps.advance(ahead)
            self.bar.update(len(group.rows.rows) * ahead)
            if self._loses(group):
                kept = group.without(self.lost)
                if kept is None:
                    return
                group = kept
                source, workspaces = JointSource(group.rows), Workspaces()
                steps = stepper_of(group, source, workspaces)
            if self.stop.is_set() or self.checkpointer.should_save(index):
                self.checkpointer.save(index, group.rows.rows, group.to_state())
            if self.stop.is_set():
                return
        # finished groups too: their results are read off the checkpointer, and a resumed run finds them done
        self.checkpointer.save(index, group.rows.rows, group.to_state())

    def _loses(self, group: Group) -> bool:
        """Note which cells diverged; return whether this group has rows of one that did, here or in another group."""
        for cell, where in group.diverged().items():
            self.lost.setdefault(cell, where)
            self.checkpointer.forget(cell)
        return bool(self.lost) and any(cell in self.lost for cell, _ in group.rows.rows)

    def _initialise(self, index: int) -> Group:
        rows, state = self.groups[index], self.checkpointer.states.get(index)
        group = fresh_group(rows, self.start) if state is None else Group.from_state(rows, state)
        here = engine_of(rows.common, rows.device.type), machine_of(rows.device)
        # noted at the start and where engine or machine has changed: the steps from there on have other last bits
        going_on = not group.parts or (group.step < rows.common.steps and group.parts[-1][1:] != here)
        if going_on:
            group.parts.append((group.step, *here))
        return group
