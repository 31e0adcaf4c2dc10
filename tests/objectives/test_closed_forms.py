"""One test for every objective: what its class knows of its loss is what autograd and a slow transcription say.

Exact: float64 round-off. Problems are random: one to three clusters of unequal areas, numbers of patches that are no
power of two, samples with one visible patch, with an area that no visible patch has, at times with all visible.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cases import CASES as LISTED
from cases_generative import reconstruction_error
from cases_hybrid import consistent
from literal import Case, moved_state, seen_by

from vitdyn.dynamics import loss_gradient
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.objectives import OBJECTIVES, RCMAE, MeanPooled, Objective, Residual
from vitdyn.objectives.contract import closed_form_kinds, closed_form_of, lower_bound_of


def spread(seen):
    """½ mean_b ‖mean_p F_p of the second view‖²."""
    return 0.5 * sum(mean @ mean for mean in seen.pooled(1)) / len(seen.samples)


@dataclass(frozen=True, kw_only=True)
class FromOutside(Objective):
    """Three reconstruction errors plus a loss of pooled outputs of the second view: a closed form of three terms."""

    name = "from outside"
    family = "hybrid"
    view_count = 2

    def loss(self, forward):
        error = (forward.outputs() - forward.patches()).square().sum(-1)
        pooled = forward.mean_outputs(1).square().sum(-1)
        return 1.5 * (error * ~forward.views[0]).sum((1, 2)) / forward.batch.count + 0.5 * pooled.mean(1)

    def closed_form(self, batch):
        def half(means):
            return None, batch.latents.square() * means[1] / (2 * batch.count)

        scale = torch.full((len(batch.seeds),), 3 / batch.count, dtype=batch.latents.dtype)
        return Residual(scale) + MeanPooled(half) + MeanPooled(half)

    def lower_bound(self, forward):
        return torch.zeros_like(forward.batch.latents[:, 0, 0])


@dataclass(frozen=True, kw_only=True)
class WithoutForm(Objective):
    """A loss of single queries of the second view, which has no closed form."""

    name = "without form"
    family = "generative"
    view_count = 2

    def loss(self, forward):
        return forward.outputs(1).pow(3).sum((1, 2, 3))


CASES = LISTED | {
    "from outside": Case(
        FromOutside(),
        lambda seen: 3 * reconstruction_error(seen) + spread(seen),
        frozenset({Residual, MeanPooled}),
    ),
    "without form": Case(
        WithoutForm(), lambda seen: sum(value**3 for value in seen.outputs(1).flatten()), frozenset()
    ),
    "rc-mae, permuted": Case(
        RCMAE(weight=0.7, teacher_sees="permuted"), lambda seen: consistent(seen, 0.7, of=-1)
    ),
}
EACH = pytest.mark.parametrize("name", CASES)
FORMED = pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.kinds])
BOUNDED = pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.objective.holds("lower_bound")]
)
FIVE = pytest.mark.parametrize("case", range(5))


def views_of(problem, objective):
    return problem.views[: objective.view_count]


def gradient(problem, objective, state):
    views = views_of(problem, objective)
    found, _ = loss_gradient(problem.correlations, objective, problem.batch, views, state)
    return found.map(torch.clone)


def through_autograd(problem, objective, state):
    """∂/∂Q of Σ over seeds of the same loss, in a class without forms: differentiated through area attention."""

    class Bare(Objective):
        name, family, view_count = "bare", "generative", objective.view_count
        weight_decay = objective.weight_decay

        def loss(self, forward):
            return objective.loss(forward)

    return gradient(problem, Bare(), state)


def test_every_listed_objective_is_here():
    assert OBJECTIVES.keys() <= CASES.keys()


@FORMED
@FIVE
@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("complementary", [False, True])
def test_the_gradient_is_that_of_autograd_through_the_loss(
    name, case, content, complementary, make_problem, close, rng
):
    objective, kinds = CASES[name].objective, CASES[name].kinds
    problem = make_problem(content=content, complementary=complementary)
    state = moved_state(objective, problem.correlations, rng)
    assert closed_form_kinds(objective, problem.batch.layout) == kinds
    close(gradient(problem, objective, state), through_autograd(problem, objective, state), 1e-12)


@EACH
@FIVE
def test_the_loss_is_its_formula_written_as_loops(name, case, make_problem, rng):
    objective, problem = CASES[name].objective, make_problem()
    state = moved_state(objective, problem.correlations, rng)
    forward = forward_pass(problem.correlations, problem.batch, views_of(problem, objective), state)
    expected = [float(CASES[name].loss(seen_by(forward, seed))) for seed in range(len(problem.batch.seeds))]
    np.testing.assert_allclose(objective.loss(forward), expected, rtol=1e-11, atol=1e-13)


@BOUNDED
@FIVE
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_no_model_is_below_the_lower_bound(name, case, scale, make_problem, rng):
    objective, problem = CASES[name].objective, make_problem(scale=scale)
    state = moved_state(objective, problem.correlations, rng)
    forward = forward_pass(problem.correlations, problem.batch, views_of(problem, objective), state)
    assert (objective.loss(forward) >= lower_bound_of(objective, forward) - 1e-12).all()


@EACH
def test_the_closed_form_of_a_batch_has_the_terms_of_all(name, make_problem):
    found = closed_form_of(CASES[name].objective, make_problem().batch)
    assert set(map(type, found)) == CASES[name].kinds
