"""What a batch comes to through a teacher is made once, and again when somebody has written to it (exact).

And what an objective reads off a step's pass after the model has moved is what it was before.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training
from vitdyn.dynamics.simulate import simulate
from vitdyn.models import Parameters, Transformer
from vitdyn.objectives import MaskedReconstruction
from vitdyn.objectives.forward import kept
from vitdyn.objectives.model_pass import model_pass
from vitdyn.observables import Observable


def test_parameters_are_seen_once_until_they_change():
    asked = []

    def see(parameters, view):
        asked.append(view)
        return parameters.weights * (1 if view is None else view)

    seen, one = kept(see), Parameters(weights=torch.ones(2, requires_grad=True))
    again = Parameters(weights=one.weights)
    assert seen(one, 1) is seen(again, 1) and not seen(one, 1).requires_grad
    assert asked == [1]
    seen(one, None)
    with torch.no_grad():
        one.weights.mul_(3)
    assert seen(one, 1).tolist() == [3, 3]
    seen(one, 1).add_(1)  # what was returned is no longer what was made
    assert seen(one, 1).tolist() == [3, 3]
    assert asked == [1, None, 1, 1]


def test_a_models_teacher_is_seen_once(monkeypatch):
    generator = PatchGenerator(layout=PatchLayout.from_sizes([5, 3, 2]))
    batch, views = generator.sample(3, seeds=[0]), (torch.ones(1, 3, 10, dtype=torch.bool),)
    model, calls = Transformer(), []
    outputs = Transformer.outputs
    monkeypatch.setattr(Transformer, "outputs", lambda self, *given: calls.append(1) or outputs(self, *given))
    student, teacher = (
        Parameters(feature_position=torch.full((1, 1, 1, 10, 3), size).double(),
                   position_position=torch.zeros(1, 1, 1, 10, 10).double())
        for size in (0.1, 0.7)
    )  # fmt: skip
    seen = model_pass(model, student, batch, views, {})
    first = seen.outputs(0, teacher)
    assert torch.equal(first, seen.detached().outputs(0, teacher))
    assert torch.equal(first, outputs(model, teacher, batch, views[0])) and len(calls) == 1


@dataclass(frozen=True, kw_only=True)
class Remembering(MaskedReconstruction):
    """It keeps what its step showed in a view that its loss does not read."""

    name: ClassVar[str] = "remembering"
    view_count: ClassVar[int] = 2

    def initial_state(self, correlations, streams):
        return {"seen": correlations.like.new_zeros(correlations.seeds)}

    def update_state(self, forward, correlations):
        return {"seen": forward.mean_outputs(1).square().sum((1, 2))}


def test_what_is_read_after_a_step_is_of_the_model_before_it():
    seen = Observable(name="seen", compute=lambda state: state.forward.state["seen"])
    given = {"observables": (seen,), "schedule": Schedule(frames=3, spacing="linear"), "precision": "float64"}
    training = Training(
        generator=PatchGenerator(layout=PatchLayout.from_sizes([5, 3, 3])),
        objective=Remembering(), optimizer=GradientDescent(learning_rate=9.0), steps=2, batch_size=4, seeds=2, **given,
    )  # fmt: skip
    by_kernels, by_outputs = (
        simulate(one)["seen"].to_numpy() for one in (training, replace(training, model=Transformer()))
    )
    assert by_outputs == pytest.approx(by_kernels, rel=1e-12) and (by_kernels[1] != by_kernels[2]).all()
