"""What is measured at a frame of a training: numbers by name, each by one call of ``vitdyn.landscape``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from vitdyn.landscape import (
    Hessian,
    Neighbourhood,
    Surface,
    Vector,
    line_losses,
    spectral_density,
    trace,
)
from vitdyn.landscape.neighbourhood import DISTANCES, NUMBERS
from vitdyn.vits.correction import INPUTS, corrections
from vitdyn.vits.landscape import NODES, Landscape
from vitdyn.vits.learner import Learner
from vitdyn.vits.loss_surface import SURFACES

DIRECTION, LINE, PLACE, NODE, SHOWN = "direction", "line", "place", "node", "inputs"
TRACE_ERROR, TRACE_DRAWS = 0.05, 64
Found = dict[str, Any]


class Variable(NamedTuple):
    """What a survey records: its symbol, its meaning, and its axes behind frame and seed."""

    symbol: str
    meaning: str
    axes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """What a survey knows at a frame: what trains, after ``step`` steps, and the loss about its weights."""

    spec: Landscape
    step: int
    learner: Learner

    @cached_property
    def surface(self) -> Surface:
        """The loss, on images that stay."""
        return SURFACES[self.spec.loss](self.spec.training, self.learner, images=self.spec.images)


class Measure(NamedTuple):
    """Something that is done at a frame, and the variables that it gives."""

    compute: Callable[[Frame], Found]
    variables: dict[str, Variable]


def neighbourhood(spec: Landscape) -> Neighbourhood:
    """Return how the neighbourhood of the weights is measured: as that of the theory's layer."""
    names = ("normalisation", "directions", "half_width", "points", "epsilon", "radius")
    return Neighbourhood(first=spec.direction_seed, **{name: getattr(spec, name) for name in names})


def random_directions(spec: Landscape, surface: Surface, count: int) -> list[Vector]:
    """Return random directions of the length of the weights' filters, the same numbers at each frame."""
    near = neighbourhood(spec)
    return [near.random(surface, spec.training.seed, index) for index in range(count)]


def measured(*names: str) -> Callable[[Frame], Found]:
    """Return what finds numbers of the neighbourhood by their names."""

    def compute(frame: Frame) -> Found:
        near, seed = neighbourhood(frame.spec), frame.spec.training.seed
        return {name: near.measure(name, frame.surface, seed) for name in names}

    return compute


def slope(frame: Frame) -> Found:
    """Return the loss, the norm of its gradient and that of the weights."""
    surface = frame.surface
    return {
        "loss": surface.value(),
        "gradient_norm": surface.gradient().norm(),
        "parameter_norm": surface.point.norm(),
    }


def curvature(frame: Frame) -> Found:
    """Return the Hessian's spectral density, filled up with NaN and 0, its outermost eigenvalues and its trace.

    Lanczos finds the outermost eigenvalues in a few dozen products, to all digits where they stand apart, but not how
    often each comes: that needs the blocks of ``top_eigenvalues``, and more than ten times the products.
    """
    spec = frame.spec
    hessian, seed = Hessian(frame.surface), spec.training.seed
    found = spectral_density(hessian, draws=spec.lanczos_draws, steps=spec.lanczos_steps, seed=seed)
    estimate = trace(hessian, relative_error=TRACE_ERROR, most_draws=TRACE_DRAWS, seed=seed)
    lowest, highest = found.bounds
    rest = NODES - len(found.nodes)
    return {
        "highest_eigenvalue": highest,
        "lowest_eigenvalue": lowest,
        "hessian_trace": estimate.value,
        "hessian_trace_error": estimate.error,
        "density_node": np.pad(found.nodes, (0, rest), constant_values=np.nan),
        "density_weight": np.pad(found.weights, (0, rest)),
    }


def lines(frame: Frame) -> Found:
    """Return the loss along random directions, both ways."""
    spec, surface = frame.spec, frame.surface
    along = random_directions(spec, surface, spec.directions)
    return {"line_loss": line_losses(surface, along, spec.half_width, spec.points)}


def correction(frame: Frame) -> Found:
    """Return how far what RC-MAE's teacher takes back points along its lag, and how much it is of it, by inputs."""
    found = list(corrections(frame.spec.training, frame.learner, frame.step, frame.spec.images))
    return {
        "correction_cosine": [each.cosine for each in found],
        "correction_strength": [each.strength for each in found],
    }


def _near(*names: str) -> Measure:
    axes = {name: (DIRECTION,) if name in DISTANCES else () for name in names}
    return Measure(measured(*names), {name: Variable(*NUMBERS[name], axes[name]) for name in names})


_SLOPE = Measure(
    slope,
    {
        "loss": Variable("L", "loss on the images that stay"),
        "gradient_norm": Variable("‖∇L‖", "norm of the gradient"),
        "parameter_norm": Variable("‖θ‖", "norm of all weights that are trained"),
    },
)
_MEASURES = {
    "curvature": Measure(
        curvature,
        {
            "highest_eigenvalue": Variable("λ_max", "largest eigenvalue of the Hessian"),
            "lowest_eigenvalue": Variable("λ_min", "lowest eigenvalue of the Hessian"),
            "hessian_trace": Variable("tr H", "trace of the Hessian"),
            "hessian_trace_error": Variable("", "standard error of the trace"),
            "density_node": Variable("λ", "nodes of the Hessian's spectral density", (NODE,)),
            "density_weight": Variable("w", "weights of the nodes, whose sum is 1", (NODE,)),
        },
    ),
    "section": _near("convex_share"),
    "lines": Measure(lines, {"line_loss": Variable("L", "loss along random directions", (LINE, PLACE))}),
    "rays": _near(*DISTANCES),
    "sharpness": _near("sharpness"),
    "correction": Measure(
        correction,
        {
            "correction_cosine": Variable("cos", "cosine of the correction with the teacher's lag", (SHOWN,)),
            "correction_strength": Variable("", "norm of the correction over that of the lag", (SHOWN,)),
        },
    ),
}


def measures_of(spec: Landscape) -> tuple[Measure, ...]:
    """Return what is done at each frame, in order."""
    return (_SLOPE, *(_MEASURES[name] for name in spec.measures))


def variables_of(spec: Landscape) -> dict[str, Variable]:
    """Return what a survey records at each frame, by name."""
    apart = {"distance_to_end": Variable("‖θ − θ_T‖", "distance of the weights from those at the end")}
    return apart | {name: each for measure in measures_of(spec) for name, each in measure.variables.items()}


def axes_of(spec: Landscape) -> dict[str, list[Any]]:
    """Return the values of the axes that variables have behind frame and seed."""
    return {
        DIRECTION: list(neighbourhood(spec).along),
        LINE: list(range(spec.directions)),
        PLACE: np.linspace(-spec.half_width, spec.half_width, spec.points).tolist(),
        NODE: list(range(NODES)),
        SHOWN: list(INPUTS),
    }


def shape_of(variable: Variable, spec: Landscape) -> tuple[int, ...]:
    """Return the shape of a variable at one frame."""
    return tuple(len(axes_of(spec)[axis]) for axis in variable.axes)
