"""The loop: one specification in, a trained encoder out; it survives an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitdyn._memory import require_fits
from vitdyn._signals import whole_steps
from vitdyn._specs import to_text
from vitdyn.dynamics.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from vitdyn.dynamics.resources import machine_of, pick_device
from vitdyn.practice.learner import Batch, Learner
from vitdyn.practice.pretraining import Pretraining


class Trained(NamedTuple):
    """An encoder after training, the loss at each step, taken before it, and the machines that took the steps."""

    learner: Learner
    losses: Tensor
    machines: tuple[str, ...]


def train(
    spec: Pretraining,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 10.0,
    advance: Callable[[int], object] = lambda steps: None,
    anew: bool = False,
) -> Trained:
    """Train one encoder. The same specification on the same device gives the same bits.

    With a ``checkpoint`` path the state is written there every ``checkpoint_seconds`` and at an interrupt; the same
    call goes on from it, to the same bits. Whoever keeps the result removes the file. ``advance`` is told of steps
    done, and may end the run by an error. With ``anew``, a checkpoint that cannot be used is no error: the run starts
    anew.

    Raises ``ArithmeticError`` where the loss is not finite, ``CheckpointError`` for a checkpoint that cannot be used.
    """
    where = pick_device(device)
    _require_memory(spec)
    images = spec.images.load().to(where)
    run, begin = _Run.of(spec, where), 0
    if checkpoint:
        try:
            begin = run.resume(checkpoint, spec, where)
        except CheckpointError:
            if not anew:
                raise
            run = _Run.of(spec, where)  # what cannot be used may have been taken over in part
    if run.machines[-1:] != [machine_of(where)] and begin < max(1, spec.steps):
        run.machines.append(machine_of(where))
    advance(begin)
    last = time.monotonic()
    for step in range(begin, spec.steps):
        try:
            with whole_steps():
                run.losses[step] = descend(run.learner, run.optimiser, Batch.draw(spec, images, step))
            advance(1)
        except BaseException:
            if checkpoint and run.losses[step].isfinite():  # else the step itself failed, half done
                run.keep(checkpoint, spec, step + 1)
            raise
        if checkpoint and time.monotonic() - last >= checkpoint_seconds:
            run.keep(checkpoint, spec, step + 1)
            last = time.monotonic()
    lost = (~run.losses.isfinite()).nonzero()
    if len(lost):
        raise ArithmeticError(f"the loss is not finite at step {int(lost[0])}: take a smaller learning_rate")
    return Trained(run.learner, run.losses.cpu(), tuple(run.machines))


def _require_memory(spec: Pretraining) -> None:
    """Raise where weights with their moments, attention maps of a batch and of the analysis, or losses do not fit."""
    built = spec.architecture
    tokens = built.grid(spec.images.side) ** 2 + 1
    weights = 4 * built.layers * (4 + 2 * built.expansion) * built.width**2
    maps = built.layers * built.heads * tokens**2 * (3 * spec.batch + spec.analysis.images)
    remedy = "take larger patches, fewer layers or a smaller width"
    require_fits("architecture", built, 4 * (weights + maps), remedy)
    require_fits("steps", spec.steps, 8 * spec.steps, "take fewer steps")


class _Run(NamedTuple):
    """What changes while an encoder trains; all draws are functions of the step and need no state."""

    learner: Learner
    optimiser: torch.optim.Optimizer
    losses: Tensor
    machines: list[str]

    @classmethod
    def of(cls, spec: Pretraining, device: torch.device) -> _Run:
        """Return what there is before the first step."""
        learner = Learner(spec).to(device)
        losses = torch.full((spec.steps,), torch.nan, device=device)
        return cls(learner, make_optimiser(learner, spec), losses, [])

    def keep(self, path: Path, spec: Pretraining, step: int) -> None:
        """Write the state after ``step`` steps."""
        state = {
            "step": step,
            "learner": self.learner.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "losses": self.losses,
            "machines": self.machines,
        }
        write_checkpoint(path, to_text(spec), state)

    def resume(self, path: Path, spec: Pretraining, device: torch.device) -> int:
        """Take over the state that is kept, if any; return how many steps it has done."""
        state = read_checkpoint(path, to_text(spec), device)
        if state is None:
            return 0
        try:
            step, losses = state["step"], state["losses"]
            fits = type(step) is int and 0 <= step <= spec.steps and losses.shape == self.losses.shape
            fits = fits and losses.dtype == self.losses.dtype and bool(losses[:step].isfinite().all())
            fits = fits and all(isinstance(name, str) for name in [*state["machines"]])
            own = self.learner.state_dict()
            fits = fits and all(state["learner"][name].dtype == part.dtype for name, part in own.items())
            self.learner.load_state_dict(state["learner"])
            self._take_over(state["optimiser"])
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError.of(path, "holds no state of this run") from error
        if not fits:
            raise CheckpointError.of(path, "its step, losses or parameters cannot be of this run")
        self.losses.copy_(losses)
        self.machines.extend(state["machines"])
        return step

    def _take_over(self, state: dict[str, Any]) -> None:
        """Load what the rule of descent carries. Torch compares no shapes, and takes over any rate or decay."""
        for group, own in zip(state["param_groups"], self.optimiser.param_groups, strict=True):
            for name in own.keys() - {"params", "lr"}:
                if group[name] != own[name]:
                    raise ValueError(name)
        self.optimiser.load_state_dict(state)
        for parameter, moments in self.optimiser.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                if moments[name].shape != parameter.shape or moments[name].dtype != parameter.dtype:
                    raise ValueError(name)


def make_optimiser(learner: Learner, spec: Pretraining) -> torch.optim.AdamW:
    """Return AdamW on what is trained; norms, biases and tokens do not decay."""
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    matrices = [each for each in trained if each.ndim in (2, 4)]
    others = [each for each in trained if each.ndim not in (2, 4)]
    groups = [
        {"params": matrices, "weight_decay": spec.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(0.9, 0.95), fused=True)


def descend(learner: Learner, optimiser: torch.optim.Optimizer, batch: Batch) -> Tensor:
    """Take one step; return the loss before it."""
    for group in optimiser.param_groups:
        group["lr"] = batch.spec.rate(batch.step)
    loss = learner.loss(batch)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.detach()
