"""One specification in the place of several: each seed gets what its own gives it (exact: to the bit)."""

from dataclasses import fields, replace

import pytest
import torch

from vitdyn.dynamics.gradient import forward_pass, loss_gradient
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture, hyperparameter
from vitdyn.objectives.stacked import stack_key, stack_specs, unstack

KINDS = {
    MaskedReconstruction: [{"mask_ratio": 0.3}, {"mask_ratio": 0.6}],
    Contrastive: [{"temperature": 0.7, "weight_decay": 0.0}, {"temperature": 3.0, "weight_decay": 0.2}],
    Mixture: [
        {"weight": 0.2, "temperature": 0.5, "mask_ratio": 0.3},
        {"weight": 0.9, "temperature": 2.0, "mask_ratio": 0.6},
    ],
}
EACH = pytest.mark.parametrize("kind", KINDS)


def cells(kind, seeds):
    """A stacked objective of two kinds of cells in turn, and its members."""
    own = [kind(**KINDS[kind][seed % 2]) for seed in range(seeds)]
    return stack_specs(own), own


@EACH
@pytest.mark.parametrize("case", range(3))
def test_each_seed_gets_the_values_of_its_own(kind, case, make_problem):
    problem = make_problem(seeds=3)
    views = problem.views[: kind.view_count]
    forward = forward_pass(problem.correlations, problem.batch, views, {})
    together, own = cells(kind, seeds=3)
    differ = []
    for seed, one in enumerate(own):
        for name in ("loss", "lower_bound"):
            assert torch.equal(getattr(together, name)(forward)[seed], getattr(one, name)(forward)[seed])
        assert torch.equal(together.decay(problem.correlations)[seed], one.decay(problem.correlations)[seed])
        differ.append(one.loss(forward)[0])
    assert kind is MaskedReconstruction or differ[0] != differ[1]


@EACH
@pytest.mark.parametrize("case", range(3))
def test_the_gradient_without_attention_in_memory(kind, case, make_problem, close, monkeypatch):
    """It is that of autograd, and each seed has the bits of its own objective."""
    problem = make_problem(seeds=3)
    views = problem.views[: kind.view_count]
    together, own = cells(kind, seeds=3)

    def gradient(objective):
        return loss_gradient(problem.correlations, objective, problem.batch, views, {})[0].map(torch.clone)

    found = gradient(together)
    for seed, one in enumerate(own):
        for name, block in gradient(one).named().items():
            assert torch.equal(found.named()[name][seed], block[seed])
    monkeypatch.setattr(kind, "closed_form", lambda self, batch: None)
    close(found, gradient(together), 1e-12)


@EACH
def test_what_varies_is_a_field_of_numbers(kind):
    known = {field.name for field in fields(kind)}
    assert set(kind.batchable_fields) <= known
    assert known - set(kind.batchable_fields) <= {"views"}


def test_a_stack_is_of_its_kind_and_leaves_the_others_alone():
    own = [Mixture(weight=0.1), Mixture(weight=0.7)]
    together = stack_specs(own)
    assert type(together) is Mixture
    assert unstack(together) == tuple(own)
    assert unstack(own[0]) == (own[0],)
    like = torch.zeros(2, 3, 4, dtype=torch.float32)
    column = hyperparameter(together, lambda one: one.weight, like)
    assert column.shape == (2, 1, 1)
    assert column.dtype == torch.float32
    assert column.flatten().tolist() == torch.tensor([0.1, 0.7]).tolist()
    assert hyperparameter(own[1], lambda one: one.weight, like) == 0.7
    assert [one.temperature for one in unstack(together.contrast)] == [1.0, 1.0]
    assert replace(own[0]) == own[0]


def test_what_can_be_stacked():
    """Specifications whose own class says so, with nothing in them but their fields."""

    class Below(Contrastive):
        pass

    class Above(Contrastive):
        batchable_fields = ("temperature",)

    changed = Contrastive()
    object.__setattr__(changed, "gain", 2.0)
    assert stack_key(Contrastive(temperature=0.3)) == stack_key(Contrastive(weight_decay=0.1)) is not None
    assert stack_key(Contrastive(views="complementary")) != stack_key(Contrastive())
    assert stack_key(Below()) is stack_key(changed) is None
    assert stack_key(Above(temperature=0.3)) == stack_key(Above()) != stack_key(Above(mask_ratio=0.3))
