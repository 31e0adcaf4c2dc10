"""The one loop: train a batch of seeds, record on a schedule, survive an interruption."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitdyn._axes import STATISTICS
from vitdyn._errors import require_choice, require_integer, require_real, wrong
from vitdyn._specs import to_text
from vitdyn.attention import Correlations
from vitdyn.data import PatchGenerator
from vitdyn.dynamics.batches import BatchSource
from vitdyn.dynamics.checkpoint import read_checkpoint, write_checkpoint
from vitdyn.dynamics.descent import DESCENTS, Descent, GradientDescent
from vitdyn.dynamics.gradient import Workspaces, forward_pass, loss_gradient
from vitdyn.dynamics.schedule import Schedule
from vitdyn.objectives import OBJECTIVES, Memory, Objective
from vitdyn.observables import OBSERVABLES, observe
from vitdyn.trajectory import SCHEMA, Trajectory

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
DEFAULT_MEMORY_MIB = {"cpu": 48, "cuda": 4096}
_FINITE_CHECK_STEPS = 64


class DivergenceError(ArithmeticError):
    """A run whose correlations stopped being finite numbers; says at which step, for which seed."""


def pick_device(name: str = "auto") -> torch.device:
    """Return the device: "auto" takes CUDA where there is one, else the CPU.

    Raises ``ValueError`` where CUDA is asked for and there is none.
    """
    require_choice("device", name.split(":")[0], ("auto", "cpu", "cuda"))
    available = torch.cuda.is_available()
    if name.startswith("cuda") and not available:
        raise wrong("device", name, "no CUDA device is available here: take 'cpu' or 'auto'")
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    return torch.device(name)


def estimate_memory(generator: PatchGenerator, samples: int, *, views: int = 1, precision: str = "float32") -> int:
    """Return the bytes of working memory that one seed needs while it trains, as the split of seeds counts them."""
    patches, areas = generator.layout.patches, generator.layout.areas * (1 + (generator.layout.clusters > 1))
    per_view = 6 * samples * areas * patches + 8 * samples * patches + 3 * patches * patches
    shared = 3 * patches * patches + 4 * patches * generator.layout.areas * generator.layout.clusters
    return (views * per_view + shared) * torch.finfo(PRECISIONS[precision]).bits // 8


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


def simulate(
    generator: PatchGenerator,
    objective: Objective,
    descent: Descent | None = None,
    *,
    steps: int = 400,
    samples: int = 32,
    seeds: int | Sequence[int] = 8,
    schedule: Schedule | None = None,
    data_set_size: int | None = None,
    evaluation_samples: int = 64,
    content_queries: bool = False,
    precision: str = "float32",
    device: str = "auto",
    memory_limit_mib: float | None = None,
    start: Correlations | None = None,
    keep_final_state: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 10.0,
    progress: bool = False,
) -> Trajectory:
    """Train the layer from Q = 0 (or from ``start``) by descent on the objective, for every seed at once.

    ``seeds`` is a count (seeds 0, 1, ...) or the seeds themselves. Each step draws ``samples`` samples per
    seed: fresh ones, or from a fixed data set of ``data_set_size``. Frame 0 is the start, each frame is
    taken before the step of its number, the last state is always a frame; frames are measured on
    ``evaluation_samples`` samples that training does not see. The seeds are split into groups whose working
    memory stays under ``memory_limit_mib``; the split depends on the specification alone.

    With a ``checkpoint`` path the state is written there every ``checkpoint_seconds`` and at an interrupt;
    the same call resumes from it, to the same bits, and removes it at the end.

    Raises ``ValueError`` for a bad field before any work starts, ``DivergenceError`` at the first value
    that is not finite.
    """
    began = time.monotonic()
    where = pick_device(device)
    schedule = schedule or Schedule()
    names = _seed_numbers(seeds)
    _check(generator, objective, steps, samples, evaluation_samples, precision, checkpoint_seconds)
    descent = descent or GradientDescent(learning_rate=objective.default_learning_rate(generator.layout))
    if not isinstance(descent, Descent):
        raise wrong("descent", descent, f"must be one of {', '.join(kind.__name__ for kind in DESCENTS.values())}")
    limit = memory_limit_mib if memory_limit_mib is not None else DEFAULT_MEMORY_MIB[where.type]
    require_real("memory_limit_mib", limit, low=0.0, high=1e9, open_low=True)
    plan = _Plan(
        generator, objective, descent, steps, samples, data_set_size, evaluation_samples, content_queries,
        PRECISIONS[precision], where, schedule.recorded_steps(steps), start,
    )  # fmt: skip
    plan.source(names[:1])
    views = 2 if objective.family == "contrastive" else 1
    size = max(1, int(limit * 2**20) // estimate_memory(generator, samples, views=views, precision=precision))
    groups = [names[index : index + size] for index in range(0, len(names), size)]
    spec = to_text(
        {
            "generator": generator, "objective": objective, "descent": descent, "steps": steps,
            "samples": samples, "seeds": names, "schedule": schedule, "data_set_size": data_set_size,
            "evaluation_samples": evaluation_samples, "content_queries": content_queries, "precision": precision,
            "memory_limit_mib": limit,
        }
    )  # fmt: skip

    path = Path(checkpoint) if checkpoint is not None else None
    keeper = _Keeper(path, spec, checkpoint_seconds, where)
    done, current = keeper.restore()
    with _progress_bar(progress, len(names) * steps) as bar:
        for index, members in enumerate(groups):
            if index < len(done):
                bar.update(len(members) * steps)
                continue
            group = plan.start_group(members, current if index == len(done) else None)
            current = None
            bar.update(len(members) * group.step)
            plan.train(group, keeper.during(done, group), bar)
            done.append(_finished(group))
            keeper.write(done, None)
    trajectory = _assemble(plan, done, names, spec, keep_final_state, time.monotonic() - began)
    keeper.remove()
    return trajectory


@dataclass(frozen=True)
class _Plan:
    """Everything that is the same for all groups of seeds."""

    generator: PatchGenerator
    objective: Objective
    descent: Descent
    steps: int
    samples: int
    data_set_size: int | None
    evaluation_samples: int
    content_queries: bool
    dtype: torch.dtype
    device: torch.device
    recorded: tuple[int, ...]
    start: Correlations | None

    def source(self, seeds: tuple[int, ...]) -> BatchSource:
        return BatchSource(
            self.generator, self.objective, seeds, self.samples, self.data_set_size, self.dtype, self.device
        )

    def start_group(self, seeds: tuple[int, ...], state: dict[str, Any] | None) -> _Group:
        if state is not None:
            descent = {name: Correlations(**blocks) for name, blocks in state["descent"].items()}
            return _Group(
                seeds, Correlations(**state["correlations"]), descent, state["memory"],
                state["first_bad"], state["step"], state["frames"],
            )  # fmt: skip
        correlations = Correlations.zeros(
            self.generator.layout, len(seeds), content_queries=self.content_queries, dtype=self.dtype, device=self.device
        )
        if self.start is not None:
            correlations = self.start.map(
                lambda given, zero: given.detach().to(zero).expand_as(zero).clone(), correlations
            )
        unset = torch.full((len(seeds),), -1, device=self.device)
        return _Group(seeds, correlations, self.descent.init(correlations), self.objective.init(correlations), unset)

    def train(self, group: _Group, keep: Any, bar: Any) -> None:
        source, workspaces = self.source(group.seeds), Workspaces()
        data_set = source.data_set()
        recorded = set(self.recorded)
        try:
            while True:
                if group.step in recorded and len(group.frames) < self.recorded.index(group.step) + 1:
                    _require_finite(group)
                    group.frames.append(self.frame(group, source))
                if group.step == self.steps:
                    return
                batch, views = source.training(group.step, data_set)
                gradient, forward = loss_gradient(
                    group.correlations, self.objective, batch, views, group.memory, workspaces
                )
                self.descent.step(group.correlations, gradient, group.descent, group.step)
                group.memory = self.objective.after_step(forward, group.correlations)
                group.step += 1
                _note_bad_values(group)
                if self.device.type == "cpu" or group.step % _FINITE_CHECK_STEPS == 0:
                    _require_finite(group)
                bar.update(len(group.seeds))
                keep(force=False)
        except KeyboardInterrupt:
            keep(force=True)
            raise

    def frame(self, group: _Group, source: BatchSource) -> dict[str, Tensor]:
        batch, views = source.evaluation(group.step, self.evaluation_samples)
        forward = forward_pass(group.correlations, batch, views, group.memory)
        return {name: value.cpu() for name, value in observe(group.correlations, self.objective, forward).items()}


def _check(
    generator: object, objective: object, steps: int, samples: int, evaluation: int, precision: str, seconds: float
) -> None:
    if not isinstance(generator, PatchGenerator):
        raise wrong("generator", generator, "must be a PatchGenerator")
    if not isinstance(objective, Objective):
        raise wrong("objective", objective, f"must be one of {', '.join(kind.__name__ for kind in OBJECTIVES)}")
    require_integer("steps", steps, at_least=0)
    require_integer("samples", samples, at_least=1)
    require_integer("evaluation_samples", evaluation, at_least=1)
    require_choice("precision", precision, PRECISIONS)
    require_real("checkpoint_seconds", seconds, low=0.0, high=1e9)
    objective.check(generator.layout, samples)
    objective.check(generator.layout, evaluation)


def _seed_numbers(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, Sequence):
        if not seeds:
            raise wrong("seeds", tuple(seeds), "must name at least one seed")
        for seed in seeds:
            require_integer("seeds", seed, at_least=0)
        if len(set(seeds)) < len(seeds):
            raise wrong("seeds", tuple(seeds), "must name each seed once")
        return tuple(int(seed) for seed in seeds)
    require_integer("seeds", seeds, at_least=1)
    return tuple(range(seeds))


def _note_bad_values(group: _Group) -> None:
    """Remember, without waiting for the device, the first step after which a seed is not finite."""
    total = torch.stack([block.flatten(1).sum(1) for block in group.correlations.named().values()]).sum(0)
    fresh = ~total.isfinite() & (group.first_bad < 0)
    group.first_bad = torch.where(fresh, group.step, group.first_bad)


def _require_finite(group: _Group) -> None:
    bad = group.first_bad.tolist()
    steps = [step for step in bad if step >= 0]
    if steps:
        step = min(steps)
        raise DivergenceError(
            f"step {step}, seed {group.seeds[bad.index(step)]}: the correlations are not finite; "
            "take a smaller learning rate or precision='float64'"
        )


def _finished(group: _Group) -> dict[str, Any]:
    final = {name: block.cpu() for name, block in group.correlations.named().items()}
    return {"frames": group.frames, "final": final}


class _Keeper:
    """Writes and reads the checkpoint of a run; does nothing where none was asked for."""

    def __init__(self, path: Path | None, spec: str, seconds: float, device: torch.device) -> None:
        self.path, self.spec, self.seconds, self.device = path, spec, seconds, device
        self.last = time.monotonic()

    def restore(self) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        state = read_checkpoint(self.path, self.spec, self.device) if self.path else None
        return (state["done"], state["current"]) if state else ([], None)

    def during(self, done: list[dict[str, Any]], group: _Group) -> Any:
        def keep(*, force: bool) -> None:
            if self.path and (force or time.monotonic() - self.last >= self.seconds):
                self.write(done, group)

        return keep

    def write(self, done: list[dict[str, Any]], group: _Group | None) -> None:
        if self.path is None:
            return
        current = None
        if group is not None:
            current = {
                "correlations": group.correlations.named(),
                "descent": {name: part.named() for name, part in group.descent.items()},
                "memory": dict(group.memory),
                "first_bad": group.first_bad,
                "step": group.step,
                "frames": group.frames,
            }
        write_checkpoint(self.path, self.spec, {"done": done, "current": current})
        self.last = time.monotonic()

    def remove(self) -> None:
        if self.path:
            self.path.unlink(missing_ok=True)


def _progress_bar(show: bool, total: int) -> Any:
    if not show:
        return nullcontext(_Silent())
    from tqdm import tqdm

    return tqdm(total=total, unit="seed-step", disable=None, smoothing=0.1)


class _Silent:
    def update(self, count: int) -> None:
        """Show nothing."""


def _assemble(
    plan: _Plan, done: list[dict[str, Any]], seeds: tuple[int, ...], spec: str, keep_final: bool, seconds: float
) -> Trajectory:
    import xarray

    variables = {}
    for name, observable in OBSERVABLES.items():
        if name in done[0]["frames"][0]:
            frames = [
                torch.cat([part["frames"][index][name] for part in done]) for index in range(len(plan.recorded))
            ]
            attributes = {"symbol": observable.symbol, "long_name": observable.meaning}
            variables[name] = (("frame", *observable.axes), torch.stack(frames).numpy(), attributes)
    if keep_final:
        for name, axes in _FINAL_AXES.items():
            if name in done[0]["final"]:
                values = torch.cat([part["final"][name] for part in done]).numpy()
                variables[f"final_{name}"] = (axes, values, {"long_name": f"{name} of every position at the end"})
    steps = np.array(plan.recorded)
    coordinates = {
        "step": ("frame", steps, {"long_name": "steps of descent done"}),
        "time": ("frame", steps * plan.descent.learning_rate, {"symbol": "t", "long_name": "learning rate times step"}),
        "seed": ("seed", np.array(seeds)),
        "statistic": ("statistic", list(STATISTICS)),
    }
    device = torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else platform.machine() + " CPU"
    return Trajectory(
        xarray.Dataset(
            variables,
            coordinates,
            {
                "schema": SCHEMA,
                "spec": spec,
                "device": device,
                "seconds": seconds,
                "versions": _versions(),
            },
        )
    )


_FINAL_AXES = {
    "feature_position": ("seed", "query", "cluster", "area"),
    "position_position": ("seed", "query", "key"),
    "content_position": ("seed", "cluster", "area", "key"),
    "content_content": ("seed", "cluster", "area", "other_area"),
}


def _versions() -> str:
    from importlib.metadata import version

    return " ".join(f"{name}={version(name)}" for name in ("vitdyn", "torch", "numpy", "xarray"))
