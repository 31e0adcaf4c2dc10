"""The loss of a small Vision Transformer as a function of its weights, on images, masks and views that stay."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer, require_kind
from vitdyn.landscape import Surface, module_surface
from vitdyn.vits.augmentation import minibatch
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.pretraining import Pretraining


class FrozenBatch(Batch):
    """Images whose masks and views no training step saw, read while a teacher stands still."""

    def momentum(self, first: float, period: int = 0) -> float:
        """Return 1: the teacher keeps all of itself."""
        return 1.0


def frozen_batch(spec: Pretraining, images: int) -> FrozenBatch:
    """Draw so many training images, with masks and views of a step after the last."""
    require_integer("images", images, at_least=2)
    loaded = spec.images.load()
    chosen = minibatch(spec.seed, spec.steps, images, len(loaded.train))
    return FrozenBatch(loaded, chosen, spec.augmentation, spec.seed, spec.steps, spec.steps)


def loss_surface(
    spec: Pretraining, learner: Learner, *, images: int = 64, dtype: torch.dtype = torch.float64
) -> Surface:
    """Return the loss of a method on ``images`` images as a function of all weights that it trains.

    Batch, masks, views, teacher and centre stay as they are; batch norms take their moments over the batch, as in
    training. Raises ``ValueError`` for an encoder without a method.
    """
    require_kind("learner", learner, Learner)
    if (method := spec.method) is None:
        raise invalid_value(
            "method", None, "an untrained encoder has no loss: give the method whose loss is meant"
        )
    batch = frozen_batch(spec, images)

    def loss(module: torch.nn.Module) -> Tensor:
        assert isinstance(module, Learner)
        return method.loss(module, batch)

    # a copy, in which the student that a teacher follows is the copied encoder too
    return module_surface(deepcopy(learner).to(dtype), loss)
