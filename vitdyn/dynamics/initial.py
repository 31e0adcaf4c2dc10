"""The parameters of a training before its first step, and whether a model is what a training needs."""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from vitdyn._code import is_of_library
from vitdyn._errors import invalid_value
from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.dynamics.batches import BatchSource
from vitdyn.dynamics.gradient import loss_gradient
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.dynamics.training import Training
from vitdyn.models import Correlations, Model, Parameters, as_parameters
from vitdyn.models.checked import (
    checked_area_attention,
    checked_maps,
    checked_outputs,
    require_distributions,
    require_finite,
    require_own_outputs,
    require_streams,
)
from vitdyn.models.model import AREA_ATTENTION, ATTENTION_MAPS, CLOSED_FORMS, CORRELATIONS, STREAMS
from vitdyn.objectives.contract import first_state, loss_of
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
    return _initial(model, generator, seeds, like)


def _initial(model: Model, generator: PatchGenerator, seeds: tuple[int, ...], like: Tensor) -> Parameters:
    """Return a model's initial parameters. Raises ``ValueError`` unless they are what training needs."""
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
        if not block.isfinite().all():
            raise invalid_value(f"{what}.{name}", "not finite", "must hold finite numbers")
    blocks = {name: block.detach().clone() for name, block in found.named().items()}
    return as_parameters(blocks, generator.feature_count)


def parameter_count(training: Training) -> int:
    """Return how many numbers the parameters of a seed are. Raises ``ValueError`` for a model that has no hash."""
    model = training.trained_model
    try:
        return _numbers(model, training.generator)
    except TypeError as error:
        try:
            hash(model)
        except TypeError:
            words = "its fields must be hashable: tuples in the place of lists"
            raise invalid_value("model", model, words) from error
        raise


# asked for several times in a run, which makes the parameters: of a large model that takes seconds
@lru_cache(maxsize=64)
def _numbers(model: Model, generator: PatchGenerator) -> int:
    blocks = _initial(model, generator, (0,), torch.empty(0)).named().values()
    return sum(block.numel() for block in blocks)


def warn_of_twin(training: Training) -> None:
    """Warn in one line where the theory's layer is trained by its plain twin."""
    model, twin = training.model, training.trained_model
    if twin is not model:
        field = training.generator.beyond_layer
        words = (
            f"the kernels of {model.name} are exact without generator.{field}; {twin.name} trains it, slower"
        )
        warnings.warn(words, RuntimeWarning, stacklevel=4)


def require_trainable(training: Training, device: torch.device) -> None:
    """Raise ``ValueError`` where a model is not what training needs, or does not go with the objective.

    Before work starts, by a loss and its gradient of two seeds on a few samples, where the run will be: a small part of
    a single step. A model whose outputs or attention have another shape, whose numbers are not finite at the start,
    whose outputs do not depend on its parameters, or on those of another seed, or on chance; an objective that reads
    attention of a model that has none; an objective of the user's that mixes seeds.
    """
    model = training.trained_model
    if not is_of_library(type(training.objective)):
        _require_seeds_apart(training, device)
    if CLOSED_FORMS in model.offers:
        return
    seeds, dtype = training.seed_numbers[:2], PRECISIONS[training.precision]
    few = BatchSource(
        training.generator, training.objective, seeds, _few_samples(training), None, dtype, device
    )
    parameters, (batch, views) = first_parameters(training, seeds, device), few.training(0, None)
    try:
        require_own_outputs(model, parameters, batch, views[0])
        with torch.no_grad():
            _require_sound(model, parameters, batch, views[0])
        state = first_state(training.objective, parameters, seeds)
        gradient, _ = loss_gradient(parameters, training.objective, batch, views, state, model=model)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        told = f"fails on {batch.count} samples ({type(error).__name__}: {' '.join(str(error).split())})"
        raise invalid_value("model", model, told) from error
    for name, block in gradient.named().items():
        if not block.isfinite().all():
            words = "the gradient of the loss is not finite at the start"
            raise invalid_value(f"{type(model).__name__}.outputs", f"NaN or infinite in {name}", words)
    _require_own_start(training, parameters, seeds, device)


def _require_seeds_apart(training: Training, device: torch.device) -> None:
    """Raise ``ValueError`` unless the loss of a seed is the same, to the bit, whatever seed is beside it."""
    objective, dtype, own = training.objective, PRECISIONS[training.precision], training.seed_numbers[-1]

    def loss_beside(other: int) -> Tensor:
        seeds = (other, own)
        few = BatchSource(training.generator, objective, seeds, _few_samples(training), None, dtype, device)
        parameters, (batch, views) = first_parameters(training, seeds, device), few.training(0, None)
        state = first_state(objective, parameters, seeds)
        forward = loss_gradient(parameters, objective, batch, views, state, model=training.trained_model)[1]
        return loss_of(objective, forward)[-1]

    try:
        first, second = (loss_beside(other) for other in sorted({0, 1, 2} - {own})[:2])
    except Exception:  # whatever fails here fails in the run, which says it with its own numbers
        return
    if not torch.equal(first, second) and not (first.isnan() and second.isnan()):
        shown = f"{float(first):.9g} and {float(second):.9g} of one seed beside two others"
        words = "must be a seed's own: keep the first axis apart, and draw nothing by chance"
        raise invalid_value(f"{type(objective).__name__}.loss", shown, words)


def _require_own_start(
    training: Training, parameters: Parameters, seeds: tuple[int, ...], device: torch.device
) -> None:
    """Raise ``ValueError`` unless the last seed starts among the others as it does alone."""
    alone = first_parameters(training, seeds[-1:], device).named()
    for name, block in parameters.named().items():
        if name not in alone or not torch.equal(block[-1:], alone[name]):
            words = "must be the same at each call, whatever other seeds there are: draw from streams.each()"
            what = f"{type(training.trained_model).__name__}.initial.{name}"
            raise invalid_value(what, "other numbers of a seed", words)


def _few_samples(training: Training) -> int:
    """Return how many samples a loss takes at the least, among 4, 8, 16, ... and those of a batch."""
    for count in (2**power for power in range(2, training.batch_size.bit_length())):
        with suppress(ValueError):
            training.objective.check(training.generator.layout, count)
            return count
    return training.batch_size


def _require_sound(model: Model, parameters: Parameters, batch: PatchBatch, visible: Tensor) -> None:
    """Raise ``ValueError`` unless all that a model offers has its shape, and its outputs are finite."""
    name = type(model).__name__
    require_finite(f"{name}.outputs", checked_outputs(model, parameters, batch, visible))
    if ATTENTION_MAPS in model.offers:
        require_distributions(model, checked_maps(model, parameters, batch.part(slice(2)), visible[:, :2]))
    if AREA_ATTENTION in model.offers:
        require_finite(f"{name}.area_attention", checked_area_attention(model, parameters, batch, visible))
    if STREAMS in model.offers:
        require_streams(model, parameters, batch, visible)
    if CORRELATIONS in model.offers:
        Correlations.of(parameters)
