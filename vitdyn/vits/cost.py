"""How long trainings will take: a formula, within about a factor of two on one core of a recent processor."""

from __future__ import annotations

from collections.abc import Sequence

from vitdyn._errors import require_integer, require_kind, require_sequence
from vitdyn.vits.architecture import Architecture
from vitdyn.vits.pretraining import Pretraining
from vitdyn.vits.small_vit import PREFIX

# Measured with one thread of a server's core with AVX-512 (torch 2.13), for widths 32 and 64, 17 and 65 tokens.
_PRODUCTS_PER_SECOND = 2e10
_SECONDS_OF_BLOCK, _SECONDS_OF_VIEW = (
    2.5e-3,
    3e-3,
)  # what torch takes to call a step's functions, however small
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
    """Return the seconds of a step: backward through a block takes twice as long as forward."""
    encoder, decoder = spec.vit.encoder(spec.images.side), spec.vit.decoder(spec.images.side)
    visible = PREFIX + int(encoder.patches * (1 - spec.mask))
    plain = products(encoder, encoder.tokens)
    masked = products(encoder, visible) + products(decoder, decoder.tokens)
    # of one image: multiplications, blocks that are run, views that are drawn
    reconstruction = (3 * masked, encoder.depth + decoder.depth, 0)
    contrast = (2 * (3 + 1) * plain, 2 * encoder.depth, 2)  # two views through student (3) and teacher (1)
    parts = {
        "untrained": [],
        "reconstruction": [reconstruction],
        "contrast": [contrast],
        "mixture": [reconstruction, contrast],
        "supervised": [(3 * plain, encoder.depth, 1)],
    }
    return sum(
        spec.batch_size * count / _PRODUCTS_PER_SECOND + blocks * _SECONDS_OF_BLOCK + views * _SECONDS_OF_VIEW
        for count, blocks, views in parts[spec.method]
    )


def seconds_of_evaluation(spec: Pretraining) -> float:
    """Return the seconds of an evaluation; its metrics take about as long as the passes through the encoder."""
    asked, shape = spec.evaluation, spec.vit.encoder(spec.images.side)
    images = asked.images + asked.views * asked.objects + spec.images.number
    return 2 * images * products(shape, shape.tokens) / _PRODUCTS_PER_SECOND + _SECONDS_OF_METRICS


def products(shape: Architecture, tokens: int) -> int:
    """Return how many numbers are multiplied on the way of one image through all blocks."""
    # query, key, value, projection, and two maps of the MLP; then logits and weighted values
    maps = 4 * shape.width**2 + 2 * shape.width * shape.hidden
    return shape.depth * tokens * (maps + 2 * tokens * shape.width)
