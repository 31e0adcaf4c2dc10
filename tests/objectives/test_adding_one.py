"""What it takes to add an objective: one class, here with all the state that an objective may have.

The toy has a teacher (moving average of the correlations), a centre, a queue, and a predictor with an optimizer of its
own, and no closed form. It is no part of the package, and everything of the package works with it (exact, unless said
otherwise).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from vitdyn.data import PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import GradientDescent, Momentum, Runtime, Schedule, Training, simulate
from vitdyn.dynamics.batches import BatchSource
from vitdyn.experiments import Experiment, register
from vitdyn.models import Correlations, area_attention
from vitdyn.objectives import OBJECTIVES, Objective, contract

LAYOUT = PatchLayout.from_sizes([5, 3, 3])
RATE, KEEP, DRIFT, LENGTH, PUSH = 2.0, 0.8, 0.6, 3, 0.3


@dataclass(frozen=True, kw_only=True)
class Toy(Objective):
    """½‖W F − (teacher's F on the other view − centre)‖² plus likeness of F to the queue; W is trained."""

    name: ClassVar[str] = "toy"
    family: ClassVar[str] = "self-distillation"
    view_count: ClassVar[int] = 2

    mask_ratio: float = 0.4

    def loss(self, forward):
        student = forward.mean_outputs(0)
        predicted = student @ forward.state["predictor"]
        distance = (predicted - self.target(forward)).square().sum(-1)
        return 0.5 * distance.mean(1) + torch.einsum("sbj,slj->s", student, forward.state["queue"])

    def target(self, forward):
        teacher = Correlations(forward.state["phi"], forward.state["upsilon"])
        return forward.mean_outputs(1, teacher) - forward.state["centre"][:, None]

    def lower_bound(self, forward):
        return torch.zeros(len(forward.batch.seeds))

    def default_learning_rate(self, layout):
        return RATE

    def initial_state(self, correlations, streams):
        phi, upsilon = correlations.feature_position, correlations.position_position
        start = {"phi": phi.clone(), "upsilon": upsilon.clone()}
        centre = phi.new_zeros(correlations.seeds, phi.shape[-1])
        predictor = torch.eye(3, dtype=phi.dtype).expand(correlations.seeds, 3, 3)
        return {
            **start,
            "predictor": predictor,
            "centre": centre,
            "queue": centre[:, None].expand(-1, LENGTH, -1),
        }

    def optimizers(self):
        return {"predictor": Momentum(learning_rate=PUSH, momentum=0.5)}

    def update_state(self, forward, correlations):
        seen = forward.mean_outputs(1, correlations).mean(1)
        state = forward.state
        return {
            "phi": state["phi"].lerp(correlations.feature_position, 1 - KEEP),
            "upsilon": state["upsilon"].lerp(correlations.position_position, 1 - KEEP),
            "centre": state["centre"].lerp(seen, 1 - DRIFT),
            "queue": torch.cat([state["queue"][:, 1:], seen[:, None]], 1),
        }


@pytest.fixture
def training():
    return Training(
        generator=PatchGenerator(layout=LAYOUT, latents=Uniform(low=0.5, high=1.5)),
        objective=Toy(),
        steps=9,
        batch_size=6,
        seeds=(4, 7),
        precision="float64",
        evaluation_samples=6,
        schedule=Schedule(spacing="linear", frames=4),
    )


@pytest.fixture
def memories(monkeypatch):
    """Every memory that a run leaves behind, in order."""
    kept, after = [], contract.next_state

    def keeping(*given):
        kept.append(after(*given))
        return {name: value.clone() for name, value in kept[-1].items()}

    monkeypatch.setattr("vitdyn.dynamics.steppers.next_state", keeping)
    return kept


def by_hand(training, seed):
    """Train one seed: plain arrays, dense gradients by autograd, moving averages written out."""
    source = BatchSource(
        training.generator,
        training.objective,
        (seed,),
        training.batch_size,
        None,
        torch.float64,
        torch.device("cpu"),
    )
    predictor, speed = torch.eye(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    phi, upsilon = (torch.zeros(1, 11, *rest, dtype=torch.float64) for rest in ((1, 3), (11,)))
    teacher, centre, queue = (phi, upsilon), phi[0, 0, 0], [phi[0, 0, 0]] * LENGTH
    for step in range(training.steps):
        batch, views = source.training(step, None)

        def features(model, view, batch=batch, views=views):
            attention = area_attention(Correlations(*model), batch, views[view])
            return [batch.latents[0, b] * attention[0, b].mean(1) for b in range(training.batch_size)]

        target = [value - centre for value in features(teacher, 1)]
        live = [part.clone().requires_grad_() for part in (phi, upsilon, predictor)]
        loss = sum(
            0.5 * (mine @ live[2] - aim).square().sum() / training.batch_size
            + sum(mine @ old for old in queue)
            for mine, aim in zip(features(live[:2], 0), target, strict=True)
        )
        pulls = torch.autograd.grad(loss, live)
        phi, upsilon = phi - RATE * pulls[0], upsilon - RATE * pulls[1]
        speed = 0.5 * speed + pulls[2]
        predictor = predictor - PUSH * speed
        seen = sum(features((phi, upsilon), 1)) / training.batch_size
        teacher = KEEP * teacher[0] + (1 - KEEP) * phi, KEEP * teacher[1] + (1 - KEEP) * upsilon
        centre = DRIFT * centre + (1 - DRIFT) * seen
        queue = [*queue[1:], seen]
    return (
        phi,
        upsilon,
        {
            "phi": teacher[0],
            "upsilon": teacher[1],
            "centre": centre,
            "queue": torch.stack(queue),
            "predictor": predictor,
            "predictor.velocity": speed,
        },
    )


def test_it_trains_and_remembers_as_a_loop_written_by_hand(training, memories):
    final = simulate(training).dataset
    assert len(memories) == training.steps
    for index, seed in enumerate(training.seeds):
        phi, upsilon, memory = by_hand(training, seed)
        assert float(phi.abs().max()) > 0.1
        np.testing.assert_allclose(final["final_feature_position"][index], phi[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(final["final_position_position"][index], upsilon[0], rtol=0, atol=1e-12)
        for name, value in memory.items():
            found = memories[-1][name][index]
            np.testing.assert_allclose(found, value.reshape(found.shape), rtol=0, atol=1e-12)


def test_its_memory_survives_an_interruption(training, tmp_path, interrupted):
    whole = simulate(training)
    path = tmp_path / "run.pt"
    interrupted(training, path, at=6)
    state = torch.load(path, weights_only=True)["state"][0]
    assert (state["step"], sorted(state["objective_state"])) == (
        5,
        ["centre", "phi", "predictor", "predictor.velocity", "queue", "upsilon"],
    )
    resumed = simulate(training, checkpoint=path)
    assert whole.dataset.equals(resumed.dataset)


def test_seeds_keep_their_own_memory(training):
    alone = simulate(training, runtime=Runtime(memory_limit_mib=1e-6)).dataset
    together = simulate(training).dataset
    for name, values in together.items():
        np.testing.assert_allclose(alone[name], values, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("registering")
def test_its_specification_is_rebuilt_from_text_once_it_is_registered(training, complaint):
    asked = Experiment(name="toy", training=training)
    with complaint("kind", "must be one of"):
        Experiment.from_json(asked.to_json())
    register(Toy)
    assert Experiment.from_json(asked.to_json()) == asked


def test_it_need_not_be_listed_to_be_trained(training):
    assert Toy not in OBJECTIVES.values()
    assert simulate(training).dataset.sizes["frame"] == 4


def test_a_part_that_cannot_be_trained_is_refused(training, complaint):
    class Unknown(Toy):
        def optimizers(self):
            return {"prototypes": GradientDescent(learning_rate=0.1)}

    class Unused(Toy):
        def loss(self, forward):
            return forward.mean_outputs(0).sum((1, 2))

    class Returning(GradientDescent):
        def step(self, correlations, gradient, state, count):
            return correlations

    class Moving(Toy):
        def optimizers(self):
            return {"predictor": Returning(learning_rate=0.1)}

    for kind, field, remedy in (
        (Unknown, "Unknown.optimizers['prototypes']", "a part of initial_state"),
        (Unused, "Unused.optimizers['predictor']", "that the loss depends on"),
        (Moving, "Moving.optimizers['predictor'].step", "in place"),
    ):
        with complaint(field, remedy):
            simulate(replace(training, objective=kind()))


class Mixing(Toy):
    """A loss from which the mean over all seeds is taken."""

    name = "mixing"

    def loss(self, forward):
        return super().loss(forward) - forward.outputs().mean()


def test_a_loss_that_mixes_seeds_is_refused(complaint):
    training = Training(generator=PatchGenerator(layout=LAYOUT), objective=Mixing(), steps=1, seeds=3)
    with complaint("Mixing.loss", "must be a seed's own: keep the first axis apart"):
        simulate(training)
    assert simulate(replace(training, objective=Toy())).dataset.sizes["seed"] == 3
