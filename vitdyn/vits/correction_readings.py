"""RC-MAE's correction along a training of a small ViT, on images more and less like those that it has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.landscape.correction import cosine
from vitdyn.vits.augmentation import generator
from vitdyn.vits.correction import UNLIKE, blended, correction_of, lagging, unlike
from vitdyn.vits.learner import Learner
from vitdyn.vits.loss_surface import frozen_batch
from vitdyn.vits.methods import RCMAE, Reconstruction
from vitdyn.vits.pretraining import Pretraining
from vitdyn.vits.pretraining_loop import Run, draw_batch, single_threaded

KINDS = ("seen", "others", *UNLIKE)
"""Images of the last step, others of the training set, and what these are made into."""
AFTER = ("plain descent", "AdamW")
Reading = dict[tuple[str, str, str], float]
Readings = dict[tuple[str, str, str], np.ndarray]
"""Numbers of runs by what they are after (``AFTER``), which, and on which images (``KINDS``, "s = 0.5")."""

_RATE, _STEPS = 0.02, 20
_CPU = torch.device("cpu")


def read_corrections(specs: Sequence[Pretraining], similarities: Sequence[float]) -> Readings:
    """Return numbers of the correction under AdamW, at three fifths of each run, and under plain descent from there.

    The plain descent is of 20 steps at rate 0.02, and its teacher begins as its student. "cosine" and "strength" are
    those of ``vitdyn.landscape.Correction``; "past" is the cosine with minus the discounted past gradients, which under
    plain descent is the same. ``similarities`` are those of ``blended``.
    """
    with single_threaded():
        found = [_of_run(spec, similarities) for spec in specs]
    return {key: np.array([each[key] for each in found]) for key in found[0]}


def reconstruction_errors(
    specs: Sequence[Pretraining], every: int, *, images: int = 256
) -> Float[np.ndarray, "reading run"]:
    """Return the error of masked reconstruction, whatever is trained beside it, before every so many steps of each run.

    On training images and masks that stay.
    """
    with single_threaded():
        return np.array([_errors(spec, every, images) for spec in specs]).T


def _errors(spec: Pretraining, every: int, images: int) -> list[float]:
    found, loaded, plain = [], spec.images.load(), Reconstruction()
    run, still = Run(spec, _CPU), frozen_batch(spec, images)
    for step in range(spec.steps):
        if step % every == 0:
            with torch.no_grad():
                found.append(float(plain.loss(run.learner, still)))
        run.descend(draw_batch(spec, loaded, step))
    return found


def _of_run(spec: Pretraining, similarities: Sequence[float]) -> Reading:
    ((step, learner, past),) = lagging(Run(spec, _CPU), (max(3 * spec.steps // 5, 1),))
    found = _read(spec, "AdamW", step, learner, past, similarities)
    # a schedule so long that rate and momentum stay
    second = Run(replace(spec, steps=10**5, learning_rate=_RATE, warmup=0.0), _CPU)
    second.learner.load_state_dict(learner.state_dict())
    second.learner.move_teacher(0.0)
    trained = [each for each in second.learner.parameters() if each.requires_grad]
    second.optimizer = torch.optim.SGD(trained)
    ((step, learner, past),) = lagging(second, (_STEPS,))
    return found | _read(second.spec, "plain descent", step, learner, past, similarities)


def _read(
    spec: Pretraining, after: str, step: int, learner: Learner, past: Tensor, similarities: Sequence[float]
) -> Reading:
    assert isinstance(spec.method, RCMAE)
    found: Reading = {}
    for kind, (images, noise) in _images(spec, step, similarities).items():
        each = correction_of(spec.method, learner, images, noise)
        found[after, "cosine", kind], found[after, "strength", kind] = each.cosine, each.strength
        found[after, "past", kind] = cosine(each.gradient, -past.double())
    return found


def _images(spec: Pretraining, step: int, similarities: Sequence[float]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return images and the numbers that mask them, by what they are; those "seen" are of the step before ``step``."""
    loaded, patches = spec.images.load(), spec.vit.encoder(spec.images.side).patches
    seen, others = (draw_batch(spec, loaded, at) for at in (step - 1, spec.steps))
    masks = others.noise(patches)

    def draw() -> torch.Generator:
        return generator(spec.seed, "user", 0)  # one noise for all similarities

    made = {f"s = {s:g}": (blended(others.plain, s, draw()), masks) for s in similarities}
    made |= {"seen": (seen.plain, seen.noise(patches)), "others": (others.plain, masks)}
    return made | {by: (unlike(others.plain, spec.vit.patch, by, draw()), masks) for by in UNLIKE}
