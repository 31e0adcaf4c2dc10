"""RC-MAE's correction on the layer: the lag is the discounted past gradients, the rest what differentiation gives."""

from math import isnan

import numpy as np
import pytest
import torch

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training, loss_gradient, simulate
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.models import Correlations
from vitdyn.objectives import RCMAE, MaskedReconstruction
from vitdyn.objectives.contract import first_state, next_state
from vitdyn.observables import ModelState, TeacherCorrection
from vitdyn.observables.correction import correction_of

LAYOUT = PatchLayout.from_sizes([8, 5, 3], clusters=2, seed=1)
GENERATOR = PatchGenerator(layout=LAYOUT)


def seen(step):
    batch = GENERATOR.sample(8, [3], step=step, dtype=torch.float64)
    draw = np.random.default_rng(step)
    return batch, (torch.from_numpy(draw.random((1, 8, LAYOUT.patches)) < 0.5),)


def joined(correlations):
    return torch.cat([block.flatten() for block in correlations.named().values()])


def trained(rate, *, steps=8, momentum=0.9, **options):
    """The state after steps of plain gradient descent, on a batch of its own, and Σ_i α^i g_{t−i}."""
    objective = RCMAE(momentum=momentum, **options)
    model = Correlations.zeros(LAYOUT, 1, dtype=torch.float64)
    state, past = first_state(objective, model, (3,)), 0.0
    for step in range(steps):
        gradient, forward = loss_gradient(model, objective, *seen(step), state)
        past = momentum * (past + joined(gradient))
        model = model.map(lambda block, slope: block - rate * slope, gradient)
        state = next_state(objective, forward, model, step)
    forward = forward_pass(model, *seen(99), state)
    return ModelState(model, objective, forward, steps, lambda: model, ((GENERATOR, objective),)), past


def test_the_lag_is_the_discounted_past_gradients_and_the_gradient_that_of_the_second_term():
    state, past = trained(40.0)
    found = correction_of(state)
    own = len(past)  # what the model knows of unseen features comes last
    torch.testing.assert_close(found.lag[:own], -40.0 * past, rtol=1e-10, atol=1e-12)
    both, alone = (
        joined(
            loss_gradient(
                state.parameters, RCMAE(weight=weight), state.batch, state.views, state.forward.state
            )[0]
        )
        for weight in (1.0, 0.0)
    )
    torch.testing.assert_close(found.gradient[:own], both - alone, rtol=1e-9, atol=1e-12)
    assert not found.gradient[own:].any() and not found.lag[own:].any()


def test_features_that_no_step_has_seen_leave_what_positions_share():
    """The gradient by Φ of known features is 0 there, exactly; in between it goes with the similarity."""
    state, _ = trained(40.0)
    cut = [
        LAYOUT.patches * 6,
        LAYOUT.patches**2,
        LAYOUT.patches * 6,
    ]  # Φ of two clusters of three areas, Υ, unseen Φ
    known, shared, unseen = correction_of(state, 0.0).gradient.split(cut)
    assert not known.any() and shared.norm() > 0 and unseen.norm() > 0
    assert 0 < abs(correction_of(state, 0.0).cosine) < 0.2 < correction_of(state).cosine
    known, _, unseen = correction_of(state, 0.6).gradient.split(cut)
    torch.testing.assert_close(known, 0.75 * unseen, rtol=1e-10, atol=0)


def test_the_linear_formula_is_of_first_order_in_the_rate():
    errors = [correction_of(trained(rate)[0]).nonlinearity for rate in (2.0, 1.0, 0.5)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1) and errors[1] / errors[2] == pytest.approx(
        2, rel=0.05
    )


def test_another_teacher_pulls_elsewhere_and_none_not_at_all():
    same, others = (correction_of(trained(40.0, teacher_sees=sees)[0]) for sees in ("same", "permuted"))
    assert same.nonlinearity < 0.3 < others.nonlinearity
    state, _ = trained(40.0, momentum=0.0)
    assert isnan(float(TeacherCorrection()(state))) and not correction_of(state).gradient.any()


def test_runs_record_it_by_name(complaint):
    def run(objective):
        rule = GradientDescent(learning_rate=40.0)
        training = Training(
            generator=GENERATOR, objective=objective, steps=4, seeds=2, batch_size=4, optimizer=rule,
            schedule=Schedule(frames=2), evaluation_samples=4, observables=("correction_cosine", "correction_strength"),
        )  # fmt: skip
        return simulate(training)

    found = run(RCMAE(momentum=0.9))
    assert np.isnan(found["correction_cosine"][0]).all() and (found["correction_cosine"][-1] > 0.5).all()
    assert (found["correction_strength"][-1] > 0).all()
    assert np.isnan(run(MaskedReconstruction())["correction_cosine"]).all()
    with complaint("TeacherCorrection.number"):
        TeacherCorrection(number="size")
    with complaint("TeacherCorrection.similarity"):
        TeacherCorrection(similarity=1.5)
