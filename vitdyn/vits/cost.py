"""How long trainings will take: a formula, within about a factor of two on one core of a recent processor."""

from __future__ import annotations

from collections.abc import Sequence

from vitdyn._errors import invalid_value, require_integer, require_sequence
from vitdyn.vits.landscape import Landscape
from vitdyn.vits.landscape_numbers import TRACE_DRAWS, measures_of
from vitdyn.vits.pretraining import Pretraining

# Measured with one thread of a server's core with AVX-512 (torch 2.13), for widths 32 and 64, 17 and 65 tokens.
_PRODUCTS_PER_SECOND = 2e10
# what torch takes to call a step's functions, however small
_SECONDS_OF_BLOCK, _SECONDS_OF_VIEW = 2.5e-3, 3e-3
_SECONDS_OF_METRICS, _SECONDS_OF_START = 0.3, 4.0


def estimate_seconds(specs: Sequence[Pretraining | Landscape], *, workers: int = 1) -> float:
    """Return what trainings and surveys will take on the CPU, all that they measure included, ``workers`` at a time.

    Where other programs use the cores it is too low, on a GPU too high.
    """
    require_integer("workers", workers, at_least=1)
    require_sequence("specs", specs, "Pretraining")
    for index, spec in enumerate(specs):
        if not isinstance(spec, Pretraining | Landscape):
            raise invalid_value(f"specs[{index}]", spec, "must be a Pretraining or a Landscape")
    return (_SECONDS_OF_START if workers > 1 else 0.0) + sum(map(_seconds, specs)) / workers


def _seconds(spec: Pretraining | Landscape) -> float:
    if isinstance(spec, Pretraining):
        return spec.steps * seconds_of_step(spec) + seconds_of_evaluation(spec)
    training = spec.training
    measured = len(spec.steps) * seconds_of_frame(spec) + len(spec.planes) * seconds_of_plane(spec)
    return training.steps * seconds_of_step(training) + measured


def units(spec: Pretraining | Landscape) -> int:
    """Return the work of a run as its progress counts it: in steps, and each frame as the steps that take as long."""
    if isinstance(spec, Pretraining):
        return spec.steps
    measured = len(spec.steps) * len(measures_of(spec)) * units_of_measure(spec)
    return spec.training.steps + measured + len(spec.planes) * units_of_plane(spec)


def units_of_measure(spec: Landscape) -> int:
    """Return the mean work of what is measured at a frame, in steps."""
    return _in_steps(spec, seconds_of_frame(spec) / len(measures_of(spec)))


def units_of_plane(spec: Landscape) -> int:
    """Return the work of a plane at the end, in steps."""
    return _in_steps(spec, seconds_of_plane(spec))


def _in_steps(spec: Landscape, seconds: float) -> int:
    return max(1, round(seconds / (seconds_of_step(spec.training) or 1.0)))


def seconds_of_step(spec: Pretraining) -> float:
    """Return the seconds of a step."""
    if spec.method is None:
        return 0.0
    work = spec.method.work(spec.vit, spec.images.side)
    numbers = spec.batch_size * work.products / _PRODUCTS_PER_SECOND
    return numbers + work.blocks * _SECONDS_OF_BLOCK + work.views * _SECONDS_OF_VIEW


def seconds_of_evaluation(spec: Pretraining) -> float:
    """Return the seconds of an evaluation; its metrics take about as long as the passes through the encoder."""
    asked, shape = spec.evaluation, spec.vit.encoder(spec.images.side)
    images = asked.images + asked.views * asked.objects + spec.images.number
    return 2 * images * shape.products(shape.tokens) / _PRODUCTS_PER_SECOND + _SECONDS_OF_METRICS


def seconds_of_frame(spec: Landscape) -> float:
    """Return the seconds that a frame of a survey takes."""
    # a gradient in double precision takes about as long as a step
    gradient = seconds_of_step(spec.training) * spec.images / spec.training.batch_size
    counts = {
        "curvature": 1.7 * (spec.lanczos_steps * spec.lanczos_draws + TRACE_DRAWS),
        "section": 0.6 * spec.points**2,
        "lines": 0.6 * spec.points * spec.directions,
        "rays": 1.7 * 2 * (spec.directions + 1) * (spec.points + 10),
        "sharpness": 90.0,
        "correction": 20.0,
    }
    return gradient * (2 + sum(counts[each] for each in spec.measures))


def seconds_of_plane(spec: Landscape) -> float:
    """Return the seconds that a plane at the end takes."""
    gradient = seconds_of_step(spec.training) * spec.images / spec.training.batch_size
    return 0.6 * gradient * (spec.final_points**2 + len(spec.steps))
