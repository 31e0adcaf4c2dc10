"""RC-MAE's correction on a small ViT: lag and gradient as training has them, in double precision. Exact."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from vitdyn.vits import Pretraining
from vitdyn.vits.correction import blended, correction_of, lagging, unlike
from vitdyn.vits.methods import RCMAE
from vitdyn.vits.pretraining_loop import Run, draw_batch, first_learner


def descended(spec, rate, steps=4):
    """A learner after plain descent, its teacher having followed, and Σ_i α^i g_{t−i} by name."""
    images = spec.images.load()
    images = replace(images, train=images.train.double())
    learner, momentum = first_learner(spec).double(), spec.method.momentum
    past = {name: torch.zeros_like(each) for name, each in learner.named_parameters() if each.requires_grad}
    for step in range(steps):
        batch = replace(draw_batch(spec, images, step), steps=10**12)  # the momentum stays
        loss = spec.method.loss(learner, batch)
        learner.zero_grad()
        loss.backward()
        with torch.no_grad():
            for name, each in learner.named_parameters():
                if name in past:
                    past[name] = momentum * (past[name] + each.grad)
                    each -= rate * each.grad
    learner.move_teacher(momentum)
    return learner, past, draw_batch(spec, images, 4)


def test_lag_and_gradient_are_those_of_training(tiny):
    spec = tiny("rc-mae", momentum=0.8)
    learner, past, batch = descended(spec, 0.01)
    found = correction_of(spec.method, learner, batch.plain, batch.noise(16))
    before = torch.cat([each.flatten() for each in past.values()])
    torch.testing.assert_close(found.lag, -0.01 * before, rtol=1e-7, atol=1e-11)
    still = replace(batch, step=batch.steps)  # the momentum has risen to 1: the teacher stays
    slopes = []
    for weight in (1.0, 0.0):
        at = deepcopy(learner)
        loss = replace(spec.method, consistency=weight).loss(at, still)
        loss.backward()
        slopes.append(
            torch.cat([each.grad.flatten() for _, each in at.named_parameters() if each.requires_grad])
        )
    # the masks of another step: those that the loss drew
    found = correction_of(spec.method, learner, batch.plain, still.noise(16))
    torch.testing.assert_close(found.gradient, slopes[0] - slopes[1], rtol=1e-6, atol=1e-9)


def test_a_run_gives_the_past_as_its_teacher_discounts_it(tiny, monkeypatch):
    """A momentum that is another one at each step; plain descent of one rate."""
    run = Run(tiny("rc-mae", momentum=0.5, steps=9, learning_rate=0.02, warmup=0.0), torch.device("cpu"))
    run.learner.double()
    run.optimizer = torch.optim.SGD([each for each in run.learner.parameters() if each.requires_grad])
    monkeypatch.setattr(Pretraining, "rate", lambda spec, step: 0.02)  # in place of a schedule
    batch = draw_batch(run.spec, run.spec.images.load(), 8)
    for (step, learner, past), expected in zip(lagging(run, (1, 4)), (1, 4), strict=True):
        found = correction_of(run.spec.method, learner, batch.plain, batch.noise(16))
        assert step == expected
        torch.testing.assert_close(found.lag, -0.02 * past.double(), rtol=1e-6, atol=1e-9)


def test_the_linear_formula_is_of_first_order_in_the_rate(tiny):
    errors = []
    for rate in (4e-4, 2e-4, 1e-4):
        spec = tiny("rc-mae", momentum=0.8)
        learner, _, batch = descended(spec, rate)
        errors.append(correction_of(spec.method, learner, batch.plain, batch.noise(16)).nonlinearity)
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.2) and errors[1] / errors[2] == pytest.approx(
        2, rel=0.1
    )


def test_images_that_are_less_like_those_before(complaint):
    images = torch.randn(400, 1, 8, 8, generator=torch.manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    for similarity in (0.0, 0.6, 1.0):
        made = blended(images, similarity, draw)
        cosine = torch.nn.functional.cosine_similarity(images.flatten(1), made.flatten(1)).mean()
        assert float(cosine) == pytest.approx(similarity, abs=0.03)
    patches, pixels = (unlike(images, 2, by, draw) for by in ("patches", "pixels"))
    for made in (patches, pixels):
        assert torch.equal(made.flatten(1).sort().values, images.flatten(1).sort().values)
        assert not torch.equal(made, images)

    def cut(given):
        return {tuple(each.tolist()) for each in torch.nn.functional.unfold(given[:1], 2, stride=2)[0].T}

    assert cut(patches) == cut(images) != cut(pixels)
    assert abs(float(unlike(images, 2, "noise", draw).std()) - float(images.std())) < 0.02
    with complaint("by"):
        unlike(images, 2, "rows", draw)
    with complaint("method"):
        correction_of(RCMAE, None, images, images)
