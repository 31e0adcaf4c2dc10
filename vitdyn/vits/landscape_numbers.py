"""What is measured of a loss about a point of a training: numbers by name, each by one call of ``vitdyn.landscape``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vitdyn.landscape import (
    Hessian,
    Surface,
    Vector,
    convex_radius,
    convex_share,
    first_inflection,
    gaussian_direction,
    line_losses,
    normalised,
    section,
    sharpness,
    spectral_density,
    trace,
)
from vitdyn.vits.landscape import NODES, Landscape

DIRECTION, LINE, PLACE, NODE = "direction", "line", "place", "node"
DOWNHILL = "downhill"
TRACE_ERROR, TRACE_DRAWS = 0.05, 64
Found = dict[str, Any]


class Variable(NamedTuple):
    """What a survey records: its symbol, its meaning, and its axes behind frame and seed."""

    symbol: str
    meaning: str
    axes: tuple[str, ...] = ()


class Measure(NamedTuple):
    """Something that is done at a frame, and the variables that it gives."""

    compute: Callable[[Landscape, Surface], Found]
    variables: dict[str, Variable]


def random_direction(spec: Landscape, surface: Surface, index: int) -> Vector:
    """Return a random direction of the length of the weights' filters, the same numbers at each frame."""
    seed = spec.training.seed
    drawn = gaussian_direction(surface, seed, spec.direction_seed + index)
    return normalised(surface, drawn, spec.normalisation)


def downhill_direction(spec: Landscape, surface: Surface) -> Vector:
    """Return the direction of steepest descent, each filter of it as long as that of the weights."""
    return normalised(surface, -surface.gradient(), spec.normalisation)


def slope(spec: Landscape, surface: Surface) -> Found:
    """Return the loss, the norm of its gradient and that of the weights."""
    return {
        "loss": surface.value(),
        "gradient_norm": surface.gradient().norm(),
        "parameter_norm": surface.point.norm(),
    }


def curvature(spec: Landscape, surface: Surface) -> Found:
    """Return the Hessian's spectral density, filled up with NaN and 0, its outermost eigenvalues and its trace.

    Lanczos finds the outermost eigenvalues in a few dozen products, to all digits where they stand apart, but not how
    often each comes: that needs the blocks of ``top_eigenvalues``, and more than ten times the products.
    """
    hessian, seed = Hessian(surface), spec.training.seed
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


def share(spec: Landscape, surface: Surface) -> Found:
    """Return which share of a plane of two random directions is convex."""
    plane = [random_direction(spec, surface, index) for index in range(2)]
    coordinates = np.linspace(-spec.half_width, spec.half_width, spec.points)
    # second differences of values in double precision, for a fifth of the cost of derivatives
    found = section(surface, plane, coordinates)
    return {"convex_share": convex_share(found, epsilon=spec.epsilon)}


def lines(spec: Landscape, surface: Surface) -> Found:
    """Return the loss along random directions, both ways."""
    along = [random_direction(spec, surface, index) for index in range(spec.directions)]
    return {"line_loss": line_losses(surface, along, spec.half_width, spec.points)}


def rays(spec: Landscape, surface: Surface) -> Found:
    """Return how far the loss is convex along random directions and downhill."""
    along = [random_direction(spec, surface, index) for index in range(spec.directions)]
    along.append(downhill_direction(spec, surface))
    limit, points = spec.half_width, spec.points
    radii = [convex_radius(surface, each, epsilon=spec.epsilon, limit=limit, points=points) for each in along]
    inflections = [first_inflection(surface, each, limit=limit, points=points) for each in along]
    return {
        "convex_radius": [each.value for each in radii],
        "first_inflection": [each.value for each in inflections],
    }


def rise(spec: Landscape, surface: Surface) -> Found:
    """Return the largest rise of the loss nearby."""
    return {"sharpness": sharpness(surface, spec.radius, seed=spec.training.seed).value}


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
    "section": Measure(
        share,
        {"convex_share": Variable("", "share of a plane of random directions in which the loss is convex")},
    ),
    "lines": Measure(lines, {"line_loss": Variable("L", "loss along random directions", (LINE, PLACE))}),
    "rays": Measure(
        rays,
        {
            "convex_radius": Variable("r", "how far the loss is convex along a direction", (DIRECTION,)),
            "first_inflection": Variable("r₀", "where its curvature changes its sign", (DIRECTION,)),
        },
    ),
    "sharpness": Measure(
        rise, {"sharpness": Variable("max ΔL", "largest rise of the loss within the radius")}
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
        DIRECTION: [*map(str, range(spec.directions)), DOWNHILL],
        LINE: list(range(spec.directions)),
        PLACE: np.linspace(-spec.half_width, spec.half_width, spec.points).tolist(),
        NODE: list(range(NODES)),
    }


def shape_of(variable: Variable, spec: Landscape) -> tuple[int, ...]:
    """Return the shape of a variable at one frame."""
    return tuple(len(axes_of(spec)[axis]) for axis in variable.axes)
