"""One test for every objective: what its class knows of its loss is what autograd and a slow transcription say.

Exact: float64 round-off. Problems are random: one to three clusters of unequal areas, numbers of patches that are no
power of two, samples with one visible patch, with an area that no visible patch has, at times with all visible.
"""

from dataclasses import dataclass
from math import exp, log

import numpy as np
import pytest
import torch

from vitdyn.dynamics import loss_gradient
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.objectives import (
    OBJECTIVES,
    Contrastive,
    MaskedReconstruction,
    MeanPooled,
    Mixture,
    Objective,
    Residual,
)
from vitdyn.objectives.contract import closed_form_kinds, closed_form_of, lower_bound_of


def output(forward, seed, view, b, p):
    """F_p of one sample in the basis of features, entry by entry."""
    batch = forward.batch
    return [
        float(batch.latents[seed, b, j] * forward.attention[view][seed, b, j, p])
        for j in range(batch.layout.areas)
    ]


def reconstruction_error(forward, seed):
    """½ Σ over samples, masked p and features j of (F_pj − X_pj)², over the number of samples."""
    batch, total = forward.batch, 0.0
    for b in range(batch.count):
        for p in range(batch.layout.patches):
            if not forward.views[0][seed, b, p]:
                own = batch.layout.partition[int(batch.cluster[seed, b])][p]
                for j, value in enumerate(output(forward, seed, 0, b, p)):
                    total += 0.5 * (value - (j == own) * float(batch.latents[seed, b, j])) ** 2
    return total / batch.count


def info_nce(forward, seed, temperature):
    """−mean_b log( e^{s_bb/τ} / Σ_c e^{s_bc/τ} ), with s_bc over the features that both samples have."""
    batch = forward.batch
    clusters, patches = batch.cluster[seed].tolist(), range(batch.layout.patches)
    pooled = [
        [np.mean([output(forward, seed, view, b, p) for p in patches], axis=0) for b in range(batch.count)]
        for view in (0, 1)
    ]
    total = 0.0
    for b in range(batch.count):
        logits = [
            float(pooled[0][b] @ pooled[1][c]) / temperature if clusters[b] == clusters[c] else 0.0
            for c in range(batch.count)
        ]
        total -= log(exp(logits[b]) / sum(map(exp, logits)))
    return total / batch.count


def spread(forward, seed):
    """½ mean_b ‖mean_p F_p of the second view‖²."""
    batch, patches = forward.batch, range(forward.batch.layout.patches)
    means = [np.mean([output(forward, seed, 1, b, p) for p in patches], axis=0) for b in range(batch.count)]
    return 0.5 * float(np.mean([mean @ mean for mean in means]))


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


def cubes(forward, seed):
    batch = forward.batch
    each = (output(forward, seed, 1, b, p) for b in range(batch.count) for p in range(batch.layout.patches))
    return sum(value**3 for values in each for value in values)


CASES = {
    "mae": (MaskedReconstruction(), reconstruction_error, {Residual}),
    "cl": (Contrastive(temperature=0.7), lambda *at: info_nce(*at, 0.7), {MeanPooled}),
    "mixture": (
        Mixture(weight=0.3, temperature=0.7),
        lambda forward, seed: (
            0.7 * reconstruction_error(forward, seed) / round(0.5 * forward.batch.layout.patches)
            + 0.3 * info_nce(forward, seed, 0.7)
        ),
        {Residual, MeanPooled},
    ),
    "from outside": (
        FromOutside(),
        lambda *at: 3 * reconstruction_error(*at) + spread(*at),
        {Residual, MeanPooled},
    ),
    "without form": (WithoutForm(), cubes, frozenset()),
}
EACH = pytest.mark.parametrize("name", CASES)
FIVE = pytest.mark.parametrize("case", range(5))


def views_of(problem, objective):
    return problem.views[: objective.view_count]


def through_autograd(problem, objective):
    """∂/∂Q of Σ over seeds of the same loss, in a class without forms: differentiated through area attention."""

    class Bare(Objective):
        name, family, view_count = "bare", "generative", objective.view_count

        def loss(self, forward):
            return objective.loss(forward)

    return loss_gradient(problem.correlations, Bare(), problem.batch, views_of(problem, objective), {})[0]


def test_every_listed_objective_is_here():
    assert OBJECTIVES.keys() <= CASES.keys()


@EACH
@FIVE
@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("complementary", [False, True])
def test_the_gradient_is_that_of_autograd_through_the_loss(
    name, case, content, complementary, make_problem, close
):
    objective, _, kinds = CASES[name]
    problem = make_problem(content=content, complementary=complementary)
    assert closed_form_kinds(objective, problem.batch.layout) == kinds
    found, _ = loss_gradient(problem.correlations, objective, problem.batch, views_of(problem, objective), {})
    found = found.map(torch.clone)
    close(found, through_autograd(problem, objective), 1e-12)


@EACH
@FIVE
def test_the_loss_is_its_formula_written_as_loops(name, case, make_problem):
    objective, literal, _ = CASES[name]
    problem = make_problem()
    forward = forward_pass(problem.correlations, problem.batch, views_of(problem, objective), {})
    expected = [literal(forward, seed) for seed in range(len(problem.batch.seeds))]
    np.testing.assert_allclose(objective.loss(forward), expected, rtol=1e-11)


@EACH
@FIVE
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_no_model_is_below_the_lower_bound(name, case, scale, make_problem):
    objective, *_ = CASES[name]
    problem = make_problem(scale=scale)
    forward = forward_pass(problem.correlations, problem.batch, views_of(problem, objective), {})
    bound = lower_bound_of(objective, forward)
    assert bound.isnan().all() if name == "without form" else (objective.loss(forward) >= bound - 1e-12).all()


@EACH
def test_the_closed_form_of_a_batch_has_the_terms_of_all(name, make_problem):
    objective, _, kinds = CASES[name]
    assert set(map(type, closed_form_of(objective, make_problem().batch))) == kinds
