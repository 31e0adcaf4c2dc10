"""The mixture of reconstruction and contrast against its two parts (exact: float64 round-off)."""

import numpy as np
import pytest
import torch

from vitdyn.data import PatchGenerator, PatchLayout, Uniform
from vitdyn.data.masking import masked_count
from vitdyn.dynamics import Schedule, Training, loss_gradient, simulate
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.objectives import Contrastive, MaskedReconstruction, MeanPooled, Mixture, Residual

FIVE = pytest.mark.parametrize("case", range(5))
WEIGHTS = pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
MAE, CL = MaskedReconstruction(), Contrastive(temperature=0.7)


def mixture(weight):
    return Mixture(weight=weight, temperature=0.7)


def parts(problem):
    """The forward passes of the mixture and contrast, and of masked reconstruction."""
    both = forward_pass(problem.correlations, problem.batch, problem.views, {})
    return both, forward_pass(problem.correlations, problem.batch, problem.views[:1], {})


@FIVE
@WEIGHTS
def test_loss_and_bound_mix_those_of_the_parts_per_patch(case, weight, make_problem):
    problem = make_problem()
    both, first = parts(problem)
    masked = masked_count(problem.batch.layout.patches, mixture(0.5).mask_ratio)
    for name in ("loss", "lower_bound"):
        one, other = getattr(MAE, name)(first), getattr(CL, name)(both)
        expected = (1 - weight) * one / masked + weight * other
        np.testing.assert_allclose(getattr(mixture(weight), name)(both), expected, rtol=1e-12)
    assert (mixture(weight).loss(both) >= mixture(weight).lower_bound(both) - 1e-12).all()


@FIVE
@pytest.mark.parametrize("content", [False, True])
def test_the_gradient_mixes_those_of_the_parts(case, content, make_problem, close):
    problem = make_problem(content=content)
    masked = masked_count(problem.batch.layout.patches, mixture(0.5).mask_ratio)

    def gradient(objective, views):
        return loss_gradient(problem.correlations, objective, problem.batch, views, {})[0]

    reconstruction, contrast = gradient(MAE, problem.views[:1]), gradient(CL, problem.views)
    expected = reconstruction.map(lambda one, other: 0.7 / masked * one + 0.3 * other, contrast)
    close(gradient(mixture(0.3), problem.views), expected, 1e-12)


@pytest.mark.parametrize("part", ["reconstruction", "contrast"])
@pytest.mark.parametrize("known", [True, False])
def test_a_part_of_ones_own_is_what_trains(part, known, make_problem, close):
    """By its closed form where it brings one that the mixture can add, else by autograd through its loss."""
    problem = make_problem()
    kind = {"reconstruction": MaskedReconstruction, "contrast": Contrastive}[part]

    class Own(kind):
        def loss(self, forward):
            return 2 * super().loss(forward)

        def closed_form(self, batch):
            asked.append(True)
            if not known:
                return None
            found = super().closed_form(batch)
            if part == "reconstruction":
                return Residual(2 * found.scale)
            return MeanPooled(lambda means: (2 * found.gradient(means)[0], None))

    asked, other = [], mixture(0.3)
    vars(other)[part] = Own(**({} if part == "reconstruction" else {"temperature": 0.7}))

    def gradient(objective, views):
        return loss_gradient(problem.correlations, objective, problem.batch, views, {})[0].map(torch.clone)

    twice = gradient(MAE, problem.views[:1]) if part == "reconstruction" else gradient(CL, problem.views)
    masked = masked_count(problem.batch.layout.patches, 0.5)
    factor = 0.7 / masked if part == "reconstruction" else 0.3
    expected = gradient(mixture(0.3), problem.views).map(lambda one, more: one + factor * more, twice)
    close(gradient(other, problem.views), expected, 1e-12)
    assert asked


def test_views_rate_and_loss_queries_are_those_of_the_parts(make_problem, rng):
    problem = make_problem()
    both, _ = parts(problem)
    assert torch.equal(mixture(0.3).loss_queries(both), ~problem.views[0])
    first, second = Mixture(mask_ratio=0.3, views="complementary").draw_views(rng, 20, 10)
    assert (first == ~second).all()
    assert ((~first).sum(1) == 3).all()
    layout = PatchLayout.from_sizes([6, 4], clusters=3)
    assert Mixture().default_learning_rate(layout) == 4 * 10 * 3


def test_it_trains():
    layout = PatchLayout.from_sizes([9, 3], clusters=2)
    training = Training(
        generator=PatchGenerator(layout=layout, latents=Uniform(low=1.0, high=1.5)),
        objective=Mixture(),
        steps=20,
        seeds=2,
        precision="float64",
        schedule=Schedule(frames=3),
    )
    losses = simulate(training)["loss"]
    assert (losses[-1] < losses[0]).all()


def test_complaints(complaint):
    for weight in (-0.1, 1.1, float("nan"), "half"):
        with complaint("weight", "[0, 1]"):
            Mixture(weight=weight)
    with complaint("mask_ratio", "(0, 1)"):
        Mixture(mask_ratio=1.0)
    with complaint("temperature", "(0, 1e+06]"):
        Mixture(temperature=0.0)
    with complaint("views", "independent, complementary"):
        Mixture(views="same")
    with complaint("batch_size", "at least 2"):
        Mixture().check(PatchLayout.from_sizes([6, 4]), 1)
