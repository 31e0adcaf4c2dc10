"""RC-MAE's correction on a small ViT: the gradient of its second term beside the way that its teacher lags behind."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from vitdyn._errors import require_kind, require_real
from vitdyn.landscape import Correction, Tensors, teacher_correction
from vitdyn.vits.augmentation import generator
from vitdyn.vits.learner import Learner
from vitdyn.vits.loss_surface import device_of, frozen_batch
from vitdyn.vits.methods import RCMAE
from vitdyn.vits.pretraining import Pretraining
from vitdyn.vits.pretraining_loop import draw_batch

Images = Float[Tensor, "image channel side side"]
Noise = Float[Tensor, "image patch"]
BLENDS = {"others": 1.0, "s = 0.75": 0.75, "s = 0.5": 0.5, "s = 0.25": 0.25, "noise": 0.0}
"""How like training images those are that are blended with noise: their cosine with images of no recent step."""
INPUTS = ("seen", *BLENDS, "patches", "pixels")
"""Images on which the correction is measured: of the last step, others, and these with patches or pixels permuted."""
_ENCODER, _DECODER = "encoder.", "heads.decoder."


def correction_of(method: RCMAE, learner: Learner, images: Images, noise: Noise) -> Correction:
    """Return the correction on standardised ``images`` without their patches of largest ``noise``, in float64.

    The teacher is taken where it is: ``followed`` moves it first.
    """
    require_kind("method", method, RCMAE)
    learner, images, noise = deepcopy(learner).double(), images.double(), noise.double()
    trained: Tensors = {name: each for name, each in learner.named_parameters() if each.requires_grad}
    fixed: Tensors = {name: each for name, each in learner.encoder.weights.items() if not each.requires_grad}
    taught: Tensors = {
        f"{_ENCODER}{name}": each for name, each in learner.teacher["encoder"].named_parameters()
    }
    taught |= {f"{_DECODER}{name}": each for name, each in learner.teacher["decoder"].named_parameters()}

    def outputs(at: Tensors, shown: Images = images) -> Tensor:
        encoder, decoder = {**fixed, **_within(at, _ENCODER)}, _within(at, _DECODER)
        found = method.reconstruct(
            encoder,
            lambda encoded: functional_call(learner.heads["decoder"], decoder, (encoded,)),
            learner.shape,
            shown,
            noise,
        )
        masked = found.pixels[found.masked.bool()]
        # ½‖·‖² of these is the second term, the mean over masked patches and pixels
        return masked * sqrt(2 / masked.numel())

    with torch.no_grad():
        target = outputs(taught, images if method.teacher_sees == "same" else images.roll(1, 0))
    return teacher_correction(outputs, trained, taught, target)


def followed(spec: Pretraining, learner: Learner, step: int) -> Learner:
    """Return a copy of what trains after ``step`` steps, whose teacher has followed the last: the next begins so."""
    assert isinstance(spec.method, RCMAE)
    copy, batch = deepcopy(learner), draw_batch(spec, spec.images.load(), step)
    copy.move_teacher(batch.momentum(spec.method.momentum, spec.method.epoch_steps))
    return copy


def corrections(spec: Pretraining, learner: Learner, step: int, images: int) -> Iterator[Correction]:
    """Give the correction after ``step`` steps on each of ``INPUTS``, whose masks no step saw but that of "seen".

    Under plain descent the lag is −Σ_i α^i η_{t−i} g_{t−i} of past gradients, with AdamW that of its updates.
    """
    learner, method = followed(spec, learner, step), spec.method
    assert isinstance(method, RCMAE)
    patches, device = learner.shape.patches, device_of(learner)
    last = draw_batch(spec, spec.images.load().to(device), max(step - 1, 0))
    yield correction_of(method, learner, last.plain, last.noise(patches))
    others = frozen_batch(spec, images, device)
    shown = [blended(others.plain, each, _draw(spec)) for each in BLENDS.values()]
    shown += [permuted(others.plain, side, _draw(spec)) for side in (spec.vit.patch, 1)]
    for each in shown:
        yield correction_of(method, learner, each, others.noise(patches))


def blended(images: Images, similarity: float, draw: torch.Generator) -> Images:
    """Return s x + √(1 − s²) n of each image x, n being white noise of the images' variance: s is their cosine."""
    require_real("similarity", similarity, low=0.0, high=1.0)
    noise = torch.randn(images.shape, generator=draw, dtype=images.dtype).to(images) * images.std()
    return similarity * images + sqrt(1 - similarity**2) * noise


def permuted(images: Images, side: int, draw: torch.Generator) -> Images:
    """Return images whose squares of ``side`` pixels a side are permuted, each image by itself."""
    count, _, height, _ = images.shape
    cut = torch.nn.functional.unfold(images, side, stride=side)  # (image, pixel of a square, square)
    order = torch.rand(count, 1, cut.shape[-1], generator=draw).argsort(-1).to(cut.device).expand_as(cut)
    return torch.nn.functional.fold(cut.gather(-1, order), (height, height), side, stride=side)


def _draw(spec: Pretraining) -> torch.Generator:
    return generator(spec.seed, "user", 0)  # one noise for all similarities


def _within(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
