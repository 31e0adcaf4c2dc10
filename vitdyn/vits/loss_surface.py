"""The loss of a small Vision Transformer as a function of its weights, on images, masks and views that stay."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from vitdyn._errors import invalid_value, require_choice, require_integer, require_kind, require_real
from vitdyn.landscape import Surface, module_surface
from vitdyn.vits.augmentation import minibatch
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.methods.reconstruction import Reconstruction
from vitdyn.vits.pretraining import Pretraining

_CHUNK = 512  # images that go through at a time
OVER = ("encoder", "both")


class FrozenBatch(Batch):
    """Images whose masks and views no training step saw, read while a teacher stands still."""

    def momentum(self, first: float, period: int = 0) -> float:
        """Return 1: the teacher keeps all of itself."""
        return 1.0


def frozen_batch(spec: Pretraining, images: int, device: torch.device | str = "cpu") -> FrozenBatch:
    """Draw so many training images, with masks and views of a step after the last."""
    require_integer("images", images, at_least=2)
    loaded = spec.images.load().to(device)
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
    batch = frozen_batch(spec, images, device_of(learner))

    def loss(module: nn.Module) -> Tensor:
        assert isinstance(module, Learner)
        return method.loss(module, batch)

    # a copy, in which the student that a teacher follows is the copied encoder too
    return module_surface(deepcopy(learner).to(dtype), loss)


def reconstruction_surface(spec: Pretraining, learner: Learner, *, images: int = 64) -> Surface:
    """Return the loss of masked reconstruction alone at the weights of a method that has more terms: RC-MAE's."""
    method = spec.method
    require_kind("method", method, Reconstruction)
    assert isinstance(method, Reconstruction)
    plain = Reconstruction(mask=method.mask, normalised_targets=method.normalised_targets)
    return loss_surface(replace(spec, method=plain), learner, images=images)


def probe_surface(
    spec: Pretraining,
    learner: Learner,
    *,
    over: str = "encoder",
    images: int = 64,
    penalty: float = 1e-3,
    dtype: torch.dtype = torch.float64,
) -> Surface:
    """Return a linear probe's loss on ``images`` training images, as they are, about the encoder's weights.

    The probe is fitted once, by ``fitted_classifier`` at the learner's weights, and reads what stands for an image
    there. Lee et al. (2024, arXiv 2405.18042) draw "the loss of linear probing" without saying over which weights:
    ``over`` "encoder" moves the encoder's weights that are trained, the classifier stays as it was fitted; "both" moves
    the classifier too. The loss is the mean cross entropy, without the penalty of the fit.
    """
    require_kind("learner", learner, Learner)
    require_choice("over", over, OVER)
    copy = deepcopy(learner).to(dtype)
    batch = frozen_batch(spec, images, device_of(copy))
    classifier = fitted_classifier(spec, copy, penalty=penalty).requires_grad_(over == "both")
    probed = Learner(copy.shape, copy.encoder, {"classifier": classifier}, readout=copy.readout)

    def loss(module: nn.Module) -> Tensor:
        assert isinstance(module, Learner)
        scores = module.heads["classifier"](module.read(batch.plain))
        return nn.functional.cross_entropy(scores, batch.labels)

    return module_surface(probed, loss)


def fitted_classifier(spec: Pretraining, learner: Learner, *, penalty: float = 1e-3) -> nn.Linear:
    """Return the linear map of an encoder's vectors to scores of labels that fits all training images.

    It minimises the mean cross entropy plus ``penalty``/2 ‖W‖², W in units of the features' standard deviations: a
    convex function, whose one minimum L-BFGS finds from 0, the same each time.
    """
    require_real("penalty", penalty, low=0, high=1e6, open_low=True)
    images = spec.images.load().to(device_of(learner))
    with torch.no_grad():
        parts = images.standardised(images.train).split(_CHUNK)
        features = torch.cat([learner.read(part) for part in parts])
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-12)
    standard = (features - mean) / deviation
    fitted = nn.Linear(features.shape[1], spec.images.classes).to(features)
    weight, bias = (torch.zeros_like(each, requires_grad=True) for each in (fitted.weight, fitted.bias))
    search = torch.optim.LBFGS(
        [weight, bias], max_iter=500, tolerance_grad=1e-7, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        scores = standard @ weight.T + bias
        loss = nn.functional.cross_entropy(scores, images.train_labels) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    search.step(closure)
    with torch.no_grad():
        # of the features as they are
        fitted.weight.copy_(weight / deviation)
        fitted.bias.copy_(bias - (weight / deviation) @ mean)
    return fitted


def device_of(learner: Learner) -> torch.device:
    """Return where a learner is."""
    return next(learner.parameters()).device


SURFACES: dict[str, Callable[..., Surface]] = {
    "pretraining": loss_surface,
    "reconstruction": reconstruction_surface,
    "probe": probe_surface,
}
"""How the surface of a loss is made, by what ``Landscape.loss`` calls it."""
