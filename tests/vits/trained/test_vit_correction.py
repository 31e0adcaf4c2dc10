"""RC-MAE's correction on a small ViT: lag and gradient as training has them, in double precision. Exact."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn.observables.schedule import Schedule
from vitdyn.vits import Landscape, survey
from vitdyn.vits.correction import INPUTS, blended, correction_of, followed, permuted
from vitdyn.vits.loss_surface import frozen_batch
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


def test_a_survey_has_the_correction_at_the_lag_that_plain_descent_leaves(tiny):
    """The momentum and the rate are others at each step; at the start the teacher is its student."""
    training = tiny("rc-mae", momentum=0.5, optimizer="descent", learning_rate=0.02, weight_decay=0.0)
    schedule = Schedule(frames=3, spacing="linear")
    spec = Landscape(training=training, schedule=schedule, measures=("correction",), images=8)
    found = survey(spec)
    assert found.dataset["inputs"].values.tolist() == list(INPUTS)
    for name in ("correction_cosine", "correction_strength"):
        assert np.isnan(found[name][0]).all() and np.isfinite(found[name][1:]).all()
    run, images = Run(training, torch.device("cpu")), training.images.load()
    trained, past = [each for each in run.learner.parameters() if each.requires_grad], 0.0
    for step in range(training.steps):
        run.descend(draw_batch(training, images, step))
        gradient = torch.cat([each.grad.flatten() for each in trained]).double()
        following = draw_batch(training, images, step + 1)
        past = following.momentum(0.5) * (past + training.rate(step) * gradient)
        if step + 1 not in spec.steps:
            continue
        learner = followed(training, run.learner, step + 1)
        frozen = frozen_batch(training, spec.images)
        shown = {"others": frozen, "seen": draw_batch(training, images, step)}
        here = found.dataset.isel(seed=0, frame=spec.steps.index(step + 1))
        for name, batch in shown.items():
            each = correction_of(training.method, learner, batch.plain, batch.noise(16))
            # weights of single precision, of which the lag is a small difference
            assert (each.lag + past).norm() < 1e-4 * past.norm()
            assert here["correction_cosine"].sel(inputs=name) == pytest.approx(each.cosine)
            assert here["correction_strength"].sel(inputs=name) == pytest.approx(each.strength)


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
    patches, pixels = (permuted(images, side, draw) for side in (2, 1))
    for made in (patches, pixels):
        assert torch.equal(made.flatten(1).sort().values, images.flatten(1).sort().values)
        assert not torch.equal(made, images)

    def cut(given):
        return {tuple(each.tolist()) for each in torch.nn.functional.unfold(given[:1], 2, stride=2)[0].T}

    assert cut(patches) == cut(images) != cut(pixels)
    assert abs(float(blended(images, 0.0, draw).std()) - float(images.std())) < 0.02
    with complaint("similarity"):
        blended(images, 2.0, draw)
    with complaint("method"):
        correction_of(RCMAE, None, images, images)
