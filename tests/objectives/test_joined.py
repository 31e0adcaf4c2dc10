"""One specification in the place of several: each seed gets what its own gives it (exact: to the bit)."""

from dataclasses import fields, replace

import pytest
import torch

from vitdyn.attention import Workspace
from vitdyn.dynamics.gradient import forward_pass, loss_gradient
from vitdyn.objectives import (
    OBJECTIVES,
    Contrastive,
    MaskedReconstruction,
    Mixture,
    joined,
    members,
    per_seed,
)

KINDS = {
    MaskedReconstruction: [{"mask_ratio": 0.3}, {"mask_ratio": 0.6}],
    Contrastive: [{"temperature": 0.7, "weight_decay": 0.0}, {"temperature": 3.0, "weight_decay": 0.2}],
    Mixture: [
        {"weight": 0.2, "temperature": 0.5, "mask_ratio": 0.3},
        {"weight": 0.9, "temperature": 2.0, "mask_ratio": 0.6},
    ],
}
EACH = pytest.mark.parametrize("kind", OBJECTIVES)


def cells(kind, seeds):
    """A joined objective of two kinds of cells in turn, and its members."""
    own = [kind(**KINDS[kind][seed % 2]) for seed in range(seeds)]
    return joined(own), own


@EACH
@pytest.mark.parametrize("case", range(3))
def test_each_seed_gets_the_values_of_its_own(kind, case, make_problem):
    problem = make_problem(seeds=3)
    views = problem.views if kind is not MaskedReconstruction else problem.views[:1]
    forward = forward_pass(problem.correlations, problem.batch, views, {})
    together, own = cells(kind, seeds=3)
    pulled = [None if part is None else part.value.clone() for part in together.adjoint(forward, Workspace())]
    differ = []
    for seed, one in enumerate(own):
        for name in ("loss", "bound"):
            assert torch.equal(getattr(together, name)(forward)[seed], getattr(one, name)(forward)[seed])
        assert torch.equal(together.decay(problem.correlations)[seed], one.decay(problem.correlations)[seed])
        for found, alone in zip(pulled, one.adjoint(forward, Workspace()), strict=True):
            assert (found is None) == (alone is None)
            assert found is None or torch.equal(found[seed], alone.value[seed])
        differ.append(one.loss(forward)[0])
    assert kind is MaskedReconstruction or differ[0] != differ[1]


@EACH
@pytest.mark.parametrize("case", range(3))
def test_the_gradient_without_attention_in_memory(kind, case, make_problem, close, monkeypatch):
    """It is that of the adjoint, and each seed has the bits of its own objective."""
    problem = make_problem(seeds=3)
    views = problem.views if kind is not MaskedReconstruction else problem.views[:1]
    together, own = cells(kind, seeds=3)

    def gradient(objective):
        return loss_gradient(problem.correlations, objective, problem.batch, views, {})[0].map(torch.clone)

    found = gradient(together)
    for seed, one in enumerate(own):
        for name, block in gradient(one).named().items():
            assert torch.equal(found.named()[name][seed], block[seed])
    monkeypatch.setattr(kind, "residual_scale", lambda self, batch: None)
    monkeypatch.setattr(kind, "pooled_adjoint", lambda self, batch: None)
    close(found, gradient(together), 1e-12)


@EACH
def test_a_subclass_with_an_adjoint_of_its_own_is_asked_for_it(kind, make_problem):
    class Doubled(kind):
        def adjoint(self, forward, work):
            asked.append(True)
            return super().adjoint(forward, work)

    asked, problem = [], make_problem()
    views = problem.views if kind is not MaskedReconstruction else problem.views[:1]
    loss_gradient(problem.correlations, Doubled(), problem.batch, views, {})
    assert asked


@EACH
def test_what_varies_is_a_field_of_numbers(kind):
    known = {field.name for field in fields(kind)}
    assert set(kind.varies) <= known
    assert set(kind.drawn_by) <= known
    assert known - set(kind.varies) <= {"views"}


def test_a_joined_one_is_of_its_kind_and_leaves_the_others_alone():
    own = [Mixture(weight=0.1), Mixture(weight=0.7)]
    together = joined(own)
    assert type(together) is Mixture
    assert members(together) == tuple(own)
    assert members(own[0]) == (own[0],)
    like = torch.zeros(2, 3, 4, dtype=torch.float32)
    column = per_seed(together, lambda one: one.weight, like)
    assert column.shape == (2, 1, 1)
    assert column.dtype == torch.float32
    assert column.flatten().tolist() == torch.tensor([0.1, 0.7]).tolist()
    assert per_seed(own[1], lambda one: one.weight, like) == 0.7
    assert [one.temperature for one in members(together.contrast)] == [1.0, 1.0]
    assert replace(own[0]) == own[0]
