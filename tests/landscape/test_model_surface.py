"""The loss of any model as a surface (exact): the layer written plainly has the layer's, a deep one its gradient."""

import numpy as np
import pytest
import torch

import vitdyn as vd
from vitdyn.dynamics.gradient import forward_pass, loss_gradient
from vitdyn.landscape import Hessian, dense
from vitdyn.observables import ModelState
from vitdyn.observables.catalogue import LANDSCAPE
from vitdyn.observables.convexity import convexity_observables
from vitdyn.observables.loss_surface import loss_surface

OBJECTIVES = pytest.mark.parametrize(
    "objective",
    [vd.MaskedReconstruction(), vd.Contrastive(temperature=0.5, weight_decay=0.1)],
    ids=["mae", "cl"],
)
DEEP = vd.Transformer(layers=2, heads=2, residual=True, mlp=3, values="matrix", initial_scale=0.5)


def state_of(problem, objective, model=None, parameters=None):
    model, parameters = model or vd.OneLayer(), parameters or problem.correlations
    views = problem.views[: objective.view_count]
    forward = forward_pass(parameters, problem.batch, views, {}, model=model)
    return ModelState(parameters, objective, forward, 0, None, ((None, objective),), model)


@OBJECTIVES
def test_one_layer_written_plainly_has_the_hessian_of_the_layer(objective, make_problem):
    problem = make_problem(clusters=2, seeds=1, scale=1.0)
    layer = problem.correlations
    plain = vd.Parameters(
        feature_position=layer.feature_position.flatten(2)[:, None, None],
        position_position=layer.position_position[:, None, None],
    )
    surfaces = [
        loss_surface(state_of(problem, objective)),
        loss_surface(state_of(problem, objective, vd.Transformer(), plain)),
    ]
    values, gradients, hessians = zip(
        *((each.value(), each.gradient(), dense(Hessian(each))) for each in surfaces), strict=True
    )
    assert values[1] == pytest.approx(values[0], rel=1e-12)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(hessians[1], hessians[0], rtol=0, atol=1e-11)


@OBJECTIVES
def test_the_gradient_of_a_deep_model_is_the_one_that_training_follows(objective, make_problem):
    problem = make_problem(clusters=2, seeds=1)
    data = vd.PatchGenerator(layout=problem.batch.layout)
    like = torch.zeros((), dtype=torch.float64)
    parameters = DEEP.initial(data, vd.seeds.Streams((3,), "model"), like)
    state = state_of(problem, objective, DEEP, parameters)
    surface = loss_surface(state)
    assert surface.value() == pytest.approx(float(state.loss), rel=1e-12)
    given = parameters, objective, state.batch, state.views, {}
    expected = loss_gradient(*given, model=DEEP)[0]
    found = surface.tensors(surface.gradient())
    for name, block in expected.named().items():
        torch.testing.assert_close(found[name], block[0], rtol=0, atol=1e-12)


def test_a_run_records_the_landscape_of_a_deep_model():
    names = ("highest_eigenvalue", "hessian_trace", "convex_radius", "sharpness")
    assert not any(each.needs for each in (*LANDSCAPE.values(), *convexity_observables()))
    found = vd.simulate(
        vd.Training(
            generator=vd.PatchGenerator(layout=vd.PatchLayout.from_sizes([3, 2])),
            objective=vd.MaskedReconstruction(), model=vd.Transformer(heads=2, initial_scale=0.5), steps=2,
            batch_size=2, evaluation_samples=3, seeds=1, schedule=vd.Schedule(spacing="explicit"),
            observables=names,
        )
    )  # fmt: skip
    for name in names:
        assert np.isfinite(found[name]).all(), name
    assert (found["highest_eigenvalue"] > 0).all()
