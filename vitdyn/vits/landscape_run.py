"""A survey: an encoder is trained, and the loss about its weights measured at the steps that were asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitdyn._axes import FRAME, SEED
from vitdyn._errors import as_path, require_kind
from vitdyn._progress import duration, progress
from vitdyn._specs import to_text
from vitdyn.dynamics.checkpoint import CheckpointError, State, stored_state, write_checkpoint
from vitdyn.dynamics.resources import device_name
from vitdyn.dynamics.resume import fits
from vitdyn.dynamics.runtime import Runtime
from vitdyn.landscape import Surface
from vitdyn.observables.labels import labelled_trajectory
from vitdyn.trajectory import FORMULAS, Trajectory
from vitdyn.vits.cost import estimate_seconds, units, units_of_measure, units_of_plane
from vitdyn.vits.landscape import Landscape
from vitdyn.vits.landscape_numbers import Frame, axes_of, measures_of, shape_of, variables_of
from vitdyn.vits.landscape_planes import draw_plane, is_plane, plane_variables
from vitdyn.vits.pretraining_loop import first_learner, single_threaded, train
from vitdyn.vits.results import training_losses


def survey(
    spec: Landscape,
    *,
    checkpoint: str | Path | None = None,
    runtime: Runtime = Runtime(),  # frozen
    advance: Callable[[int], object] | None = None,
) -> Trajectory:
    """Train an encoder and measure the landscape of a loss along the training.

    The same specification on the same device gives the same bits. With a ``checkpoint`` path the state of the training
    is written there now and then, and what is measured after each frame; the same call goes on from it, to the same
    bits. ``advance`` is called with the work done, in units of about a step of training, and may end it by an error.

    Raises what ``pretrain`` raises.
    """
    began = time.monotonic()
    require_kind("spec", spec, Landscape)
    require_kind("runtime", runtime, Runtime)
    path = as_path("checkpoint", checkpoint) if checkpoint is not None else None
    if runtime.progress and advance is None:
        print(
            f"a landscape of {len(spec.steps)} frames, about {duration(estimate_seconds([spec]))}", flush=True
        )
    shown = progress(runtime.progress and advance is None, units(spec), "step")
    with single_threaded(), shown as bar:
        under_way = Survey(spec, runtime.place)
        under_way.train(path, runtime, advance or bar.update)
        under_way.measure(path, advance or bar.update)
    if path and not runtime.keep_checkpoint:
        path.unlink(missing_ok=True)
    about = {"device": device_name(runtime.place), "seconds": time.monotonic() - began}
    return under_way.trajectory(about)


class Survey:
    """What there is of a survey: ``kept`` learners, ``losses`` of their training, ``frames`` and ``planes``."""

    def __init__(self, spec: Landscape, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.name = f"measured, formulas {FORMULAS}, {to_text(spec)}"
        self.learner = first_learner(spec.training).to(device)
        self.kept: list[State] = []
        self.losses = torch.full((spec.training.steps,), torch.nan, device=device)
        self.machines: list[str] = []
        self.frames: list[dict[str, Tensor]] = []
        self.planes: list[dict[str, Tensor]] = []

    def train(self, path: Path | None, runtime: Runtime, advance: Callable[[int], object]) -> None:
        """Train, unless a checkpoint says that this is done."""
        if path and self._resume(path, runtime.anew):
            advance(self.spec.training.steps)
            return
        run = train(
            self.spec.training, keep=self.spec.steps, checkpoint=path, runtime=runtime, advance=advance
        )
        self.kept, self.losses, self.machines = run.kept, run.losses, run.machines
        self._save(path)

    def measure(self, path: Path | None, advance: Callable[[int], object]) -> None:
        """Measure the frames, and draw the planes at the end, that are not there yet."""
        share, measures = units_of_measure(self.spec), measures_of(self.spec)
        advance(share * len(measures) * len(self.frames) + units_of_plane(self.spec) * len(self.planes))
        for place in range(len(self.frames), len(self.kept)):
            frame = self.frame(place)
            found: dict[str, Any] = {"distance_to_end": self._distance_to_end(frame.surface)}
            for each in measures:
                found |= each.compute(frame)
                advance(share)
            self.frames.append(
                {name: torch.as_tensor(value, dtype=torch.float64).cpu() for name, value in found.items()}
            )
            self._save(path)
        for plane in self.spec.planes[len(self.planes) :]:
            surface = self.frame(-1).surface
            drawn = draw_plane(self.spec, surface, self._path(surface), plane)
            self.planes.append({name: value.cpu() for name, value in drawn.items()})
            advance(units_of_plane(self.spec))
            self._save(path)

    def frame(self, place: int) -> Frame:
        """Return what was kept at a frame."""
        learner = deepcopy(self.learner)
        learner.load_state_dict(self.kept[place])
        return Frame(self.spec, self.spec.steps[place], learner)

    def _path(self, surface: Surface) -> list[Tensor]:
        """Return what was kept as vectors of a surface."""
        return [surface.vector(each).to(surface.point) for each in self.kept]

    def _distance_to_end(self, surface: Surface) -> float:
        return float((surface.vector(self.kept[-1]).to(surface.point) - surface.point).norm())

    def _save(self, path: Path | None) -> None:
        if path:
            write_checkpoint(path, self.name, self._state())

    def _state(self) -> State:
        names = ("kept", "losses", "machines", "frames", "planes")
        return {name: getattr(self, name) for name in names}

    def _resume(self, path: Path, anew: bool) -> bool:
        """Take over what a file says was measured; return False where it holds none of that: a training's state."""
        try:
            stored = stored_state(path, self.device)
            if stored is None or stored[0] != self.name:
                return False
            self._require_own(path, stored[1])
        except CheckpointError:
            if not anew:
                raise
            path.unlink()
            return False
        for name in self._state():
            setattr(self, name, stored[1][name])
        return True

    def _require_own(self, path: Path, state: State) -> None:
        """Raise unless a state is one that this survey can have written."""
        like, learner, most = self._state(), self.learner.state_dict(), len(self.spec.steps)
        are_own: dict[str, Callable[[list[Any]], bool]] = {
            "kept": lambda kept: len(kept) == most and all(fits(each, learner) for each in kept),
            "machines": lambda machines: all(isinstance(each, str) for each in machines),
            "frames": lambda frames: len(frames) <= most and all(map(self._is_frame, frames)),
            "planes": lambda planes: (
                len(planes) <= len(self.spec.planes) and all(is_plane(self.spec, each) for each in planes)
            ),
        }
        alien = [
            name
            for name in like
            if not fits(state.get(name), like[name]) or (name in are_own and not are_own[name](state[name]))
        ]
        if alien:
            raise CheckpointError.of(path, f"its {', '.join(alien)} cannot be of this run")

    def _is_frame(self, frame: State) -> bool:
        shapes = {name: shape_of(each, self.spec) for name, each in variables_of(self.spec).items()}
        return isinstance(frame, dict) and {name: tuple(each.shape) for name, each in frame.items()} == shapes

    def trajectory(self, about: dict[str, Any]) -> Trajectory:
        """Label what was measured: one seed, a frame for each step that was asked for."""
        training, axes = self.spec.training, (FRAME, SEED)
        variables: dict[str, Any] = {
            name: (
                (*axes, *each.axes),
                torch.stack([frame[name] for frame in self.frames]).numpy()[:, None],
                {"symbol": each.symbol, "long_name": each.meaning},
            )
            for name, each in variables_of(self.spec).items()
        }
        variables["training_loss"] = training_losses(self.losses.cpu())
        variables |= plane_variables(self.planes)
        used = {axis for each in variables_of(self.spec).values() for axis in each.axes}
        variables |= {axis: (axis, values) for axis, values in axes_of(self.spec).items() if axis in used}
        steps = np.array(self.spec.steps)
        return labelled_trajectory(
            (),
            {},
            steps=steps,
            times=steps * training.learning_rate,
            seeds=(training.seed,),
            others=variables,
            attributes={
                "spec": to_text({"training": self.spec}),
                "machine": "; ".join(self.machines),
                **about,
            },
        )
