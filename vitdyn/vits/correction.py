"""RC-MAE's correction on a small ViT: the gradient of its second term beside the way that its teacher lags behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from vitdyn._errors import require_choice, require_kind, require_real
from vitdyn.landscape import Correction, Tensors, Vector, teacher_correction
from vitdyn.vits.learner import Learner
from vitdyn.vits.methods import RCMAE
from vitdyn.vits.pretraining_loop import Run, draw_batch

Images = Float[Tensor, "image channel side side"]
UNLIKE = ("patches", "pixels", "noise")
"""What images can be made of that are less like those that were seen: their patches or pixels permuted, noise."""
_ENCODER, _DECODER = "encoder.", "heads.decoder."


def correction_of(
    method: RCMAE, learner: Learner, images: Images, noise: Float[Tensor, "image patch"]
) -> Correction:
    """Return the correction on standardised ``images`` without their patches of largest ``noise``, in float64.

    The teacher is taken where it is: move it first if it has not followed the last step yet.
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


def lagging(run: Run, steps: Sequence[int]) -> Iterator[tuple[int, Learner, Vector]]:
    """Train RC-MAE; after each of ``steps`` give a copy whose teacher has followed, and the discounted past gradients.

    These are Σ_i (Π α) g_{t−i}, discounted as the teacher's lag is: −η times them is the lag where the run's optimizer
    is plain gradient descent of one rate η. With AdamW the lag is that of its updates.
    """
    method = run.spec.method
    require_kind("method", method, RCMAE)
    assert isinstance(method, RCMAE)
    images = run.spec.images.load()
    trained = [each for each in run.learner.parameters() if each.requires_grad]
    past = torch.zeros(sum(each.numel() for each in trained))
    for step in range(max(steps)):
        batch = draw_batch(run.spec, images, step)
        run.descend(batch)
        # the teacher follows this step at the beginning of the next one
        momentum = replace(batch, step=step + 1).momentum(method.momentum, method.epoch_steps)
        past = momentum * (
            past + torch.cat([each.grad.flatten() for each in trained if each.grad is not None])
        )
        if step + 1 in steps:
            learner = deepcopy(run.learner)
            learner.move_teacher(momentum)
            yield step + 1, learner, past


def blended(images: Images, similarity: float, draw: torch.Generator) -> Images:
    """Return s x + √(1 − s²) n of each image x, n being white noise of the images' variance: s is their cosine."""
    require_real("similarity", similarity, low=0.0, high=1.0)
    noise = torch.randn(images.shape, generator=draw, dtype=images.dtype) * images.std()
    return similarity * images + sqrt(1 - similarity**2) * noise


def unlike(images: Images, patch: int, by: str, draw: torch.Generator) -> Images:
    """Return images with patches of ``patch`` pixels a side, or pixels, permuted, each image by itself, or noise."""
    require_choice("by", by, UNLIKE)
    if by == "noise":
        return blended(images, 0.0, draw)
    side = patch if by == "patches" else 1
    count, _, height, _ = images.shape
    cut = torch.nn.functional.unfold(images, side, stride=side)  # (image, pixel of a patch, patch)
    order = torch.rand(count, 1, cut.shape[-1], generator=draw).argsort(-1).expand_as(cut)
    return torch.nn.functional.fold(cut.gather(-1, order), (height, height), side, stride=side)


def _within(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
