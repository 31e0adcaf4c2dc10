"""The mixture of reconstruction and contrast against its two parts (exact: float64 round-off)."""

import numpy as np
import pytest
import torch

from vitdyn.attention import Workspace
from vitdyn.data import PatchGenerator, PatchLayout, Uniform, masked_count
from vitdyn.dynamics import Schedule, Training, loss_gradient, simulate
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture, autograd_adjoint

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
    for name in ("loss", "bound"):
        one, other = getattr(MAE, name)(first), getattr(CL, name)(both)
        expected = (1 - weight) * one / masked + weight * other
        np.testing.assert_allclose(getattr(mixture(weight), name)(both), expected, rtol=1e-12)
    assert (mixture(weight).loss(both) >= mixture(weight).bound(both) - 1e-12).all()


@FIVE
@WEIGHTS
@pytest.mark.parametrize("complementary", [False, True])
def test_the_closed_adjoint_equals_autograd(case, weight, complementary, make_problem, close):
    both, _ = parts(make_problem(complementary=complementary))
    closed, second = mixture(weight).adjoint(both, Workspace())
    automatic, none = autograd_adjoint(mixture(weight), both)
    assert second is None
    assert none is None
    assert closed.weight is None
    close(closed.value, automatic.value, 1e-12)


def test_a_second_adjoint_in_the_same_workspace_is_the_same(make_problem):
    both, _ = parts(make_problem())
    work, kept = Workspace(), [attention.clone() for attention in both.attention]
    (first, _), again = mixture(0.3).adjoint(both, work), None
    first = first.value.clone()
    again, _ = mixture(0.3).adjoint(both, work)
    assert torch.equal(first, again.value)
    assert all(torch.equal(was, now) for was, now in zip(kept, both.attention, strict=True))


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
def test_a_part_with_an_adjoint_of_its_own_is_asked_for_it(part, make_problem, close):
    """Neither part is then left out, nor taken for the one that is known."""
    problem = make_problem()
    kind = {"reconstruction": MaskedReconstruction, "contrast": Contrastive}[part]

    class Own(kind):
        def adjoint(self, forward, work):
            asked.append(True)
            return super().adjoint(forward, work)

    asked, other = [], mixture(0.3)
    vars(other)[part] = Own(**({} if part == "reconstruction" else {"temperature": 0.7}))
    found, expected = (
        loss_gradient(problem.correlations, objective, problem.batch, problem.views, {})[0].map(torch.clone)
        for objective in (other, mixture(0.3))
    )
    assert asked
    close(found, expected, 1e-12)


def test_views_rate_and_counted_queries_are_those_of_the_parts(make_problem, rng):
    problem = make_problem()
    both, _ = parts(problem)
    assert torch.equal(mixture(0.3).counted_queries(both), ~problem.views[0])
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
    with complaint("samples", "at least 2"):
        Mixture().check(PatchLayout.from_sizes([6, 4]), 1)
