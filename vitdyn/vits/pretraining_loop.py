"""The loop: one specification in, a trained and evaluated encoder out; it survives an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from vitdyn._errors import as_path, require_kind
from vitdyn._memory import require_fits
from vitdyn._progress import progress
from vitdyn._signals import whole_steps
from vitdyn._specs import to_text
from vitdyn.dynamics.checkpoint import CheckpointError, State, read_checkpoint, write_checkpoint
from vitdyn.dynamics.resources import device_name, machine_of
from vitdyn.dynamics.resume import fits
from vitdyn.dynamics.runtime import Runtime
from vitdyn.trajectory import FORMULAS, Trajectory
from vitdyn.vits.augmentation import minibatch
from vitdyn.vits.evaluation import evaluate
from vitdyn.vits.image_sets import Images
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.pretraining import Pretraining
from vitdyn.vits.results import to_trajectory
from vitdyn.vits.small_vit import build


def pretrain(
    spec: Pretraining,
    *,
    checkpoint: str | Path | None = None,
    runtime: Runtime = Runtime(),  # frozen
    advance: Callable[[int], object] | None = None,
) -> Trajectory:
    """Train an encoder and evaluate it. The same specification on the same device gives the same bits.

    With a ``checkpoint`` path the state is written there now and then, and at an interrupt; the same call goes on from
    it, to the same bits. ``advance`` is called with the number of steps done, and may end the run by an error; without
    it ``runtime`` decides whether progress is shown.

    Raises ``ArithmeticError`` where the loss is not finite, ``CheckpointError`` for a checkpoint that cannot be used.
    """
    began = time.monotonic()
    require_kind("spec", spec, Pretraining)
    require_kind("runtime", runtime, Runtime)
    path = as_path("checkpoint", checkpoint) if checkpoint is not None else None
    shown = progress(runtime.progress and advance is None, spec.steps, "step")
    with single_threaded(), shown as bar:
        trained = train(spec, checkpoint=path, runtime=runtime, advance=advance or bar.update)
        found = evaluate(spec, trained.learner.encoder, spec.images.load().to(runtime.place))
    if path and not runtime.keep_checkpoint:
        path.unlink(missing_ok=True)
    return to_trajectory(
        spec,
        found,
        trained.losses.cpu(),
        device=device_name(runtime.place),
        machine="; ".join(trained.machines),
        seconds=time.monotonic() - began,
    )


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch use one thread, so that runs share no core and sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train(
    spec: Pretraining,
    *,
    keep: tuple[int, ...] = (),
    checkpoint: Path | None = None,
    runtime: Runtime = Runtime(),  # frozen
    advance: Callable[[int], object] = lambda steps: None,
) -> Run:
    """Train one encoder (see ``pretrain``), and keep what it is after so many steps, 0 for the start.

    Whoever keeps the result removes the checkpoint.
    """
    _require_memory(spec, 4 + len(keep))
    images, run = spec.images.load().to(runtime.place), Run(spec, runtime.place, keep)
    begin = run.resume(checkpoint, runtime.anew) if checkpoint else 0
    machine = machine_of(runtime.place)
    if run.machines[-1:] != [machine] and begin < max(1, spec.steps):
        run.machines.append(machine)
    # what a checkpoint had done counts as done
    advance(begin)
    last = time.monotonic()
    for step in range(begin, spec.steps):
        try:
            # Ctrl-C and SIGTERM wait for the end of the step
            with whole_steps():
                run.losses[step] = run.descend(draw_batch(spec, images, step))
            advance(1)
        except BaseException:
            if checkpoint and run.losses[step].isfinite():  # else the step itself failed, half done
                run.save(checkpoint, step + 1)
            raise
        if checkpoint and time.monotonic() - last >= runtime.checkpoint_seconds:
            run.save(checkpoint, step + 1)
            last = time.monotonic()
    lost = (~run.losses.isfinite()).nonzero()
    if len(lost):
        raise ArithmeticError(f"the loss is not finite at step {int(lost[0])}: take a smaller learning_rate")
    return run


def _require_memory(spec: Pretraining, copies: int) -> None:
    """Raise where weights with their moments, attention maps of a batch and of the evaluation, or losses do not fit."""
    vit = spec.vit
    # each weight with its gradient, two moments and what is kept; maps with their gradients, and as much again
    tokens = vit.encoder(spec.images.side).tokens
    weights = copies * vit.depth * (4 + 2 * vit.expansion) * vit.width**2
    maps = vit.depth * vit.heads * tokens**2 * (3 * spec.batch_size + spec.evaluation.images)
    remedy = "take larger patches, a smaller depth or a smaller width"
    require_fits("vit", vit, 4 * (weights + maps), remedy)
    require_fits("steps", spec.steps, 8 * spec.steps, "take fewer steps")


def first_learner(spec: Pretraining) -> Learner:
    """Return what is trained before its first step."""
    encoder, _ = build(spec.vit, spec.images.side, spec.seed)
    shape, method = spec.vit.encoder(spec.images.side), spec.method
    if method is None:
        return Learner(shape, encoder, {}, readout=spec.readout)
    with torch.random.fork_rng(devices=[]):  # torch's own layers draw from the global generator
        torch.manual_seed(spec.seed)
        heads = method.heads(spec.vit, spec.images, spec.seed)
    encoder.get_submodule("patch").requires_grad_(not method.freezes_patches)
    return Learner(shape, encoder, heads, taught=method.taught, readout=spec.readout)


def draw_batch(spec: Pretraining, images: Images, step: int) -> Batch:
    """Draw the images of a step."""
    chosen = minibatch(spec.seed, step, spec.batch_size, len(images.train))
    return Batch(images, chosen, spec.augmentation, spec.seed, step, spec.steps)


class Run:
    """What changes while an encoder trains: ``learner``, optimizer, ``losses`` before each step, ``machines`` at work.

    ``kept`` has copies of the learner's tensors after each of the steps ``keep`` that is done. All draws are functions
    of the step and need no state.
    """

    def __init__(self, spec: Pretraining, device: torch.device, keep: tuple[int, ...] = ()) -> None:
        self.spec, self.device, self.keep = spec, device, keep
        # a checkpoint of other formulas is one of another run, and so is one that keeps other steps
        self.name = f"formulas {FORMULAS}, {to_text([spec, keep] if keep else spec)}"
        self.learner = first_learner(spec).to(device)
        self.optimizer = make_optimizer(self.learner, spec)
        self.losses = torch.full((spec.steps,), torch.nan, device=device)
        self.machines: list[str] = []
        self.kept: list[State] = []
        self._keep_after(0)

    def descend(self, batch: Batch) -> Tensor:
        """Take one step; return the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.spec.rate(batch.step)
        assert self.spec.method is not None  # without one there is no step
        loss = self.spec.method.loss(self.learner, batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._keep_after(batch.step + 1)
        return loss.detach()

    def _keep_after(self, step: int) -> None:
        if step in self.keep:
            self.kept.append({name: each.clone() for name, each in self.learner.state_dict().items()})

    def state(self, step: int) -> State:
        """Return the state after ``step`` steps; before the first, the moments only have their shapes."""
        return {
            "step": step,
            "learner": self.learner.state_dict(),
            "moments": self._moments(),
            "losses": self.losses,
            "machines": self.machines,
            "kept": self.kept,
        }

    def _moments(self) -> State:
        if self.spec.optimizer == "descent":
            return {}
        moments = {}
        for name, each in self.learner.named_parameters():
            if each.requires_grad:
                none = {"step": torch.zeros(()), "exp_avg": each.detach(), "exp_avg_sq": each.detach()}
                moments[name] = self.optimizer.state[each] or none
        return moments

    def save(self, path: Path, step: int) -> None:
        """Write the state after ``step`` steps."""
        write_checkpoint(path, self.name, self.state(step))

    def resume(self, path: Path, anew: bool) -> int:
        """Take over the state that a file holds, if any; return how many steps it has done."""
        try:
            state = read_checkpoint(path, self.name, self.device)
            if state is not None:
                self._require_own(path, state)
        except CheckpointError:
            if not anew:
                raise
            return 0
        if state is None:
            return 0
        self.learner.load_state_dict(state["learner"])
        for name, parameter in self.learner.named_parameters():
            if name in state["moments"]:
                # groups, rates and decays come from the specification, and so are not taken from a file
                self.optimizer.state[parameter] = state["moments"][name]
        self.losses.copy_(state["losses"])
        self.machines.extend(state["machines"])
        self.kept = state["kept"]
        return state["step"]

    def _require_own(self, path: Path, state: State) -> None:
        """Raise unless a state is one that this run can have written: names, shapes, types, steps with losses."""
        # validated as a whole before anything is taken over
        like = self.state(0)
        alien = [name for name in like if not fits(state.get(name), like[name])]
        if not alien and not 0 < state["step"] <= self.spec.steps:
            alien = ["step"]
        if not alien and not bool(state["losses"][: state["step"]].isfinite().all()):
            alien = ["losses"]
        if not alien and not all(isinstance(name, str) for name in state["machines"]):
            alien = ["machines"]
        if not alien and not self._are_kept(state["kept"], state["step"]):
            alien = ["kept"]
        if alien:
            raise CheckpointError.of(path, f"its {', '.join(alien)} cannot be of this run")

    def _are_kept(self, states: list[State], step: int) -> bool:
        """Return whether states can be those kept in so many steps."""
        like = self.learner.state_dict()
        due = sum(each <= step for each in self.keep)
        return len(states) == due and all(fits(each, like) for each in states)


def make_optimizer(learner: Learner, spec: Pretraining) -> torch.optim.Optimizer:
    """Return AdamW or plain descent on what is trained; norms, biases and tokens do not decay."""
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    matrices = [each for each in trained if each.ndim in (2, 4)]  # 4: the kernel that projects patches
    others = [each for each in trained if each.ndim not in (2, 4)]
    groups = [
        {"params": matrices, "weight_decay": spec.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if spec.optimizer == "descent":
        return torch.optim.SGD(groups, lr=spec.learning_rate)
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(0.9, 0.95), fused=True)
