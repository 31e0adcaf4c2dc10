"""The parameters of a training before its first step, and whether a model is what a training needs."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.dynamics.training import Training
from vitdyn.models import Correlations, Parameters, as_parameters
from vitdyn.models.model import CLOSED_FORMS
from vitdyn.seeds import Streams


def first_parameters(
    training: Training, seeds: tuple[int, ...], device: torch.device | str = "cpu"
) -> Parameters:
    """Return a training's parameters of so many seeds before the first step, in tensors that nothing else writes to.

    Raises ``ValueError`` for a model that returns something else than parameters with an axis of seeds.
    """
    generator, model = training.generator, training.trained_model
    like = torch.empty(0, dtype=PRECISIONS[training.precision], device=device)
    if training.content_queries and CLOSED_FORMS in model.offers:
        kind: Any = {"content_queries": True, "dtype": like.dtype, "device": like.device}
        return Correlations.zeros(generator.layout, len(seeds), **kind)
    found = model.initial(generator, Streams(seeds, "model"), like)
    if CLOSED_FORMS in model.offers:
        return found
    what = f"{type(model).__name__}.initial"
    if not isinstance(found, Parameters) or not found.named():
        raise invalid_value(what, type(found).__name__, "must be Parameters(name=tensor, ...)")
    for name, block in found.named().items():
        if block.shape[:1] != (len(seeds),) or block.dtype != like.dtype or block.device != like.device:
            shown = f"{tuple(block.shape)} {block.dtype} on {block.device}"
            words = (
                f"must lead with an axis of {len(seeds)} seeds, in {like.dtype} on {like.device}: .to(like)"
            )
            raise invalid_value(f"{what}.{name}", shown, words)
    blocks = {name: block.detach().clone() for name, block in found.named().items()}
    return as_parameters(blocks, generator.feature_count)


def parameter_count(training: Training) -> int:
    """Return how many numbers the parameters of a seed are."""
    return sum(block.numel() for block in _one(training).named().values())


def _one(training: Training) -> Parameters:
    return first_parameters(training, training.seed_numbers[:1])


def warn_of_twin(training: Training) -> None:
    """Warn in one line where the theory's layer is trained by its plain twin."""
    model, twin = training.model, training.trained_model
    if twin is not model:
        field = training.generator.beyond_layer
        words = (
            f"the kernels of {model.name} are exact without generator.{field}; {twin.name} trains it, slower"
        )
        warnings.warn(words, RuntimeWarning, stacklevel=4)


def require_trainable(training: Training) -> None:
    """Raise ``ValueError`` where a model and an objective do not go together, by a step's loss on a few samples.

    Asked before work starts: a model whose outputs have another shape, an objective that reads area attention of a
    model without maps.
    """
    from vitdyn.dynamics.batches import BatchSource
    from vitdyn.dynamics.gradient import loss_gradient
    from vitdyn.objectives.contract import first_state

    model = training.trained_model
    if CLOSED_FORMS in model.offers:
        return
    seeds, samples = training.seed_numbers[:1], min(4, training.batch_size)
    device = torch.device("cpu")
    source = BatchSource(
        training.generator, training.objective, seeds, samples, None, PRECISIONS[training.precision], device
    )
    parameters = _one(training)
    state = first_state(training.objective, parameters, seeds)
    batch, views = source.training(0, None)
    loss_gradient(parameters, training.objective, batch, views, state, model=model)


def named_shapes(parameters: Parameters) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor without its axis of seeds, by name."""
    return {name: tuple(block.shape[1:]) for name, block in parameters.named().items()}


def is_finite(block: Tensor, training: Training) -> bool:
    """Return whether all numbers are finite in a training's precision."""
    return bool(block.to(PRECISIONS[training.precision]).isfinite().all())
