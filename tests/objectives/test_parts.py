"""What objectives share: pooled forms, teachers, vectors drawn per seed, queues. Exact, to round-off."""

from math import cos, pi

import pytest
import torch

from vitdyn.dynamics import loss_gradient
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.models import Correlations, area_attention
from vitdyn.objectives import Contrastive, Objective
from vitdyn.objectives.parts import (
    Descent,
    embedding_size,
    first_teacher,
    identity_map,
    next_queue,
    next_teacher,
    teacher_of,
    unit_vectors,
)
from vitdyn.objectives.pooled import pooled_form
from vitdyn.objectives.stacked import stack_specs
from vitdyn.objectives.trained import Trained
from vitdyn.seeds import Streams


class Pooled(Objective):
    """InfoNCE of embeddings, by way of ``pooled_form``."""

    name, family, view_count = "pooled", "contrastive", 2

    def pooled_loss(self, anchor, target):
        logits = anchor @ target.detach().mT
        return -torch.log_softmax(logits, -1).diagonal(dim1=1, dim2=2).mean(1)

    def loss(self, forward):
        return self.pooled_loss(forward.embeddings(0), forward.embeddings(1))

    def closed_form(self, batch):
        return pooled_form(batch, self.pooled_loss)


@pytest.mark.parametrize("case", range(3))
def test_a_pooled_form_of_embeddings_is_the_gradient_of_contrast(case, make_problem, close):
    problem = make_problem()
    of_both = [
        loss_gradient(problem.correlations, each, problem.batch, problem.views, {})[0].map(torch.clone)
        for each in (Pooled(), Contrastive())
    ]
    close(*of_both, 1e-12)
    forward = forward_pass(problem.correlations, problem.batch, problem.views, {})
    torch.testing.assert_close(Pooled().loss(forward), Contrastive().loss(forward), rtol=1e-12, atol=0)


def test_a_teacher_sees_the_sample_without_masks(make_problem, complaint):
    problem = make_problem()
    forward = forward_pass(problem.correlations, problem.batch, problem.views, {})
    seen = area_attention(problem.correlations, problem.batch, torch.ones_like(problem.views[0]))
    expected = (seen * problem.batch.latents[..., None]).mT
    torch.testing.assert_close(forward.outputs(None, problem.correlations), expected, rtol=0, atol=0)
    with complaint("view", "there are 2"):
        forward.outputs(None)


@pytest.mark.parametrize(("steps", "period"), [(0, 0), (3, 0), (8, 2)])
def test_a_teacher_is_the_moving_average_of_the_schedule(steps, period, rng):
    start, *models = (
        Correlations(
            torch.from_numpy(rng.normal(size=(2, 5, 1, 3))), torch.from_numpy(rng.normal(size=(2, 5, 5)))
        )
        for _ in range(6)
    )
    state, momentum = first_teacher(start), torch.tensor([0.9, 0.5], dtype=torch.float64)
    expected = start.map(torch.clone)
    for t, model in enumerate(models):
        state = next_teacher(state, model, momentum=momentum, steps=steps, period=period)
        for seed, m in enumerate((0.9, 0.5)):
            done = t % period if period else t
            now = 1 - (1 - m) * (1 + cos(pi * min(done / steps, 1))) / 2 if steps else m
            for old, new in zip(expected.named().values(), model.named().values(), strict=True):
                old[seed] = now * old[seed] + (1 - now) * new[seed]
    for found, truth in zip(teacher_of(state).named().values(), expected.named().values(), strict=True):
        torch.testing.assert_close(found, truth, rtol=1e-12, atol=1e-14)


def test_what_is_drawn_is_each_seeds_own_and_begins_as_it_says(make_problem):
    correlations = make_problem(seeds=3).correlations
    both = unit_vectors(correlations, Streams((4, 9, 4), "objective"), 6)
    alone = unit_vectors(correlations, Streams((9,), "objective"), 6)
    assert both.shape == (3, 6, embedding_size(correlations))
    assert (
        torch.equal(both[1], alone[0]) and torch.equal(both[0], both[2]) and not torch.equal(both[0], both[1])
    )
    torch.testing.assert_close(both.norm(dim=-1), torch.ones(3, 6, dtype=both.dtype))
    same = identity_map(correlations, Streams((4, 9), "objective"))
    torch.testing.assert_close(both[:2] @ same, both[:2], rtol=0, atol=0)


def test_a_queue_takes_the_new_and_forgets_the_oldest():
    queue, new = torch.arange(4.0).reshape(1, 4, 1), torch.tensor([[[8.0], [9.0], [10.0]]])
    assert next_queue(queue, new).flatten().tolist() == [8, 9, 10, 0]
    assert next_queue(queue[:, :2], new).flatten().tolist() == [8, 9]


def test_a_trained_part_descends_at_the_rate_of_its_own_objective():
    both = [Contrastive(temperature=0.5), Contrastive(temperature=2.0)]
    part, gradient = Trained(torch.ones(2, 3)), Trained(torch.full((2, 3), 0.1))
    Descent(stack_specs(both), lambda one: one.temperature).step(part, gradient, {}, 0)
    torch.testing.assert_close(part.value, torch.tensor([[0.95], [0.8]]).expand(2, 3))
    Descent(both[1], lambda one: one.temperature).step(part, gradient, {}, 0)
    torch.testing.assert_close(part.value, torch.tensor([[0.75], [0.6]]).expand(2, 3))


def test_attention_of_a_teacher_is_made_once_and_anew_where_it_or_the_teacher_changed(make_problem):
    problem = make_problem()
    forward, teacher = problem.forward(), problem.correlations.map(torch.clone)
    first = forward.attend(teacher, 0)
    assert forward.attend(teacher.map(lambda block: block), 0) is first
    expected = first.clone()
    first.zero_()
    torch.testing.assert_close(forward.attend(teacher, 0), expected, rtol=0, atol=0)
    teacher.position_position.mul_(2)
    assert not torch.equal(forward.attend(teacher, 0), expected)
