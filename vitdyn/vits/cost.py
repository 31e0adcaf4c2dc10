"""How long trainings will take: a formula, within about a factor of two on one core of a recent processor."""

from __future__ import annotations

from collections.abc import Sequence

from vitdyn._errors import require_integer, require_kind, require_sequence
from vitdyn.vits.pretraining import Pretraining

# Measured with one thread of a server's core with AVX-512 (torch 2.13), for widths 32 and 64, 17 and 65 tokens.
_PRODUCTS_PER_SECOND = 2e10
# what torch takes to call a step's functions, however small
_SECONDS_OF_BLOCK, _SECONDS_OF_VIEW = 2.5e-3, 3e-3
_SECONDS_OF_METRICS, _SECONDS_OF_START = 0.3, 4.0


def estimate_seconds(specs: Sequence[Pretraining], *, workers: int = 1) -> float:
    """Return what trainings will take on the CPU, each with its evaluation, ``workers`` at a time.

    Where other programs use the cores it is too low, on a GPU too high.
    """
    require_integer("workers", workers, at_least=1)
    require_sequence("specs", specs, "Pretraining")
    for index, spec in enumerate(specs):
        require_kind(f"specs[{index}]", spec, Pretraining)
    work = sum(spec.steps * seconds_of_step(spec) + seconds_of_evaluation(spec) for spec in specs)
    return (_SECONDS_OF_START if workers > 1 else 0.0) + work / workers


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
